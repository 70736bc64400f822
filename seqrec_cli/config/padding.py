"""Settings of causal transformers whose rows may be padded as SASRec's were published."""

from typing import Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.model import CausalTransformerConfig

Padding = Literal["none", "masked", "cleared", "zero", "initial", "trained"]
CARRIED = frozenset({"zero", "initial", "trained"})  # whose vectors go through the layers like an event's


class PaddedConfig(CausalTransformerConfig):
    """A transformer of rows without padding, or with it on the left."""

    padding: Padding = Field(
        description="what stands before a history shorter than max_length; none: nothing (rows are padded behind their "
        "events, where none looks). Else rows are padded before them to max_length: masked: no event looks there; "
        "cleared: events do, at zeros in front of every block; zero, initial (as items start, untrained), trained: at "
        "a vector that goes through the blocks"
    )
    padding_positions: bool = Field(
        description="whether padding has the vectors of its positions added, with padding=zero, initial or trained"
    )

    @property
    def counts_from_end(self) -> bool:
        # Padding that is looked at: a prefix alone has more of it than as a part of a row.
        return super().counts_from_end or self.padding not in ("none", "masked")

    @property
    def idle(self) -> dict[str, str]:
        found = super().idle
        if self.padding not in CARRIED:
            found["padding_positions"] = f"model.padding={self.padding}"
        elif self.positions not in ("absolute", "reversed"):
            found["padding_positions"] = f"model.positions={self.positions}"
        return found

    @model_validator(mode="after")
    def _padded_rows_are_counted_from_their_end(self) -> Self:
        if self.padding != "none" and self.positions == "absolute":
            raise ValueError(
                f"model.positions=absolute counts from a row's first event, and model.padding={self.padding} fills it "
                "up before that; use reversed, which is what SASRec's left-padded rows had, or model.padding=none"
            )
        if self.padding == "none":
            return self
        others = {
            f"model.attention_form={self.attention_form}": (self.attention_form != "softmax", "softmax"),
            f"model.agreement={getattr(self, 'agreement', 'none')}": (
                getattr(self, "agreement", "none") != "none",
                "none",
            ),
            f"model.user_input={self.user_input}": (self.user_dim > 0 and self.user_input == "concat", "add"),
        }
        for given, (found, instead) in others.items():
            if found:
                raise ValueError(
                    f"{given} is of rows without padding, and model.padding={self.padding}; use {instead}, or "
                    "model.padding=none"
                )
        return self
