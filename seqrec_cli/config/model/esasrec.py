"""Settings of eSASRec."""

from seqrec_cli.config.model import Capabilities
from seqrec_cli.config.padding import PaddedConfig


class Config(PaddedConfig):
    """Those of any transformer; ffn_dim is the inner width of SwiGLU, twice (the paper: 4 embed_dim)."""

    capabilities = Capabilities(
        "encoder",
        causal=True,
        attends=True,
        recurrent=False,
        sparse_rows=True,
        inner_product=True,
        all_positions=False,
        packs=True,
    )
