"""What an audit says: one finding a question, with a verdict, the number, and what to do."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["ok", "look", "leak", "unknown"]


@dataclass(frozen=True)
class Finding:
    """An answer. `numbers` are plain values; `advice` is empty where nothing is to be done.

    `ok`: no trace of it. `look`: a property of the data that changes what a metric means. `leak`: training, or the
    history, tells what is asked. `unknown`: this log cannot tell.
    """

    name: str  # its key in audit.json
    question: str
    verdict: Verdict
    found: str
    advice: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def percent(share: float) -> str:
    """A share for a person: small ones keep a digit that differs from 0."""
    if share == 0 or share == 1 or share >= 0.1:
        return f"{share:.0%}" if share in (0, 1) else f"{share:.1%}"
    return f"{share:.2%}" if share >= 0.0001 else "<0.01%"
