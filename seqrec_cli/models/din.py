"""DIN: the history weighted by the candidate, then an MLP (Zhou et al. 2018, arXiv 1706.06978, section 4.3 and eq. 3).

`score` says how an event is compared with the candidate: by the paper's activation unit, an inner product, a scaled
one, or an additive layer. A `softmax` of the unit's scores is scaled by the root of an item's width, as in the authors'
code, which has one where the paper has none.

With `search_attribute` the candidate is first looked for in a long history: its latest events that share the
candidate's first value of that attribute are what the activation unit reads, and no other event is even embedded: the
hard search of SIM (Pi et al. 2020, arXiv 2006.05639). Deviation: SIM then attends with multiple heads and times.

Legend: B rows, L history events, C candidates, K events found, F features of an item.
"""

from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model.din import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.interest import History, InterestRanker
from seqrec_cli.models.layers.activation_unit import ActivationUnit
from seqrec_cli.models.layers.embedding import module_key
from seqrec_cli.models.layers.event_scores import AdditiveScores, DotScores
from seqrec_cli.models.layers.transformer import as_stream
from seqrec_cli.models.search import by_value, latest


class Model(InterestRanker):
    """Events that are like the candidate speak louder."""

    def add_interest(self, cfg: Config) -> None:  # type: ignore[override]
        self.unit = _unit(cfg, self.items.width)
        self.search, self.search_events = cfg.search_attribute, cfg.search_events
        self.attention_is_shares = cfg.softmax
        self.embeds_events = cfg.search_attribute is None  # else each candidate has events of its own
        if self.search is not None and module_key(self.search) not in self.items.attributes:
            have = ", ".join(self.items.attributes) or "none"
            raise SeqrecError(f"model.search_attribute={self.search}: items have no such attribute (have: {have})")

    def _values(self, items: Tensor) -> Tensor:
        """The values [..., W] of the attribute that is searched by."""
        values: Tensor = self.items.attributes[module_key(self.search)].values_RW[items]  # type: ignore[arg-type,index]
        return values

    def _history(self, batch: Batch, sees_BLC: Tensor) -> History:
        if self.search is None:
            return super()._history(batch, sees_BLC)
        memory = (batch.items_BL, by_value(self._values(batch.items_BL), batch.mask_BL))
        return History(memory, sees_BLC, self.request(batch))

    def select(self, history: History, items: Tensor) -> History:
        """With a search: each candidate's own events [B, C, K, F] and their positions [B, C, K]."""
        if self.search is None:
            return history
        (items_BL, keys_BN), sees_BLC = history.memory, history.sees_BLC
        values_BC = self._values(items)[..., 0].expand(items_BL.shape[0], items.shape[-1])
        ends_BC = (sees_BLC * self._positions(items_BL)[:, None]).amax(1).expand_as(values_BC)
        firsts_BC = ends_BC - sees_BLC.sum(1)
        positions_BCK, real_BCK = latest(
            keys_BN, values_BC, firsts_BC, ends_BC=ends_BC, length=items_BL.shape[1], count=self.search_events
        )
        found_BCK = items_BL.gather(1, positions_BCK.flatten(1)).view_as(positions_BCK).masked_fill(~real_BCK, 0)
        return History((as_stream(self.items.joined(found_BCK)), positions_BCK), real_BCK, history.request)

    @staticmethod
    def _positions(items_BL: Tensor) -> Tensor:
        """1, 2, ... [L]."""
        return items_BL.new_ones(items_BL.shape[1]).cumsum(0)

    def interest(self, history: History, candidates: Tensor) -> Tensor:
        if self.search is None:
            interest_BCF: Tensor = self.unit(history.memory[0], candidates, history.sees_BLC)
            return interest_BCF
        of_pairs: Tensor = self.unit(*self._pairs_alone(history, candidates))
        return of_pairs.view(*history.sees_BLC.shape[:2], -1)

    @staticmethod
    def _pairs_alone(history: History, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Every pair of row and candidate as a row of its own: events, candidate, and which events are real."""
        found_BCKF = history.memory[0]
        candidates_BCF = candidates.expand(*found_BCKF.shape[:2], -1)
        return (
            found_BCKF.flatten(0, 1),
            candidates_BCF.flatten(0, 1)[:, None],
            history.sees_BLC.flatten(0, 1)[..., None],
        )

    def event_weights(self, history: History, candidates: Tensor) -> Tensor:
        if self.search is None:
            return self.unit.weights(history.memory[0], candidates, history.sees_BLC)
        positions_BCK = history.memory[1]
        weights_BCK = self.unit.weights(*self._pairs_alone(history, candidates)).view(positions_BCK.shape)
        weights_BCL = weights_BCK.new_zeros((*positions_BCK.shape[:2], self.max_length))
        return weights_BCL.scatter_add(2, positions_BCK, weights_BCK).transpose(1, 2)

    def numbers_per_pair(self, length: int) -> int:
        if self.search is None:
            return length * self.unit.numbers
        of_candidate = self.unit.candidate_width * self.items.width
        return self.search_events * (self.unit.numbers + 4 * self.items.width) + of_candidate


def _unit(cfg: Config, width: int) -> ActivationUnit | DotScores | AdditiveScores:
    """What weighs events by a candidate, for items of that width."""
    if cfg.score == "unit":
        return ActivationUnit(width, cfg.unit, cfg.unit_activation, softmax=cfg.softmax)
    if cfg.score == "additive":
        return AdditiveScores(width, cfg.unit[0], cfg.softmax)
    return DotScores(width, cfg.softmax, scaled=cfg.score == "scaled_dot")
