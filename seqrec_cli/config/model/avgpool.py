"""Settings of average pooling."""

from seqrec_cli.config.model import Capabilities
from seqrec_cli.config.rankers import InterestConfig


class Config(InterestConfig):
    """Those of every such ranker."""

    capabilities = Capabilities(
        "ranker", causal=True, attends=False, recurrent=False, sparse_rows=True, inner_product=False, all_positions=True
    )
