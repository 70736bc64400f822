"""Settings of a training by several processes: a part of `hardware`."""

from typing import Annotated, Literal

from pydantic import Field

from seqrec_cli.config.settings import Settings


class ProcessesConfig(Settings):
    """How many processes share every batch, and how long they wait for each other."""

    processes: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] | None = Field(
        description="train: processes that share every batch on this machine; auto: one a GPU, on a CPU two; 1: this "
        "one alone, or those that torchrun started"
    )
    restarts: int | None = Field(
        ge=0,
        description="with processes: how often all begin anew from the last checkpoint after one was lost (torchrun "
        "has --max-restarts)",
    )
    timeout_minutes: float | None = Field(
        gt=0, description="how long a process waits for the others within a step or a validation"
    )

    def refuse_several(self, model: str) -> None:
        """Raises ValueError where several processes are to share what one counts in one pass."""
        if self.processes not in (None, 1):
            raise ValueError(
                f"hardware.processes={self.processes}: model={model} is counted in one pass by one process; leave the "
                "setting out"
            )
