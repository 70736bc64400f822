"""What objectives have in common in a configuration; each one's own settings are a file of this folder.

Nothing here imports torch: the code of `cloze.py` is `objectives/cloze.py`.
"""

from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from seqrec_cli.config.settings import Option

SCHEDULED = ("scheduled_epochs", "scheduled_least")
Window = Literal["last", "sliding", "prefixes", "packed"]  # how histories are cut into rows, where a row is a window


class Capabilities(NamedTuple):
    """What an objective can train. Every objective says all of it: a model that needs more is refused."""

    families: frozenset[str]  # of models
    rows: Literal["windows", "prefixes", "none"]  # how training histories are cut
    causal: bool | None  # encoders it trains: causal ones, bidirectional ones, or (None) both
    sparse_rows: bool  # reads some rows of the item table, not all
    weights: bool  # a target's loss counts as much as its event's weight


class ObjectiveConfig(Option):
    """What every objective has."""

    group: ClassVar[str] = "objective"
    capabilities: ClassVar[Capabilities]
    needs_impressions: ClassVar[bool] = False  # it learns from logged requests alone

    name: str = Field(description="the objective")

    @property
    def batch_statistics(self) -> dict[str, str]:
        """The settings by which its loss reads statistics of the whole batch, and what to set instead of each."""
        return {}

    @property
    def needs_one_process(self) -> str:
        """Why several processes cannot share its batches, and what to set instead; empty where they can."""
        return ""


AnyObjective = Annotated[SerializeAsAny[ObjectiveConfig], BeforeValidator(ObjectiveConfig.chosen)]


class WindowConfig(ObjectiveConfig):
    """An objective with a target at every position of a window, or at its last one alone."""

    needs_more_targets: ClassVar[str] = ""  # why a row cannot have one target, its last; empty where it can

    window: Window = Field(
        description="last: each user's latest max_length events; sliding: the whole history, in windows of max_length "
        "that share no event, unless a stride says so; prefixes: one row a target, the latest max_length events "
        "before it, with a loss at the last of them alone; packed: those of sliding, laid end to end without padding"
    )
    stride: int | None = Field(
        ge=1, description="for window=sliding: events between windows, which then overlap; null for model.max_length"
    )

    scheduled_sampling: Literal["none", "linear", "exponential", "inverse_sigmoid"] = Field(
        description="how the share of a history's training events that are read as they came falls from epoch to "
        "epoch; the model's own draws take the others' places (Bengio et al. 2015); none: all are read as they came"
    )
    scheduled_epochs: float = Field(
        gt=0,
        description="k of its decay, of the epochs i so far: 1 - i / k, exp(-i / k), or k / (k + exp(i / k))",
    )
    scheduled_least: float = Field(ge=0, lt=1, description="the share below which it does not fall")

    @property
    def idle(self) -> dict[str, str]:
        if self.scheduled_sampling != "none":
            return super().idle
        return super().idle | dict.fromkeys(SCHEDULED, "objective.scheduled_sampling=none")

    @model_validator(mode="after")
    def _predicts_what_follows(self) -> Self:
        if self.scheduled_sampling != "none" and not self.capabilities.causal:
            raise ValueError(
                f"objective.scheduled_sampling={self.scheduled_sampling} reads what the model says follows the events "
                f"before, and objective={self.name} guesses events between others; set it to none"
            )
        if self.scheduled_sampling != "none" and "encoder" not in self.capabilities.families:
            raise ValueError(
                f"objective.scheduled_sampling={self.scheduled_sampling} draws by the vectors of all items, and models "
                f"of objective={self.name} have none; set it to none"
            )
        return self

    @model_validator(mode="after")
    def _stride_slides(self) -> Self:
        if self.stride is not None and self.window != "sliding":
            raise ValueError(f"objective.stride={self.stride} needs objective.window=sliding; set that, or stride=null")
        return self

    @model_validator(mode="after")
    def _one_target_is_enough(self) -> Self:
        if self.one_a_row and self.needs_more_targets:
            raise ValueError(
                f"objective.window=prefixes has one target a row, and objective={self.name} {self.needs_more_targets}; "
                "use objective.window=sliding, or objective=next_item"
            )
        return self

    @property
    def one_a_row(self) -> bool:
        """Whether a row has one target, after its last event."""
        return self.window == "prefixes"


class SoftmaxConfig(WindowConfig):
    """A softmax over the whole corpus."""

    smoothing: float = Field(ge=0, lt=1, description="share of a target's probability that all items share instead")
    chunk_mb: int = Field(ge=1, description="scratch memory of the softmax")


class EstimatedSoftmaxConfig(SoftmaxConfig):
    """The same, or an estimate of it where the corpus is large."""

    negatives: int | None = Field(
        ge=2,
        description="items drawn for each batch, half from its targets and half from all alike, that stand for all "
        "others in the softmax (log-q); null: the whole corpus",
    )

    @property
    def idle(self) -> dict[str, str]:
        estimated = {} if self.negatives is None else {"smoothing": f"objective.negatives={self.negatives}"}
        return super().idle | estimated


class NegativesConfig(WindowConfig):
    """A position's target against sampled items."""

    negatives: int = Field(ge=1, description="items drawn, with replacement, for each position, sequence or batch")
    shared: Literal["position", "sequence", "batch"] = Field(
        description="whose negatives are the same: nobody's, a history's positions', or all targets' of a batch"
    )
    sampling: Literal["unseen", "uniform", "popularity", "in_batch", "mixed", "hard", "cross_batch"] = Field(
        description="how they are drawn: from items the user has not seen, from all alike, by training events, from "
        "the batch's targets, from these and from all items, as those of a pool of unseen items that the model scores "
        "highest, or from the targets of this batch and of batches before it"
    )
    uniform_share: float = Field(gt=0, lt=1, description="for sampling=mixed: the share drawn from all items alike")
    pool: int = Field(
        ge=1,
        le=1000,
        description="for sampling=hard: unseen items drawn for each negative; the highest scores are kept",
    )
    memory: int = Field(
        ge=1, description="for sampling=cross_batch: of how many targets of batches before the vectors are remembered"
    )

    @property
    def idle(self) -> dict[str, str]:
        of = {"uniform_share": "mixed", "pool": "hard", "memory": "cross_batch"}
        unused = (name for name, sampling in of.items() if sampling != self.sampling)
        return super().idle | dict.fromkeys(unused, f"objective.sampling={self.sampling}")

    @property
    def from_loader(self) -> int:
        """How many unseen items a position or sequence is given with its batch."""
        return self.negatives * {"unseen": 1, "hard": self.pool}.get(self.sampling, 0)

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        if self.from_loader and self.shared == "batch":
            raise ValueError(
                f"objective.sampling={self.sampling} objective.shared=batch: users of a batch share no unseen items; "
                "use objective.sampling=uniform, or objective.shared=sequence"
            )
        if self.sampling == "cross_batch" and (
            self.shared == "position" or (self.shared == "sequence" and self.one_a_row)
        ):
            raise ValueError(
                "objective.sampling=cross_batch: vectors are shared by targets of a batch or a history; "
                "use objective.shared=batch, or objective.sampling=in_batch"
            )
        uniform = mixed_uniform(self.negatives, self.uniform_share)
        if self.sampling == "mixed" and not 0 < uniform < self.negatives:
            raise ValueError(
                f"objective.sampling=mixed: objective.uniform_share={self.uniform_share} of "
                f"objective.negatives={self.negatives} leaves none of one kind; raise negatives"
            )
        return self


class CorpusNegativesConfig(NegativesConfig):
    """Sampled items that stand for all others, by a log-q correction, or for themselves alone."""

    log_q: Literal["none", "negatives", "all"] = Field(
        description="off whose scores the log of how often an item is drawn is taken: off the negatives' alone, so "
        "that the sum over them estimates that over all other items, which takes many; all: off the target's too, as "
        "if it had been drawn, for which a few do; none: scores as they are; null: all, or none for sampling=unseen "
        "and hard"
    )

    @field_validator("log_q", mode="before")
    @classmethod
    def _as_the_sampler_can(cls, given: Any, info: ValidationInfo) -> Any:
        """What null is. `sampling` is missing where it was wrong itself, which is told."""
        if given is not None:
            return given
        return "none" if info.data.get("sampling") in ("unseen", "hard") else "all"

    @model_validator(mode="after")
    def _stand_for_the_corpus(self) -> Self:
        if self.log_q != "none" and self.from_loader:
            raise ValueError(
                f"objective.log_q={self.log_q} cannot take objective.sampling={self.sampling}: negatives that leave "
                "seen items out do not stand for the corpus; use uniform, popularity, in_batch, mixed or cross_batch, "
                "or objective.log_q=none"
            )
        return self


class KnownItemsConfig(WindowConfig):
    """An objective whose targets may also count by known items (`objectives/known_items.py`)."""

    known: Literal["none", "running", "leave_one_out", "agreement"] = Field(
        description="what a target also counts by: nothing; how well the model predicts the known items before it, or "
        "all others of its row; or how well its output at the event before agrees with that event's item"
    )
    known_decay: float = Field(
        gt=0, le=1, description="for known=running: what a known item counts beside the one after it"
    )
    known_sharpness: float = Field(
        ge=-20, le=20, description="how much more the better known ones count; below 0, the worse known"
    )

    @property
    def idle(self) -> dict[str, str]:
        found, kind = super().idle, f"objective.known={self.known}"
        if self.known != "running":
            found["known_decay"] = kind
        if self.known == "none":
            found["known_sharpness"] = kind
        return found

    @property
    def batch_statistics(self) -> dict[str, str]:
        return {} if self.known == "none" else {f"objective.known={self.known}": "objective.known=none"}

    @model_validator(mode="after")
    def _row_has_known_targets(self) -> Self:
        if self.one_a_row and self.known in ("running", "leave_one_out"):
            raise ValueError(
                f"objective.known={self.known} compares a row's targets, and objective.window=prefixes has one a row; "
                "use objective.known=agreement, or objective.window=sliding"
            )
        return self


class PrefixConfig(ObjectiveConfig):
    """An objective that learns from labelled candidates after a history: the dataset's own, or drawn ones."""

    negatives: int = Field(ge=1, description="unseen items beside each positive, where they are drawn in training")
    redraw: bool = Field(
        description="draw them anew every epoch also where protocol=positions has a fixed one for each event"
    )


def mixed_uniform(negatives: int, uniform_share: float) -> int:
    """How many of mixed negatives are drawn from all items alike."""
    return round(negatives * uniform_share)
