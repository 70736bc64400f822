"""Settings of gSASRec's objective."""

from typing import Self

from pydantic import Field, model_validator

from seqrec_cli.config.objective import Capabilities, KnownItemsConfig, NegativesConfig


class Config(KnownItemsConfig, NegativesConfig):
    """Sigmoid of target and negatives, calibrated."""

    capabilities = Capabilities(
        families=frozenset({"encoder"}), rows="windows", causal=True, sparse_rows=True, weights=True
    )

    t: float = Field(ge=0, le=1, description="calibration: 0 for none (binary cross-entropy), 1 for all")

    @model_validator(mode="after")
    def _uniform(self) -> Self:
        if self.sampling not in ("uniform", "unseen"):
            raise ValueError(
                f"objective.sampling={self.sampling}: the calibration of gbce holds for uniform negatives; "
                "use objective.sampling=uniform, or objective=bce"
            )
        return self
