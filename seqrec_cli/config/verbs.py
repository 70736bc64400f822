"""The verbs' records: what each of them may be told. `train`'s own, of which a run consists, is in `schema.py`."""

from typing import Literal

from pydantic import Field, field_validator

from seqrec_cli.config.schema import DataConfig, HardwareConfig, TrainConfig
from seqrec_cli.config.settings import Settings


class PlanConfig(TrainConfig):
    """The verb `plan`: what it plans is the `train` of the same settings."""


class EvaluateConfig(Settings):
    """The verb `evaluate`. Everything not named here is restored from the run."""

    ckpt: str = Field(description="a run folder or a checkpoint file")
    split: Literal["val", "test"] = Field(description="which held-out events are ranked")
    archive: str | None = Field(description="the raw file, if it has moved since the run")
    data_dir: str | None = Field(description="folder of preprocessed data; null for the run's own")
    run_dir: str | None = Field(description="folder for metrics.json and ranks; null to print only")
    hardware: HardwareConfig


class EnsembleConfig(Settings):
    """The verb `ensemble`. Everything not named here is restored from the runs."""

    ckpts: tuple[str, ...] = Field(
        strict=False, min_length=2, description="run folders or checkpoint files of encoders: '[runs/a,runs/b]'"
    )
    archive: str | None = Field(description="the raw file, if it has moved since the runs")
    data_dir: str | None = Field(description="folder of preprocessed data; null for the runs' own")
    run_dir: str | None = Field(description="the ensemble's folder; null for a dated one under outputs/")
    hardware: HardwareConfig


class CompareConfig(Settings):
    """The verb `compare`."""

    runs: tuple[str, ...] = Field(
        strict=False, min_length=2, description="run folders, the one to compare with first: '[runs/a,runs/b]'"
    )
    split: Literal["val", "test"] = Field(description="which held-out events")
    metrics: tuple[str, ...] = Field(
        strict=False,
        min_length=1,
        description="metrics of ranks, with any k: hr@k, ndcg@k, mrr@k, mrr, corpus_auc, ...",
    )
    segments: int = Field(ge=1, description="parts of the users, by the length of their history; 1: all together")
    may_differ: tuple[str, ...] = Field(
        strict=False, description="fields of the protocol in which the runs may differ: '[chosen_by,max_length]'"
    )

    @field_validator("metrics")
    @classmethod
    def _of_ranks(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        from seqrec_cli.metrics.table import rank_metric  # numpy: not before there is something to check

        for name in metrics:
            try:
                rank_metric(name)
            except ValueError as error:
                raise ValueError(f"metrics: {error}") from error
        return metrics


class ExportConfig(Settings):
    """The verb `export`."""

    ckpt: str = Field(description="a run folder or a checkpoint file")
    format: str = Field(description="torch: a torch.export program; onnx: for ONNX Runtime (needs the onnx extra)")
    out: str | None = Field(description="folder to write to; null for `export/` in the run's folder")
    archive: str | None = Field(description="the raw file, if it has moved since the run")
    data_dir: str | None = Field(description="folder of preprocessed data; null for the run's own")


class ExplainConfig(Settings):
    """The verb `explain`. Everything not named here is restored from the run."""

    ckpt: str = Field(description="a run folder or a checkpoint file")
    user: str | int = Field(description="the user's raw id")
    item: str | int | None = Field(description="the raw id of the item to explain; null for those recommended")
    top: int = Field(ge=1, description="recommended items to explain, best first")
    events: int = Field(ge=1, description="past events shown for an item, the heaviest first")
    out: str | None = Field(description="the picture's file; null for explain_USER.png in the run's folder")
    archive: str | None = Field(description="the raw file, if it has moved since the run")
    data_dir: str | None = Field(description="folder of preprocessed data; null for the run's own")


class RecommendConfig(Settings):
    """The verb `recommend`. Everything not named here is restored from the run."""

    ckpt: str = Field(description="a run folder or a checkpoint file")
    user: str | int | None = Field(description="the user's raw id; with a history, for models that know users")
    history: tuple[str | int, ...] | None = Field(
        strict=False, description="raw item ids, the latest last; null: the user's events in the data"
    )
    times: tuple[int, ...] | None = Field(
        strict=False, description="when the history's events happened, in seconds since 1970, for models that read it"
    )
    asked_at: int | None = Field(description="when the answer is for; null: at the latest event's time")
    context: dict[str, str] = Field(description="the request's context, for models that read it: '{device: mobile}'")
    top: int = Field(ge=1, description="how many items, the best first")
    repeats: bool = Field(description="items of the history may come back")
    archive: str | None = Field(description="the raw file, if it has moved since the run")
    data_dir: str | None = Field(description="folder of preprocessed data; null for the run's own")
    hardware: HardwareConfig


MOST_SERVED = 100  # items of an answer


class ServeConfig(Settings):
    """The verb `serve`. Everything not named here is restored from the run."""

    ckpt: str = Field(description="a run folder or a checkpoint file")
    host: str = Field(description="the address to listen at; 0.0.0.0: at every one of this machine's")
    port: int = Field(ge=0, le=65535, description="the port; 0: one that is free")
    top: int = Field(ge=1, le=MOST_SERVED, description="how many items, where a request does not say (top_k)")
    archive: str | None = Field(description="the raw file, if it has moved since the run")
    data_dir: str | None = Field(description="folder of preprocessed data; null for the run's own")
    hardware: HardwareConfig


class DownloadConfig(DataConfig):
    """The verb `download`."""


class PreprocessConfig(DataConfig):
    """The verb `preprocess`."""


VERBS: dict[str, type[Settings]] = {
    "download": DownloadConfig,
    "preprocess": PreprocessConfig,
    "plan": PlanConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "compare": CompareConfig,
    "export": ExportConfig,
    "ensemble": EnsembleConfig,
    "recommend": RecommendConfig,
    "serve": ServeConfig,
    "explain": ExplainConfig,
}
