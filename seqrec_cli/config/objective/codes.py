"""Settings of the next item code by code: those of windows."""

from seqrec_cli.config.objective import Capabilities, WindowConfig


class Config(WindowConfig):
    """Cross-entropy of each code of the target."""

    capabilities = Capabilities(
        families=frozenset({"generator"}), rows="windows", causal=True, sparse_rows=False, weights=True
    )
