"""All items' tuples of codes, from their vectors or, for items added later, from what is like them.

Legend: V items (row 0 is padding), N items that have no tuple yet, K codes of a tuple, W width of vectors.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.model.semantic import RANDOM, Config
from seqrec_cli.models import code_tuples
from seqrec_cli.models.quantiser import Quantiser, RqVae, perplexity
from seqrec_cli.saying import Say


class Made(NamedTuple):
    """Tuples int32 [V + 1, K], -1 for none, and what makes those of other vectors."""

    tuples_VK: np.ndarray
    quantiser: Quantiser


def clustered(cfg: Config, vectors_VW: Tensor, *, seed: int, tell: Say) -> Made:
    """Of every item the codes of its vector; centroids are learned from vectors that are not zero."""
    items, quantiser = len(vectors_VW) - 1, Quantiser()
    told_N = vectors_VW.any(1).nonzero()[:, 0]
    told_N = told_N if len(told_N) else torch.arange(1, items + 1)
    rqvae = None
    if cfg.quantiser == "rqvae":
        rqvae = RqVae(cfg.rqvae_hidden, cfg.rqvae_latent, cfg.rqvae_steps, cfg.commitment)
    quantiser.fit(vectors_VW[told_N], cfg.levels, cfg.codes, rqvae=rqvae, seed=seed, tell=tell)
    none_VK = np.full((items + 1, cfg.levels + 1), code_tuples.NONE, np.int32)
    z_VZ = quantiser.latent(vectors_VW[1:])
    tuples_VK = code_tuples.add_tuples(none_VK, np.arange(1, items + 1), z_VZ, quantiser=quantiser)
    tell(_in_words(tuples_VK, cfg.codes))
    return Made(tuples_VK, quantiser)


def completed(cfg: Config, made: Made, histories: Iterable[Tensor], *, seed: int, tell: Say) -> Made:
    """The tuples with those of items that have none: the codes of the mean of their neighbours in the histories, or, of
    `vectors: random`, any. Items that no history has stay without."""
    tuples_VK, quantiser = made
    new_N = np.flatnonzero(tuples_VK[1:, 0] == code_tuples.NONE) + 1
    if not len(new_N):
        return made
    if cfg.vectors == RANDOM:
        tuples_VK = tuples_VK.copy()
        dealt_VK = code_tuples.at_random(len(tuples_VK) - 1, cfg.codes, cfg.levels, seed=seed)
        tuples_VK[new_N, :-1] = dealt_VK[new_N, :-1]
        tuples_VK = code_tuples.with_last_codes(tuples_VK, new_N, cfg.codes)
        return Made(code_tuples.anywhere(tuples_VK, cfg.codes), quantiser)
    found_N, z_NZ = code_tuples.neighbours_mean(histories, new_N, tuples_VK=tuples_VK, quantiser=quantiser)
    tell(f"semantic ids: {len(found_N):,} of {len(new_N):,} new items have the codes of their neighbours")
    return Made(code_tuples.add_tuples(tuples_VK, found_N, z_NZ, quantiser=quantiser), quantiser)


def _in_words(tuples_VK: np.ndarray, codes: int) -> str:
    """What came of the clustering, in a line."""
    semantic_VS = torch.from_numpy(tuples_VK[1:, :-1].astype(np.int64))
    used = ", ".join(f"{perplexity(level_V, codes):.0f}" for level_V in semantic_VS.unbind(1))
    shared = int((np.unique(tuples_VK[1:, :-1], axis=0, return_counts=True)[1] - 1).sum())
    return f"semantic ids: perplexity {used} of {codes} codes a level; {shared:,} items are told apart by the last code"
