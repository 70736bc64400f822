"""Settings of the baseline `popular`."""

from seqrec_cli.config.model import COUNTED, ModelConfig


class Config(ModelConfig):
    """No settings beyond those of every model."""

    capabilities = COUNTED
