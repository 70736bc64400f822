"""Vectors that say what items are like, to be clustered: of who had them, or of their attributes.

Legend: V items (row 0 is padding), U users, E distinct pairs of user and item, D vectors kept, A values of an
attribute, W width, K eigenvectors carried.
"""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.numbers import item_features
from seqrec_cli.models.eigen import ROUNDS, largest_eigenpairs, random_start
from seqrec_cli.saying import silent

WIDEST = 256  # of an attribute's columns: of more values each is a random direction, the same every time


def history_vectors(histories: Iterable[Tensor], num_items: int, width: int) -> Tensor:
    """Vectors [V + 1, W] of who had the items: the largest eigenvectors of the items' cosines, each times the root of
    its value, of length 1; zeros for items without training events.

    With A the users x items matrix of training events, N = D_i^-1/2 A' D_u^-1 A D_i^-1/2 (D: numbers of events), known
    by its products alone.
    """
    rows, columns = [], []
    for user, items_n in enumerate(histories):
        distinct = torch.unique(items_n)
        rows.append(torch.full_like(distinct, user))
        columns.append(distinct)
    if not rows:
        return torch.zeros(num_items + 1, width)
    users_E, items_E = torch.cat(rows), torch.cat(columns)
    of_users = torch.bincount(users_E).float().rsqrt()
    of_items = torch.bincount(items_E, minlength=num_items + 1).clamp(min=1).float().rsqrt()
    values_E = of_users[users_E] * of_items[items_E]
    size = (int(users_E.max()) + 1, num_items + 1)
    matrix_UV = torch.sparse_coo_tensor(torch.stack([users_E, items_E]), values_E, size).coalesce()
    turned_VU = matrix_UV.t().coalesce()

    def product(x_VK: Tensor) -> Tensor:
        found: Tensor = torch.sparse.mm(turned_VU, torch.sparse.mm(matrix_UV, x_VK))
        return found

    count = min(width, num_items)
    values_D, vectors_VD = largest_eigenpairs(
        product, random_start(num_items + 1, count), count, rounds=ROUNDS, tell=silent
    )
    vectors_VD = vectors_VD * values_D.clamp(min=0).sqrt()
    lengths_V1 = torch.linalg.vector_norm(vectors_VD, dim=1, keepdim=True)
    has_V1 = torch.zeros(num_items + 1, 1).index_fill_(0, items_E, 1.0)
    return vectors_VD / lengths_V1.clamp(min=1e-12) * has_V1


def attribute_vectors(catalog: Catalog) -> Tensor:
    """Vectors [V + 1, W] of the items' attributes side by side: of a category its values, of length 1 together; of a
    number and a pre-trained vector what models read of it (`data/numbers.py`), which is about as long. What an item
    lacks is zeros."""
    parts = []
    for attribute in catalog.item_attributes:
        values_VW = torch.from_numpy(np.asarray(catalog.item_values[attribute.name], np.int64))
        directions_AW = torch.eye(attribute.size)[:, 1:]
        if attribute.size > WIDEST + 1:
            generator = torch.Generator().manual_seed(attribute.size)
            directions_AW = torch.randn(attribute.size, WIDEST, generator=generator) * WIDEST**-0.5
        summed_VW = torch.zeros(len(values_VW), directions_AW.shape[1])
        for values_V in values_VW.T:
            summed_VW += directions_AW[values_V] * (values_V > 0)[:, None]
        parts.append(F.normalize(summed_VW, dim=1))
    parts += [torch.from_numpy(np.asarray(numbers, np.float32)) for numbers in item_features(catalog).values()]
    return torch.nan_to_num(torch.cat(parts, dim=1))
