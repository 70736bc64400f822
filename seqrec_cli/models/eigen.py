"""The largest eigenvalues of a symmetric matrix that is known by its products alone: randomised subspace iteration with
a Rayleigh-Ritz step (Halko, Martinsson and Tropp 2011, arXiv 0909.4061, algorithms 4.4 and 5.3).

Legend: V size of the matrix, K vectors carried along, D kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from seqrec_cli.saying import Say

MORE = 0.1  # vectors carried beyond those asked for: the last ones converge slowest
ROUNDS = 6  # products with the matrix before the last


def largest_eigenpairs(
    product: Callable[[Tensor], Tensor], start_VK: Tensor, count: int, *, rounds: int, tell: Say
) -> tuple[Tensor, Tensor]:
    """Values [D] and vectors [V, D] of the `count` eigenvalues that are largest by amount, the largest first.

    `product` multiplies the matrix with [V, K]; `start_VK` is where its range is looked for first.
    """
    basis_VK = start_VK
    for done in range(rounds):
        basis_VK = torch.linalg.qr(product(basis_VK)).Q
        tell(f"{done + 1} of {rounds + 1} products with {basis_VK.shape[1]:,} vectors")
    inner_KK = basis_VK.T @ product(basis_VK)
    values_K, turns_KK = torch.linalg.eigh((inner_KK + inner_KK.T) / 2)
    kept_D = values_K.abs().argsort(descending=True)[:count]
    return values_K[kept_D], basis_VK @ turns_KK[:, kept_D]


def random_start(size: int, count: int) -> Tensor:
    """Gaussian columns [V, K], some more than `count`; the same every time."""
    wanted = min(size, count + max(8, int(MORE * count)))
    return torch.randn(size, wanted, generator=torch.Generator().manual_seed(0))
