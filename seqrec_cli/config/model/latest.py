"""Settings of the baseline `latest`."""

from seqrec_cli.config.model import Capabilities, ModelConfig


class Config(ModelConfig):
    """No settings beyond those of every model."""

    capabilities = Capabilities(
        "closed_form",
        causal=True,
        attends=False,
        recurrent=False,
        sparse_rows=False,
        inner_product=False,
        all_positions=False,
    )
