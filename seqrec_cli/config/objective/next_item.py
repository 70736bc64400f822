"""Settings of the next item by a full softmax."""

from seqrec_cli.config.objective import Capabilities, EstimatedSoftmaxConfig, KnownItemsConfig


class Config(KnownItemsConfig, EstimatedSoftmaxConfig):
    """Softmax over all items."""

    capabilities = Capabilities(
        families=frozenset({"encoder"}), rows="windows", causal=True, sparse_rows=False, weights=True
    )
