"""Settings of the next item with items that agree with their users."""

from typing import Literal

from pydantic import Field

from seqrec_cli.config.objective import Capabilities, SoftmaxConfig


class Config(SoftmaxConfig):
    """Softmax over all items, and a consistency loss between items and the states of their users."""

    capabilities = Capabilities(
        families=frozenset({"encoder"}), rows="windows", causal=True, sparse_rows=False, weights=True
    )

    consistency: float = Field(
        ge=0, description="weight of the loss between an item's vector and the mean state of its users; 0: next_item"
    )
    consistency_form: Literal["cosine", "contrast"] = Field(
        description="cosine: one less the cosine of the two; contrast: the cross-entropy of the item among all items, "
        "by their cosines with the mean state"
    )
    consistency_moves: Literal["both", "items", "states"] = Field(
        description="what the consistency loss teaches; the other side is taken as given (no gradient)"
    )
    consistency_temperature: float = Field(
        gt=0, description="for consistency_form=contrast: what the cosines are divided by"
    )

    @property
    def idle(self) -> dict[str, str]:
        found = super().idle
        if self.consistency_form == "cosine":
            found |= {"consistency_temperature": "objective.consistency_form=cosine"}
        if self.consistency == 0:
            names = ("consistency_form", "consistency_moves", "consistency_temperature")
            found |= dict.fromkeys(names, "objective.consistency=0")
        return found

    @property
    def batch_statistics(self) -> dict[str, str]:
        given = f"objective.consistency={self.consistency:g}"
        return {} if self.consistency == 0 else {given: "objective.consistency=0"}

    @property
    def needs_one_process(self) -> str:
        if self.consistency == 0:
            return ""
        return (
            f"objective.consistency={self.consistency:g}: an item's users are in the rows of several processes; set it "
            "to 0"
        )
