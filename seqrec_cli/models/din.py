"""DIN: the history weighted by the candidate, then an MLP (Zhou et al. 2018, arXiv 1706.06978, section 4.3 and eq. 3).

Legend: B rows, L history events, C candidates, F features of an item.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from seqrec_cli.config.schema import InterestConfig
from seqrec_cli.models.interest import History, InterestRanker
from seqrec_cli.models.parts.activation_unit import ActivationUnit


class Config(InterestConfig):
    """DIN's sizes and variants."""

    family: ClassVar[Literal["encoder", "ranker", "counter"]] = "ranker"

    unit: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        strict=False, min_length=1, description="widths of the activation unit (the paper: 36; its code: 80, 40)"
    )
    unit_activation: Literal["dice", "prelu", "sigmoid"] = Field(
        description="activation of the unit (the paper: dice or prelu; its code: sigmoid)"
    )
    softmax: bool = Field(description="whether an event's weights are normalised over the history (the paper: false)")


class Model(InterestRanker):
    """Events that are like the candidate speak louder."""

    def add_interest(self, cfg: Config) -> None:  # type: ignore[override]
        self.unit = ActivationUnit(self.items.width, cfg.unit, cfg.unit_activation, cfg.softmax)

    def interest(self, history: History, candidates: Tensor) -> Tensor:
        interest_BCF: Tensor = self.unit(history.memory[0], candidates, history.sees_BLC)
        return interest_BCF

    def event_weights(self, history: History, candidates: Tensor) -> Tensor:
        return self.unit.weights(history.memory[0], candidates, history.sees_BLC)

    def numbers_per_pair(self, length: int) -> int:
        return length * self.unit.numbers
