"""Semantic ids: the next item is spelled out code by code (generative retrieval).

Items are tuples of codes by what they are like, and one code more that tells apart who shares the others, as in TIGER
(Rajput et al. 2023, arXiv 2305.05065). TIGER lays the codes of a history end to end before an encoder and a decoder;
here an event is one position, as in the RQ-Transformer of Lee et al. (2022, arXiv 2203.01941, eq. 7-10), so that a
history is K times as short and every position is a target: a causal transformer reads events as sums of their codes'
vectors and gives h, and a second, small one predicts the next item's codes from

  v_1 = PE(1) + h,   v_d = PE(d) + sum over d' < d of e(c_d'),   p(c_d | c_1 ... c_d-1, h) = softmax(E_d norm(s_d))

with s_d its state at position d. Deviations: each level has its own vectors, E is e (`tied`), blocks are pre-norm, and
with `normalise: existing` the softmax is over the codes that some item has behind the same codes, so that the
probabilities of all items add up to 1.

An item's score is its log probability, the sum of its codes'. All of them are exact: the second transformer runs over
each beginning of a tuple once (`layers/code_tree.py`). With a `beam`, lists are found by beam search instead.

Legend: B rows, L history events, N targets, C codes of a level (as candidates: C), D width, V items, K codes a tuple, R
beginnings of a level, W of a beam.
"""

import copy
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model import EncoderConfig, Positions
from seqrec_cli.config.model.semantic import ATTRIBUTES, HISTORIES, RANDOM, Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models import code_tuples
from seqrec_cli.models.code_beam import beam_search
from seqrec_cli.models.contract import Generator, Recommender, full_precision
from seqrec_cli.models.described_items import attribute_vectors, history_vectors
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.features import features
from seqrec_cli.models.initialise import initialise
from seqrec_cli.models.item_tuples import Made, clustered, completed
from seqrec_cli.models.layers.code_tree import NO_ITEM, CodeTree, forward_tree
from seqrec_cli.models.layers.dropout import Dropout
from seqrec_cli.models.layers.embedding import padded_table
from seqrec_cli.models.layers.positions import attention_positions
from seqrec_cli.models.layers.transformer import TransformerBlock, forward_causal, forward_causal_last
from seqrec_cli.models.quantiser import Quantiser
from seqrec_cli.processes import current
from seqrec_cli.saying import Say, silent

SCORED = 1 << 24  # numbers of a layer's output for the rows that are scored at once: 64 MB of fp32


class CodeEmbedding(nn.Module):
    """An item's vector: the sum of its codes'. Row 0 of the table is zero and of what has no code."""

    rows_VK: Tensor

    def __init__(self, tuples_VK: np.ndarray, codes: int, dim: int) -> None:
        super().__init__()
        self.codes, self.embedding_dim = codes, dim
        self.table = padded_table(1 + tuples_VK.shape[1] * codes, dim)
        self.register_buffer("rows_VK", self._rows(tuples_VK), persistent=False)

    def _rows(self, tuples_VK: np.ndarray) -> Tensor:
        first_K = 1 + np.arange(tuples_VK.shape[1]) * self.codes
        return torch.from_numpy(np.where(tuples_VK < 0, 0, first_K + tuples_VK).astype(np.int64))

    def use(self, tuples_VK: np.ndarray) -> None:
        """From now on items have these tuples."""
        self.rows_VK = self._rows(tuples_VK).to(self.rows_VK.device)

    def each(self, items: Tensor) -> Tensor:
        """The vectors [..., K, D] of items' codes."""
        vectors: Tensor = self.table(self.rows_VK[items])
        return vectors

    def forward(self, items: Tensor) -> Tensor:
        return self.each(items).sum(-2)


class History(ItemEncoder):
    """The first transformer: from a history's events to the states h."""

    def add_layers(self, cfg: Config) -> None:  # type: ignore[override]
        self.blocks = nn.ModuleList(_block(cfg, cfg.positions) for _ in range(cfg.blocks))
        self.norm = nn.LayerNorm(cfg.embed_dim)

    def make_items(self, cfg: EncoderConfig, catalog: Catalog) -> CodeEmbedding:  # type: ignore[override]
        assert isinstance(cfg, Config)
        tuples_VK = code_tuples.by_number(catalog.num_items, cfg.codes, cfg.levels)
        return CodeEmbedding(tuples_VK, cfg.codes, cfg.embed_dim)

    def forward_layers(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        return forward_causal(self.blocks, x_BLD)

    def forward_layers_last(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        return forward_causal_last(self.blocks, x_BLD, batch.lengths_B)


def _block(cfg: Config, positions: Positions) -> TransformerBlock:
    return TransformerBlock(
        cfg.embed_dim,
        cfg.heads,
        cfg.ffn_dim,
        norm="pre",
        activation="gelu",
        drop=cfg.dropout,
        attention_drop=cfg.attention_dropout,
        positions=attention_positions(positions, cfg.heads, cfg.embed_dim // cfg.heads, longest=cfg.max_length),
    )


class Model(Generator):
    """The two transformers, and what makes tuples of items: `tuples_VK` and the quantiser are stored with it."""

    embeds_events = True
    tuples_VK: Tensor  # int32, -1: none

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(catalog)
        if cfg.vectors == ATTRIBUTES and not features(catalog)["items"]:
            raise SeqrecError(
                "model.vectors=attributes: the dataset has no item attributes; use model.vectors=histories, or a run's "
                "folder"
            )
        self.cfg, self.max_length, K, D = cfg, cfg.max_length, cfg.levels + 1, cfg.embed_dim
        self.seed = torch.initial_seed()
        self._attribute_vectors = lambda: attribute_vectors(catalog)
        self._run_vectors_VW: Tensor | None = None
        self._carried: Made | None = None
        # The history is read by sums of codes: what an encoder is scored by is not made.
        self.history = History(cfg.model_copy(update={"tied": True, "item_bias": False, "temperature": None}), catalog)
        self.reads_context, self.sees_target_time = self.history.reads_context, self.history.sees_target_time
        self.quantiser = Quantiser()
        self.levels = nn.Embedding(K, D)
        self.blocks = nn.ModuleList(_block(cfg, "none") for _ in range(cfg.decoder_blocks))
        self.norm, self.drop = nn.LayerNorm(D), Dropout(cfg.dropout)
        self.output = None if cfg.tied else nn.Embedding(K * cfg.codes, D)
        self.bias_KC = nn.Parameter(torch.zeros(K, cfg.codes)) if cfg.item_bias else None
        for part in (self.levels, self.blocks, self.norm, self.output):
            if part is not None:
                initialise(part, cfg.init_std, cfg.layer_std)
        tuples_VK = code_tuples.by_number(catalog.num_items, cfg.codes, cfg.levels)
        self.register_buffer("tuples_VK", torch.from_numpy(tuples_VK))
        self.tree = CodeTree(tuples_VK, cfg.codes, every=cfg.normalise == "all")
        self.register_load_state_dict_post_hook(lambda model, _: model.use_tuples(model.tuples_VK.cpu().numpy()))

    @property
    def _items(self) -> CodeEmbedding:
        assert isinstance(self.history.items, CodeEmbedding)
        return self.history.items

    def use_tuples(self, tuples_VK: np.ndarray) -> None:
        """From now on items have these tuples [V + 1, K], -1 for none."""
        device = self.tuples_VK.device
        self.tuples_VK = torch.from_numpy(tuples_VK.astype(np.int32)).to(device)
        self._items.use(tuples_VK)
        self.tree = CodeTree(tuples_VK, self.cfg.codes, every=self.cfg.normalise == "all").to(device)

    def use_vectors(self, vectors_VW: Tensor) -> None:
        """Vectors of another model, which `fit_closed_form` then clusters."""
        self._run_vectors_VW = vectors_VW.detach().cpu().float()

    def fit_closed_form(self, histories: Iterable[Tensor], tell: Say = silent) -> None:
        """Cluster the items, or give those that have no tuple yet theirs; of several processes the first does, for all.

        Raises SeqrecError where the vectors of a run were not given (`use_vectors`).
        """
        made = self._made(histories, tell) if current().is_first else None
        made = current().from_first(made)
        assert made is not None
        self._take(made)

    def _take(self, made: Made) -> None:
        self.quantiser = made.quantiser.to(self.tuples_VK.device)
        self.use_tuples(made.tuples_VK)

    def _made(self, histories: Iterable[Tensor], tell: Say) -> Made:
        cfg, items = self.cfg, self.num_items
        if self._carried is not None:
            return completed(cfg, self._carried, histories, seed=self.seed, tell=tell)
        if cfg.vectors == RANDOM:
            tuples_VK = code_tuples.at_random(items, cfg.codes, cfg.levels, seed=self.seed)
            return Made(tuples_VK, Quantiser())
        vectors_VW = self._run_vectors_VW
        if cfg.vectors == HISTORIES:
            vectors_VW = history_vectors(histories, items, cfg.embed_dim)
        elif cfg.vectors == ATTRIBUTES:
            vectors_VW = self._attribute_vectors()
        if vectors_VW is None:
            raise SeqrecError(f"model.vectors={cfg.vectors}: the run's item table was not read")
        return clustered(cfg, vectors_VW, seed=self.seed, tell=tell)

    def carry_over(self, earlier: Recommender, items_V1: np.ndarray, described: Catalog) -> None:
        """Take an earlier log's tuples and quantiser; what is new gets codes in `fit_closed_form`, from its neighbours,
        or, where attributes are clustered, here."""
        assert isinstance(earlier, Model)
        before_VK = earlier.tuples_VK.cpu().numpy()
        tuples_VK = np.where(items_V1[:, None] > 0, before_VK[items_V1], code_tuples.NONE)
        quantiser = copy.deepcopy(earlier.quantiser).cpu()
        if self.cfg.vectors == ATTRIBUTES:
            new_N = np.flatnonzero(items_V1[1:] == 0) + 1
            vectors_NW = attribute_vectors(described)[torch.from_numpy(new_N)]
            tuples_VK = code_tuples.add_tuples(tuples_VK, new_N, quantiser.latent(vectors_NW), quantiser=quantiser)
        self._carried = Made(tuples_VK, quantiser)
        if not current().several:  # else buffers of other sizes than the others' would be told to these
            self._take(self._carried)

    def prepare(self, item_counts_V: Tensor, user_counts_U: Tensor) -> None:
        self.history.prepare(item_counts_V, user_counts_U)

    def target_losses(self, batch: Batch, one_a_row: bool) -> Tensor:
        states_ND = self.history.last(batch) if one_a_row else self.history.encode_targets(batch)
        assert batch.targets_BL is not None
        return -self.log_probability(states_ND, batch.targets_BL.flatten()[batch.target_positions()])

    def log_probability(self, states_ND: Tensor, items_N: Tensor) -> Tensor:
        """Of each item's tuple behind its own state, [N] in fp32; NO_ITEM for an item without a tuple."""
        codes_NK = self.tuples_VK[items_N].long()
        before_NkD = self._items.each(items_N)[:, :-1].cumsum(1)
        tokens_NKD = torch.cat([states_ND[:, None].to(before_NkD.dtype), before_NkD], dim=1)
        logits_NKC = self._logits(self._decoded(tokens_NKD))
        certain_NK = torch.zeros_like(codes_NK, dtype=torch.bool)
        if self.cfg.normalise == "existing":
            run_NK = self.tree.run_VK[items_N]
            masks = [self.tree.at("mask", level)[run_NK[:, level]] for level in range(self.tree.K)]
            logits_NKC = logits_NKC.masked_fill(~torch.stack(masks, dim=1), -torch.inf)
            certain_NK = run_NK == self.tree.runs_K
        logs_NK = logits_NKC.log_softmax(-1).gather(2, codes_NK.clamp(min=0)[..., None])[..., 0]
        logs_N = logs_NK.masked_fill(certain_NK, 0.0).sum(1)
        return logs_N.masked_fill(codes_NK[:, 0] < 0, NO_ITEM)

    def _decoded(self, tokens_NkD: Tensor) -> Tensor:
        """The second transformer's states [N, k, D]; its tokens are still without their positions."""
        x_NkD = self.drop(tokens_NkD + self.levels.weight[: tokens_NkD.shape[1]].to(tokens_NkD.dtype))
        return forward_causal(self.blocks, x_NkD)

    def _logits(self, states: Tensor, level: int | None = None) -> Tensor:
        """Scores [..., K, C] of each level's codes from states [..., K, D]; of one level [..., C] from [..., D]."""
        with full_precision(states.device):
            table = self._items.table.weight[1:] if self.output is None else self.output.weight
            codes_KCD = table.float().view(self.tree.K, self.cfg.codes, -1)
            queries = self.norm(states.float())
            if self.cfg.temperature is not None:
                queries, codes_KCD = F.normalize(queries, dim=-1) / self.cfg.temperature, F.normalize(codes_KCD, dim=-1)
            if level is not None:
                scores = queries @ codes_KCD[level].T
                return scores if self.bias_KC is None else scores + self.bias_KC[level]
            scores = torch.einsum("nkd,kcd->nkc", queries, codes_KCD)
            return scores if self.bias_KC is None else scores + self.bias_KC

    def score(self, batch: Batch, items_BC: Tensor) -> Tensor:
        B, C = items_BC.shape
        if not torch.compiler.is_compiling() and sum(self.tree.runs) < C * self.tree.K:  # the tree is less work
            return self.score_corpus(batch).gather(1, items_BC)
        states_BD = self.history.last(batch)
        states_ND = states_BD[:, None].expand(-1, C, -1).reshape(B * C, -1)
        return self.log_probability(states_ND, items_BC.flatten()).view(B, C)

    def score_corpus(self, batch: Batch) -> Tensor:
        last_BD = self.history.last(batch)
        if torch.compiler.is_compiling():
            return self._scores(last_BD)
        widest = max(self.cfg.ffn_dim, self.cfg.codes, self.cfg.embed_dim * (self.tree.K + 1))
        rows = max(1, SCORED // (max(self.tree.runs) * widest))
        return torch.cat([self._scores(part_BD) for part_BD in last_BD.split(rows)])

    def _scores(self, last_BD: Tensor) -> Tensor:
        """The log probabilities [B, V + 1] of all items behind these states."""
        tree, table = self.tree, self._items.table
        tokens, before_RD = [(last_BD.to(self.levels.weight.dtype) + self.levels.weight[0])[:, None]], None
        for level in range(1, tree.K):
            own_RD = table(tree.at("code", level))
            before_RD = own_RD if before_RD is None else before_RD.index_select(0, tree.at("up", level)) + own_RD
            tokens.append((before_RD + self.levels.weight[level])[None])
        tokens = [self.drop(x_ARD) for x_ARD in tokens]
        for block in self.blocks:
            tokens = forward_tree(block, tokens, tree, rows=last_BD.shape[0])  # type: ignore[arg-type]
        logs = []
        for level, states_BRD in enumerate(tokens):
            logits_BRC = self._logits(states_BRD, level)
            if self.cfg.normalise == "existing":
                logits_BRC = logits_BRC.masked_fill(~tree.at("mask", level)[:-1], -torch.inf)
            logs.append(logits_BRC.log_softmax(-1))
        return tree.item_scores(logs)

    def score_corpus_without(self, batch: Batch, hidden_M: Tensor, top: int | None = None) -> Tensor:
        if self.cfg.beam is None or top is None:
            return self.score_corpus(batch)
        beam, last_BD = max(self.cfg.beam, top), self.history.last(batch)
        columns = self.num_items + 1

        def step(codes_BWl: Tensor, nodes_BW: Tensor) -> Tensor:
            B, W, level = codes_BWl.shape
            first_l = 1 + torch.arange(level, device=codes_BWl.device) * self.cfg.codes
            before = self._items.table(codes_BWl + first_l).cumsum(2)
            states = last_BD[:, None, None].expand(-1, W, -1, -1).to(before.dtype)
            tokens = torch.cat([states, before], dim=2).flatten(0, 1)
            logits_BWC = self._logits(self._decoded(tokens)[:, -1], level).view(B, W, -1)
            if self.cfg.normalise == "existing":
                keys_P, every_C = self.tree.at("key", level), torch.arange(self.cfg.codes, device=nodes_BW.device)
                keys_BWC = nodes_BW[..., None] * self.cfg.codes + every_C
                at_BWC = torch.searchsorted(keys_P, keys_BWC).clamp(max=len(keys_P) - 1)
                logits_BWC = logits_BWC.masked_fill(keys_P[at_BWC] != keys_BWC, -torch.inf)
            return logits_BWC.log_softmax(-1)

        found_BV = beam_search(self.tree, step, hidden_M, rows=len(batch), columns=columns, beam=beam)
        short_B = (found_BV > NO_ITEM).sum(1) < top  # beginnings with few items: what is missing is not known
        if short_B.any():
            found_BV[short_B] = self._scores(last_BD[short_B])
        return found_BV
