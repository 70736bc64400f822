"""Initial weights. Row 0 of a table with padding is zero and has to stay so."""

from torch import nn


def initialise(module: nn.Module, embedding_std: float) -> None:
    """Truncated normal weights (cut at two deviations): embeddings with `embedding_std`, linear layers with
    1/sqrt(inputs), so that a layer keeps the variance of what it reads; biases zero, norms the identity.

    An initialiser that overwrites the padding row is the usual bug: it is zeroed again here.
    """
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=embedding_std, a=-2 * embedding_std, b=2 * embedding_std)
            if part.padding_idx is not None:
                nn.init.zeros_(part.weight[part.padding_idx])
        elif isinstance(part, nn.Linear):
            std = part.in_features**-0.5
            nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            part.reset_parameters()
