"""Settings of BSARec."""

from typing import Literal

from pydantic import Field

from seqrec_cli.config.model import Capabilities, TransformerConfig


class Config(TransformerConfig):
    """BSARec's filter, beside a transformer's sizes."""

    capabilities = Capabilities(
        "encoder", causal=True, attends=True, recurrent=False, sparse_rows=True, inner_product=True, all_positions=False
    )

    alpha: float = Field(ge=0, le=1, description="the filter's share of a block's output, the rest is attention's")
    cutoff: int = Field(
        ge=1, description="cutoff // 2 + 1 frequencies of max_length events, the lowest, pass the filter as they are"
    )
    filter: Literal["row", "causal"] = Field(
        description="what is filtered: the whole row, later events too (published; with objective.window=prefixes), or "
        "each position's events up to it"
    )

    @property
    def idle(self) -> dict[str, str]:
        if self.alpha == 0:
            return super().idle | dict.fromkeys(("cutoff", "filter"), "model.alpha=0")
        return super().idle | (
            dict.fromkeys(("heads", "attention_dropout"), "model.alpha=1") if self.alpha == 1 else {}
        )

    @property
    def looks_ahead(self) -> str:
        return "model.filter=causal" if self.filter == "row" and self.alpha else ""
