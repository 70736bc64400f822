"""The rule by which settings written `auto` follow from the data. Its numbers are in `conf/shared/auto.yaml`.

The same rule gives what a configuration is checked with before the data are known (`NOMINAL`). It needs no torch and
no numpy: facts are plain numbers.
"""

import functools
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.config.registry import config_class
from seqrec_cli.config.settings import Settings

Kind = Literal["encoder", "prefixes", "cloze", "ranker"]
Word = Literal["auto", "fast", "thorough"]
WORDS: tuple[Word, ...] = ("auto", "fast", "thorough")
Table = Annotated[tuple[tuple[float, float], ...], Field(min_length=1)]  # (up to so many, value), ascending


class Facts(NamedTuple):
    """What the rule knows of a log, as the run's model and objective see it."""

    items: int
    events: int  # that train
    rows: int  # training rows an epoch: windows, or a ranker's targets
    longest: int  # 95 of 100 training histories are no longer
    requests: int  # held out for validation


class KindNumbers(Settings):
    """The rule's numbers for one kind of training."""

    max_length: Table = Field(description="longest history by training events, where histories are that long")
    uncut: int = Field(ge=1, description="where histories are no longer than this, rows hold them whole")
    embed_dim: Table = Field(description="width by training events")
    blocks: Table = Field(description="blocks by training events")
    dropout: Table = Field(description="dropout by training events")
    steps_an_epoch: int = Field(ge=1, description="an epoch has as many, by smaller batches, where it has the rows")
    batch_size: tuple[int, int] = Field(description="rows a batch: at least, at most")
    epochs: float = Field(gt=0, description="passes over the rows")
    steps: tuple[int, int] = Field(description="steps of a run: at least, at most; more weight than epochs")
    evaluations: int = Field(ge=1, description="validations of a run, at most")
    patience: float = Field(gt=0, le=1, description="share of the run without improvement before it stops")
    warmup: float = Field(ge=0, lt=1, description="share of the steps")
    warmup_steps: int = Field(ge=0, description="and at most so many")
    lr: Table = Field(description="peak rate by training events")
    weight_decay: float = Field(ge=0, description="decay of matrices")
    betas: tuple[float, float] = Field(description="AdamW's averaging rates")
    bucket_by_length: bool = Field(description="rows of like length share a batch")
    ranked: float = Field(gt=0, description="scores of a validation over the corpus that are affordable")
    ranked_users: int = Field(ge=1, description="and at least so many users are ranked")
    monitors: list[str] = Field(min_length=2, max_length=2, description="what chooses, and what where few are ranked")
    few: int = Field(ge=1, description="fewer ranked users than this say too little to choose by")
    temperature: float | None = Field(
        gt=0, description="what cosines are divided by, for objectives with a softmax; null: inner products"
    )
    negatives: Table = Field(description="by items: how many are drawn; 0 for a softmax over the whole corpus")


class Effort(Settings):
    """What `fast` and `thorough` change."""

    epochs: float = Field(gt=0, description="times the epochs and steps of auto")
    patience: float = Field(gt=0, description="times the patience of auto")


class Rule(Settings):
    """All numbers of the rule."""

    kinds: dict[Kind, KindNumbers]
    efforts: dict[Word, Effort]


@functools.cache
def rule() -> Rule:
    """As `conf/shared/auto.yaml` has it."""
    from omegaconf import OmegaConf  # not before there is something to settle

    from seqrec_cli.config.compose import SHARED, conf_folder

    return Rule.from_plain(OmegaConf.to_container(OmegaConf.load(conf_folder() / SHARED / "auto.yaml")))


# A log of middling size: what is written `auto` is checked with its numbers before there is a log.
NOMINAL = Facts(items=3_000, events=500_000, rows=6_000, longest=200, requests=6_000)

ROUNDED = 10  # lengths above are multiples of it


def kind_of(plain: dict[str, Any]) -> Kind:
    """The kind of training, by the objective of a plain configuration."""
    objective = plain["objective"]["name"]
    if plain["objective"].get("window") == "prefixes":
        return "prefixes"
    return "cloze" if objective == "cloze" else "ranker" if objective == "click" else "encoder"


def up_to(table: Table, size: float) -> float:
    """The value of the first line whose bound is not below `size`; of the last one beyond all."""
    return next((value for bound, value in table if size <= bound), table[-1][1])


def _number(given: Any, otherwise: Callable[[], Any]) -> Any:
    """What was given, if others can be worked out from it; what it should have been is told when all are checked."""
    return given if isinstance(given, int | float) and given > 0 else otherwise()


class Settled:
    """The numbers of one run. Each method is a setting; what it is worked out from is another setting's number."""

    def __init__(self, plain: dict[str, Any], facts: Facts, words: dict[str, Word]) -> None:
        self.plain, self.facts, self.words = plain, facts, words
        self.numbers = rule().kinds[kind_of(plain)]

    def effort(self, name: str) -> Effort:
        return rule().efforts[self.words.get(name, "auto")]

    def trainer(self, name: str) -> Any:
        """A trainer's setting: as it was given, or by the rule."""
        given = f"trainer.{name}" not in self.words
        return _number(self.plain["trainer"][name], getattr(self, name)) if given else getattr(self, name)()

    def batch_size(self) -> int:
        least, most = self.numbers.batch_size
        wanted = self.facts.rows / self.numbers.steps_an_epoch
        return min(max(2 ** math.floor(math.log2(max(wanted, 1))), least), most)

    def _steps_an_epoch(self) -> int:
        return max(math.ceil(self.facts.rows / self.trainer("batch_size")), 1)

    def max_epochs(self) -> int:
        least, most = self.numbers.steps
        an_epoch, more = self._steps_an_epoch(), self.effort("trainer.max_epochs").epochs
        steps = min(max(self.numbers.epochs * an_epoch, least), most) * more
        return max(round(steps / an_epoch), _number(self.plain["trainer"]["swa_epochs"], lambda: 1))

    def evaluate_every(self) -> int:
        return max(round(self.trainer("max_epochs") / self.numbers.evaluations), 1)

    def patience(self) -> int:
        """In validations. While transitions are not yet learnt a run stands still near the most popular items."""
        plateau = _number(self.plain["trainer"]["plateau"], lambda: 0)
        validations = self.trainer("max_epochs") / self.trainer("evaluate_every")
        share = self.numbers.patience * self.effort("trainer.patience").patience
        return max(math.ceil(share * validations), plateau + 1, 2)

    def warmup_steps(self) -> int:
        steps = self.trainer("max_epochs") * self._steps_an_epoch()
        steps = min(steps, _number(self.plain["trainer"]["max_steps"], lambda: steps))
        return min(round(steps * self.numbers.warmup), self.numbers.warmup_steps)

    def lr(self) -> float:
        return up_to(self.numbers.lr, self.facts.events)

    def weight_decay(self) -> float:
        return self.numbers.weight_decay

    def betas(self) -> list[float]:
        return list(self.numbers.betas)

    def bucket_by_length(self) -> bool:
        return self.numbers.bucket_by_length

    def ranked_users(self) -> int | None:
        affordable = max(int(self.numbers.ranked / max(self.facts.items, 1)), self.numbers.ranked_users)
        return None if affordable >= self.facts.requests else affordable

    def monitor(self) -> str:
        """A metric of the corpus where enough users are ranked for it, else one of labelled candidates; always the
        latter where the log's own labels are what is to be told apart."""
        evaluation = self.plain["evaluation"]
        given = "evaluation.ranked_users" not in self.words and isinstance(evaluation, dict)
        ranked = evaluation["ranked_users"] if given else self.ranked_users()
        few = isinstance(ranked, int) and ranked < self.numbers.few
        labelled = kind_of(self.plain) == "ranker" and self._protocol().needs_impressions
        return self.numbers.monitors[few or labelled]

    def _protocol(self) -> type[ProtocolConfig]:
        found = config_class("protocol", self.plain["protocol"]["name"])
        assert issubclass(found, ProtocolConfig)
        return found

    def negatives(self) -> int | None:
        """None where the softmax is over the whole corpus: where that costs little, or a setting needs it."""
        few, objective = int(up_to(self.numbers.negatives, self.facts.items)), self.plain["objective"]
        if kind_of(self.plain) == "ranker" and self._protocol().fixes_training_rows and not objective.get("redraw"):
            return 1  # the protocol's own
        return None if objective["name"] in SOFTMAX and objective.get("smoothing") else few or None

    def temperature(self, _model: dict[str, Any]) -> float | None:
        """None, for inner products, where each score has a sigmoid of its own."""
        return self.numbers.temperature if self.plain["objective"]["name"] in SOFTMAX else None

    def max_length(self, _model: dict[str, Any]) -> int:
        """Of short histories no more than rows hold, whose last event is a target: those to be measured are longer by
        what was held out, and a model reads no more of them than it was trained on."""
        longest = self.facts.longest
        if longest <= ROUNDED:
            masked = kind_of(self.plain) == "cloze"  # targets stand in their rows
            return max(longest, 2) if masked else max(longest - 1, 1)
        longest = math.ceil(longest / ROUNDED) * ROUNDED
        most = int(up_to(self.numbers.max_length, self.facts.events))
        return longest if longest <= self.numbers.uncut else min(longest, most)

    def embed_dim(self, model: dict[str, Any]) -> int:
        heads = 2 * _number(model.get("heads", 1), lambda: 1)  # rotary positions turn pairs
        return math.ceil(up_to(self.numbers.embed_dim, self.facts.events) / heads) * heads

    def ffn_dim(self, model: dict[str, Any]) -> int:
        return 4 * int(_number(model["embed_dim"], lambda: self.embed_dim(model)))

    def blocks(self, _model: dict[str, Any]) -> int:
        return int(up_to(self.numbers.blocks, self.facts.events))

    def dropout(self, _model: dict[str, Any]) -> float:
        return up_to(self.numbers.dropout, self.facts.events)


SOFTMAX = ("next_item", "cloze", "dual", "distil", "all_action", "multi_step", "sampled_softmax", "sampled_all_action")
# Settings that may be written `auto`, in the order in which they are settled.
OF_MODEL = ("max_length", "embed_dim", "ffn_dim", "blocks", "dropout", "temperature")
OF_OBJECTIVE = ("negatives",)
OF_TRAINER = (
    "batch_size",
    "max_epochs",
    "evaluate_every",
    "patience",
    "warmup_steps",
    "lr",
    "weight_decay",
    "betas",
    "bucket_by_length",
    "monitor",
)
OF_EVALUATION = ("ranked_users",)
SAME = {"mlp_dropout": "dropout", "attention_dropout": "dropout"}  # settings that follow another one's rule


OF_EFFORT = ("trainer.max_epochs", "trainer.patience")  # those that `fast` and `thorough` change


def words_for(key: str) -> tuple[Word, ...]:
    """The words that a setting, by its dotted name, may be left to the data with; none for most."""
    group, _, name = key.partition(".")
    found = name.rpartition(".")[2] in {
        "model": (*OF_MODEL, *SAME),
        "objective": OF_OBJECTIVE,
        "trainer": OF_TRAINER,
        "evaluation": OF_EVALUATION,
    }.get(group, ())
    return (WORDS if key in OF_EFFORT else WORDS[:1]) if found else ()
