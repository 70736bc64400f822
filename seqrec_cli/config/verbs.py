"""The verbs' records: what each of them may be told. `train`'s own, of which a run consists, is in `schema.py`."""

from typing import Literal

from pydantic import Field

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


class MixConfig(Settings):
    """The verb `mix`. Everything not named here is restored from the runs."""

    ckpts: tuple[str, ...] = Field(
        strict=False, min_length=2, description="run folders or checkpoint files of encoders: '[runs/a,runs/b]'"
    )
    archive: str | None = Field(description="the raw file, if it has moved since the runs")
    data_dir: str | None = Field(description="folder of preprocessed data; null for the runs' own")
    run_dir: str | None = Field(description="the mixture's folder; null for a dated one under outputs/")
    hardware: HardwareConfig


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
    "export": ExportConfig,
    "mix": MixConfig,
    "explain": ExplainConfig,
}
