"""What objectives with sampled negatives share: drawing the negatives, and a loss of each target beside them.

Legend: B rows, L history events, N training targets, G groups that share negatives, K negatives, D width, V items.
"""

import copy
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from seqrec_cli.config.objective import NegativesConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender, SequenceEncoder
from seqrec_cli.objectives import contract
from seqrec_cli.objectives.hard_negatives import hardest_of_own, hardest_of_shared
from seqrec_cli.objectives.sampled_losses import (
    Criterion,
    chunk_scores,
    loss_with_own_negatives,
    loss_with_shared_negatives,
    scored_whole,
)
from seqrec_cli.objectives.samplers import PopularitySampler, Sampler, build_sampler
from seqrec_cli.objectives.target_memory import TargetMemory

FEW = 8  # negatives of a position whose vectors are copied, one for each
BYTES_OF_A_SCORE = 16  # of a chunk: it in fp32 twice, its gradient, masks


class SampledObjective(contract.Objective):
    """Mean over the batch's targets of a criterion, each target beside its negatives; to be prepared first."""

    log_q: Literal["none", "negatives", "all"] = "none"  # whose scores lose the log of an item's expected count

    def __init__(self, cfg: NegativesConfig) -> None:
        self.cfg = cfg
        self.window, self.stride = cfg.window, cfg.stride
        self.negatives_per_position = cfg.from_loader
        self.draws_by_row = cfg.shared == "sequence" or cfg.one_a_row
        self.hard = cfg.sampling == "hard"
        own_draws = cfg.shared == "position" or (cfg.shared == "sequence" and cfg.one_a_row)
        self.own = own_draws or self.hard  # each target has others
        self.known = contract.known_items(cfg)
        self.sampler: Sampler | None = None

    def prepare(self, counts_V: Tensor) -> None:
        if self.cfg.sampling == "cross_batch":
            self.sampler = TargetMemory(counts_V, self.cfg.memory)
        else:
            self.sampler = build_sampler(self.cfg.sampling, counts_V, self.cfg.uniform_share)
        self.criterion = self.build_criterion(len(counts_V) - 1)

    def after_step(self, model: Recommender, batch: Batch) -> None:
        """A memory keeps the batch's targets, as the model now has them."""
        if isinstance(self.sampler, TargetMemory):
            assert isinstance(model, SequenceEncoder)
            batch = batch.to(self.sampler.items_M.device)
            assert batch.targets_BL is not None
            targets_N = batch.targets_BL.flatten()[batch.target_positions()]
            with torch.no_grad():
                self.sampler.remember(targets_N, contract.scored_vectors(model, targets_N))

    def state(self) -> dict[str, Any] | None:
        return self.sampler.state() if isinstance(self.sampler, TargetMemory) else None

    def restore(self, state: dict[str, Any]) -> None:
        if isinstance(self.sampler, TargetMemory):
            self.sampler.restore(state)

    def measured(self) -> contract.Objective:
        """Without a memory, which is another one every time: negatives as they are to be expected in it."""
        if not isinstance(self.sampler, TargetMemory):
            return self
        measured = copy.copy(self)
        measured.sampler = PopularitySampler(self.sampler.counts_V)
        return measured

    def build_criterion(self, num_items: int) -> Criterion:
        """What a target's and its negatives' scores cost."""
        raise NotImplementedError

    def scratch_bytes(self, num_items: int, targets: int, *, dtype: torch.dtype, device: torch.device) -> int:
        width = self.cfg.negatives
        if self.own:
            if scored_whole(num_items, width):
                width = num_items + 1
            elif width <= FEW and not self.hard:  # their vectors are copied, and stay
                return 0
        width = max(width, self.cfg.from_loader if self.hard else 0)
        return min(targets * width, chunk_scores(device)) * BYTES_OF_A_SCORE

    def drawn(self, batch: Batch) -> Batch:
        """With `negatives_BLK` as the loader has them: for each event, or L is 1; a batch's rows may have the same."""
        if self.sampler is None:  # the loader's
            return batch
        assert batch.targets_BL is not None
        B, L = batch.items_BL.shape
        groups = {"batch": 1, "sequence": B, "position": B if self.cfg.one_a_row else B * L}[self.cfg.shared]
        targets_N = batch.targets_BL.flatten()[batch.target_positions()]
        if isinstance(self.sampler, TargetMemory):  # G is 1 or B
            items_GK, places_GK = self.sampler.draw_places(groups, self.cfg.negatives, targets_N)
            items_BLK, places_BLK = (each_GK.expand(B, -1)[:, None] for each_GK in (items_GK, places_GK))
            return replace(batch, negatives_BLK=items_BLK, negative_places_BLK=places_BLK)
        items_GK = self.sampler.draw(groups, self.cfg.negatives, targets_N)
        items_BLK = items_GK.expand(B, 1, -1) if groups == 1 else items_GK.view(B, groups // B, -1)
        return replace(batch, negatives_BLK=items_BLK)

    def target_loss(self, model: Recommender, batch: Batch) -> Tensor:
        at = contract.at_targets(model, batch, window=self.window, known=self.known)
        encoder, queries_ND, targets_N, positions_N, weights_N = at
        B, L = batch.items_BL.shape
        negatives_GK, log_expected_GK = self._negatives(batch, encoder, queries_ND, positions_N=positions_N)
        if self.own:
            items_X, rows_NK = _looked_up(encoder, negatives_GK)
            queries_ND, positives_ND, table_XD = contract.to_score(encoder, queries_ND, targets_N, items_X)
            return loss_with_own_negatives(
                self.criterion,
                queries_ND,
                positives_ND,
                table_XD=table_XD,
                rows_NK=rows_NK,
                out_NK=None if self.log_q == "all" else negatives_GK == targets_N[:, None],
                log_expected_NK=log_expected_GK,
                log_target_N=self._off_targets(targets_N),
                whole=scored_whole(encoder.num_items, self.cfg.negatives),
                weights_N=weights_N,
            )
        if self.cfg.shared == "batch":
            queries_GMD, targets_GM = queries_ND[None], targets_N[None]
            weights_GM = None if weights_N is None else weights_N[None]
        else:
            queries_GMD = queries_ND.new_zeros(B * L, queries_ND.shape[1]).index_copy(0, positions_N, queries_ND)
            queries_GMD = queries_GMD.view(B, L, -1)
            targets_GM = targets_N.new_zeros(B * L).index_copy(0, positions_N, targets_N).view(B, L)
            weights_GM = batch.weights_BL
            if self.known is not None and weights_N is not None:
                weights_GM = weights_N.new_zeros(B * L).index_copy(0, positions_N, weights_N).view(B, L)
        queries_GMD, positives_GMD, vectors_GKD = contract.to_score(encoder, queries_GMD, targets_GM, negatives_GK)
        if batch.negative_places_BLK is not None:
            assert isinstance(self.sampler, TargetMemory)
            vectors_GKD = self.sampler.recalled(vectors_GKD, batch.negative_places_BLK[: len(negatives_GK), 0])
        return loss_with_shared_negatives(
            self.criterion,
            queries_GMD,
            positives_GMD,
            vectors_GKD=vectors_GKD,
            targets_GM=targets_GM,
            negatives_GK=negatives_GK,
            log_expected_GK=log_expected_GK,
            log_target_GM=self._off_targets(targets_GM),
            weights_GM=weights_GM,
        )

    def _negatives(
        self, batch: Batch, encoder: SequenceEncoder, queries_ND: Tensor, *, positions_N: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Negatives [G, K] and what is subtracted from their scores: infinity where there is no negative (0)."""
        assert batch.negatives_BLK is not None
        if self.hard:
            items_NK = self._hardest(batch, encoder, queries_ND, positions_N=positions_N)
            return items_NK, _without_none(items_NK)
        items_GK = batch.negatives_BLK[0] if self.cfg.shared == "batch" else batch.negatives_BLK.flatten(0, 1)
        by_position = self.cfg.shared == "position" and not self.cfg.one_a_row  # else the rows' own, in their order
        items_GK = items_GK[positions_N] if by_position else items_GK
        if self.sampler is not None:
            return items_GK, self._log_expected(items_GK) if self.log_q != "none" else None
        return items_GK, _without_none(items_GK)

    def _log_expected(self, items: Tensor) -> Tensor:
        assert self.sampler is not None
        return self.sampler.log_expected(items, draws=self.cfg.negatives)

    def _off_targets(self, targets: Tensor) -> Tensor | None:
        """What is taken off the scores of targets; nothing off padding's (0), which no sampler draws."""
        return self._log_expected(targets).masked_fill_(targets == 0, 0.0) if self.log_q == "all" else None

    def _hardest(self, batch: Batch, encoder: SequenceEncoder, queries_ND: Tensor, *, positions_N: Tensor) -> Tensor:
        """Of the pools that came with the batch, [N, K]."""
        assert batch.negatives_BLK is not None
        keep, (B, L) = self.cfg.negatives, batch.items_BL.shape
        if self.cfg.shared == "sequence" and not self.cfg.one_a_row:
            queries_BLD = queries_ND.new_zeros(B * L, queries_ND.shape[1]).index_copy(
                0, positions_N, queries_ND.detach()
            )
            items_BLK = hardest_of_shared(encoder, queries_BLD.view(B, L, -1), batch.negatives_BLK[:, 0], keep=keep)
            return items_BLK.flatten(0, 1)[positions_N]
        pool_NP = batch.negatives_BLK.flatten(0, 1)
        return hardest_of_own(encoder, queries_ND, pool_NP if self.cfg.one_a_row else pool_NP[positions_N], keep=keep)


def _without_none(items_GK: Tensor) -> Tensor:
    """What is taken off scores where there is an item to score, and infinity where there is none (0)."""
    return torch.zeros(items_GK.shape, device=items_GK.device).masked_fill_(items_GK == 0, torch.inf)


def _looked_up(encoder: SequenceEncoder, negatives_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Items [X] that hold all negatives, and the index of each negative among them, [N, K].

    A few negatives as they are; of many, the whole corpus, but for row-sparse tables: there the used rows, which have
    to be counted. The choice depends on sizes known before the run alone, so that steps cost alike.
    """
    if negatives_NK.shape[1] <= FEW and not scored_whole(encoder.num_items, negatives_NK.shape[1]):
        return negatives_NK.flatten(), torch.arange(negatives_NK.numel(), device=negatives_NK.device).view_as(
            negatives_NK
        )
    if encoder.sparse_rows or encoder.shard is not None:
        return torch.unique(negatives_NK, return_inverse=True)
    return torch.arange(encoder.num_items + 1, device=negatives_NK.device), negatives_NK
