"""Settings of what answers: a run, or two stages: a retriever, whose best items a ranker puts in order."""

from typing import ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.model import COUNTED, ModelConfig
from seqrec_cli.config.schema import HardwareConfig
from seqrec_cli.config.settings import Settings

TWO_STAGE: Final = "two_stage"
CKPT = "a run folder or a checkpoint file"


class TwoStageModel(ModelConfig):
    """What is put together of two trained models. It is no option of `model=`: each of the two is trained by itself."""

    capabilities = COUNTED  # nothing is trained, and there is no vector of a history

    name: Literal["two_stage"] = Field(description="two models as one")


class StagesConfig(Settings):
    """A verb that begins with a trained model, or with two as stages. All else is restored from the runs."""

    others: ClassVar[str] = ""  # how else a verb's runs may be given

    ckpt: str | None = Field(description=f"{CKPT}; null: two runs, retriever and ranker")
    retriever: str | None = Field(description=f"{CKPT} whose best items the ranker puts in order; null: ckpt answers")
    ranker: str | None = Field(description=f"{CKPT} that ranks what the retriever finds; null: ckpt answers")
    retrieved: int = Field(
        ge=1, description="how many of the retriever's best items the ranker puts in order; as many as the corpus: all"
    )
    archive: str | None = Field(description="the raw file, if it has moved since the run")
    data_dir: str | None = Field(description="folder of preprocessed data; null for the run's own")

    @property
    def has_arms(self) -> bool:
        """Whether several runs are named that answer a share of the users each."""
        return False

    @model_validator(mode="after")
    def _one_run_or_two(self) -> Self:
        given = {name: run for name in ("retriever", "ranker") if (run := getattr(self, name)) is not None}
        if self.ckpt is not None and given:
            name, run = next(iter(given.items()))
            raise ValueError(
                f"ckpt={self.ckpt} and {name}={run}: one run answers, or a retriever and a ranker; leave one of the "
                "two out"
            )
        if self.ckpt is None and not given and not self.has_arms:
            raise ValueError(
                f"ckpt is missing: give it as ckpt=VALUE ({CKPT}), or two as retriever=VALUE ranker=VALUE{self.others}"
            )
        if len(given) == 1:
            name, run = next(iter(given.items()))
            other = "ranker" if name == "retriever" else "retriever"
            raise ValueError(f"{name}={run}: two stages are a retriever and a ranker; give {other}=VALUE too ({CKPT})")
        return self

    @property
    def parts(self) -> tuple[str, ...]:
        """The run, or both, the retriever first."""
        return tuple(run for run in (self.ckpt, self.retriever, self.ranker) if run is not None)

    @property
    def two(self) -> dict[str, str | int | None]:
        """The stages, for a manifest."""
        return {"retriever": self.retriever, "ranker": self.ranker, "retrieved": self.retrieved}


class AnsweringConfig(StagesConfig):
    """A verb that answers for users."""

    newer: str | None = Field(
        description="a later raw file of the run's kind: users and histories are taken from it; null: the run's own"
    )
    hardware: HardwareConfig
