"""What the verb `export` may be told."""

from typing import Literal

from pydantic import Field

from seqrec_cli.config.records import Length, RestoringConfig
from seqrec_cli.config.settings import Settings


class Tolerance(Settings):
    """How far a program may be from the checkpoint. One whose weights are quantised is held to `metric` alone."""

    scores: float = Field(ge=0, description="the largest difference of scores; of scores beyond 1, the largest share")
    top10: float = Field(
        ge=0, le=1, description="the least share of the top 10 that the checkpoint has too, ties apart"
    )
    metric: float = Field(ge=0, description="the largest difference of the metric on validation")


class ExportConfig(RestoringConfig):
    """The verb `export`."""

    format: str = Field(
        description="torch: a torch.export program; onnx: for ONNX Runtime (needs the onnx extra); aoti: machine code "
        "by AOTInductor (needs a C++ compiler); embeddings: item vectors and their index (needs the faiss extra)"
    )
    out: str | None = Field(description="folder to write to; null for `export/` in the run's folder")
    history: Length | None = Field(
        description="read at most so many of the latest events, which bounds a call's work; null: as trained"
    )
    quantize: Literal["fp16", "bf16", "int8"] | None = Field(
        description="number format of the weights; int8 is for format=onnx; null: fp32"
    )
    index: Literal["flat", "hnsw", "ivfpq"] | None = Field(
        description="the FAISS index of format=embeddings: flat (exact), hnsw (a graph), ivfpq (compressed); null: none"
    )
    users: int = Field(ge=1, description="validation requests that the checkpoint and the program are measured on")
    tolerance: Tolerance
