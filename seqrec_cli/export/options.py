"""What may be asked of an export beside its format."""

from dataclasses import dataclass
from typing import Literal

Index = Literal["flat", "hnsw", "ivfpq"]
Quantize = Literal["fp16", "bf16", "int8"]


@dataclass(frozen=True)
class Options:
    """`quantize`: the number format that weights are stored in (None: fp32); `index`: of format=embeddings."""

    quantize: Quantize | None = None
    index: Index | None = None
