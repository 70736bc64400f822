"""Initial weights. Row 0 of a table with padding is zero and has to stay so."""

from torch import Tensor, nn

from seqrec_cli.models.layers.sharded_table import ShardedTable


def xavier_std(outputs: int, inputs: int) -> float:
    """The deviation that keeps the variance of values and gradients (Glorot & Bengio 2010, eq. 12)."""
    return float((2 / (outputs + inputs)) ** 0.5)


def initialise(module: nn.Module, embedding_std: float | None, layer_std: float | None = None) -> None:
    """Truncated normal weights (cut at two deviations): embeddings with `embedding_std`, linear layers with
    1/sqrt(inputs), so that a layer keeps the variance of what it reads; biases zero, norms the identity.

    Without `embedding_std`, embeddings and linear layers have Xavier's deviation, as in SASRec's port to PyTorch. With
    `layer_std` it is that of all linear layers, as in BERT (its authors' code: 0.02 everywhere).
    An initialiser that overwrites the padding row is the usual bug: it is zeroed again here.
    """
    for part in module.modules():
        if isinstance(part, ShardedTable):
            part.fill(embedding_std or xavier_std(part.num_embeddings, part.embedding_dim))
        elif isinstance(part, nn.Embedding):
            _fill(part.weight, embedding_std)
            if part.padding_idx is not None:
                nn.init.zeros_(part.weight[part.padding_idx])
        elif isinstance(part, nn.Linear):
            by_inputs = None if embedding_std is None else part.in_features**-0.5
            _fill(part.weight, layer_std or by_inputs)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            part.reset_parameters()


def _fill(weight: Tensor, std: float | None) -> None:
    std = xavier_std(*weight.shape) if std is None else std
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
