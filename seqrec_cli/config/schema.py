"""The shape of a run's configuration: one record a Hydra group, one a verb. No numbers: those are in `conf/`.

A group whose options are code (dataset, model, objective) has only its common part here; each option
extends it with a `Config` of its own, beside the code that reads it (see `slots.py`).
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.dataset import DatasetConfig as DatasetConfig
from seqrec_cli.config.rules import stride_needs_sliding
from seqrec_cli.config.settings import Settings

Cutoff = Annotated[int, Field(ge=1)]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]


class ModelConfig(Settings):
    """What every model has."""

    family: ClassVar[Literal["encoder", "ranker", "closed_form"]]
    sparse_rows: ClassVar[bool] = False  # looks rows of its tables up and never reads a whole one in training
    inner_product: ClassVar[bool] = False  # scores are inner products of a history's vector and the items'
    causal: ClassVar[bool] = True  # of encoders: a state sees no later event
    all_positions: ClassVar[bool] = False  # a ranker that scores candidates at any place of a history in one forward
    recurrent: ClassVar[bool] = False  # its states depend on where a row begins: no row may exceed max_length

    name: str = Field(description="the model")
    max_length: int = Field(ge=1, description="history events the model reads, the latest kept")

    @property
    def history_negatives(self) -> int:
        """Unseen items that training draws beside every event of a history, for a loss of the model's own."""
        return 0


class ObjectiveConfig(Settings):
    """What every objective has."""

    families: ClassVar[frozenset[str]]  # model families it can train
    rows: ClassVar[Literal["windows", "prefixes", "none"]]  # how training histories are cut
    sparse_rows: ClassVar[bool] = False  # reads some rows of the item table, not all
    causal: ClassVar[bool | None] = None  # encoders it trains: causal ones, bidirectional ones, or (None) both

    name: str = Field(description="the objective")


class WindowObjectiveConfig(ObjectiveConfig):
    """An objective with a target at every position of a window."""

    families: ClassVar[frozenset[str]] = frozenset({"encoder"})
    rows: ClassVar[Literal["windows", "prefixes", "none"]] = "windows"
    causal: ClassVar[bool | None] = True

    window: Literal["last", "sliding"] = Field(
        description="last: each user's latest max_length events; sliding: the whole history, each event a target once"
    )
    stride: int | None = Field(
        ge=1, description="for window=sliding: events between windows, which then overlap; null for model.max_length"
    )

    @model_validator(mode="after")
    def _stride_slides(self) -> Self:
        stride_needs_sliding(self.window, self.stride)
        return self


class ClickObjectiveConfig(ObjectiveConfig):
    """An objective that learns from labelled candidates: the dataset's own, or drawn ones."""

    rows: ClassVar[Literal["windows", "prefixes", "none"]] = "prefixes"

    negatives: int = Field(ge=1, description="unseen items beside each positive, where they are drawn in training")
    redraw: bool = Field(
        description="draw them anew every epoch also where dataset.protocol=positions has a fixed one for each event"
    )


class TrainerConfig(Settings):
    """How parameters are fitted."""

    max_epochs: int = Field(ge=1, description="passes over the training rows, at most")
    max_steps: int | None = Field(ge=1, description="optimizer steps, at most; null for no limit")
    batch_size: int = Field(ge=1, description="rows a batch")
    batch_tokens: int | None = Field(
        ge=1, description="for next-item objectives: padded tokens a batch, instead of batch_size rows"
    )
    bucket_by_length: bool = Field(
        description="rows of like length share a batch, so little is padded; false: rows of any length, as drawn"
    )
    micro_batch_tokens: int | None = Field(
        ge=1,
        description="padded tokens worked on at once; a larger batch is taken in parts whose gradients add up: "
        "the same step in less memory; null: whole",
    )
    seed: int = Field(ge=0, description="seed of initialisation, order, negatives and dropout")
    seeds: int = Field(ge=1, description="runs, from seed, seed + 1, ...: with more than one, their mean and spread")
    lr: float = Field(gt=0, description="peak learning rate of AdamW")
    betas: tuple[float, float] = Field(strict=False, description="AdamW's two averaging rates")
    weight_decay: float = Field(ge=0, description="AdamW's decay of matrices (never of biases and norms)")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    schedule: Literal["cosine", "constant"] = Field(description="the rate after warm-up")
    final_lr: float = Field(ge=0, le=1, description="the cosine's last rate, as a fraction of lr")
    plateau: int | None = Field(
        ge=1, description="evaluations without improvement before the rate is reduced, again and again; null: never"
    )
    plateau_factor: float = Field(gt=0, lt=1, description="what the rate is then multiplied by")
    ema: float | None = Field(
        gt=0,
        lt=1,
        description="decay of a moving average of the weights, which is validated and kept; null: none",
    )
    swa_epochs: int | None = Field(
        ge=2,
        description="at the end, the mean of the weights after each of the last so many epochs is validated too, and "
        "kept if it is better than every epoch; null: none",
    )
    clip_norm: float | None = Field(gt=0, description="largest gradient norm; null for no clipping")
    monitor: str = Field(description="validation metric that chooses the best checkpoint")
    patience: int | None = Field(ge=1, description="evaluations without improvement before stopping; null: never")
    evaluate_every: int = Field(ge=1, description="epochs between validations")

    @model_validator(mode="after")
    def _betas_in_range(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"trainer.betas must lie in [0, 1), got {list(self.betas)}")
        return self

    @model_validator(mode="after")
    def _one_average_of_epochs_that_are(self) -> Self:
        if self.swa_epochs is None:
            return self
        if self.ema is not None:
            raise ValueError("trainer.swa_epochs and trainer.ema are two averages of the same weights; set one to null")
        if self.swa_epochs > self.max_epochs:
            raise ValueError(
                f"trainer.swa_epochs={self.swa_epochs} averages more epochs than trainer.max_epochs={self.max_epochs}; "
                "lower it"
            )
        return self

    @model_validator(mode="after")
    def _plateau_comes_first(self) -> Self:
        if self.plateau is not None and self.patience is not None and self.plateau >= self.patience:
            raise ValueError(
                f"trainer.plateau={self.plateau} would never reduce the rate: trainer.patience={self.patience} stops "
                "the run by then; raise patience, or lower plateau"
            )
        return self


class HardwareConfig(Settings):
    """Where and in which number format the work is done. `null` in `evaluate` means: as the run was trained."""

    device: Device | None = Field(description="auto, cpu, cuda or cuda:N")
    precision: Precision | None = Field(description="auto takes bf16 where the processor multiplies it fast")
    threads: int | None = Field(ge=1, description="CPU threads; null for all cores")
    embedding: Literal["dense", "sparse"] | None = Field(
        description="sparse: a step updates the rows of item and user tables that it used, and no others"
    )
    compile: bool | None = Field(description="compile the model's forward and backward (needs a C++ compiler)")


class EvaluationConfig(Settings):
    """How a model is measured."""

    cutoffs: tuple[Cutoff, ...] = Field(strict=False, min_length=1, description="the k of HR@k, NDCG@k, MRR@k")
    batch_size: int = Field(ge=1, description="users encoded at once")
    memory_mb: int = Field(ge=1, description="memory budget of one block of scores")
    ranked_users: int | None = Field(
        ge=1, description="rank the corpus for at most this many users, the same ones every time; null for all"
    )
    baselines: bool = Field(description="also score random, most popular, last-item Markov (and the oracle)")


class DataConfig(Settings):
    """The verbs `download` and `preprocess`."""

    dataset: DatasetConfig
    data_dir: str = Field(description="folder of downloaded and preprocessed data")


class TrainConfig(DataConfig):
    """The verb `train`."""

    model: ModelConfig
    objective: ObjectiveConfig
    trainer: TrainerConfig
    hardware: HardwareConfig
    evaluation: EvaluationConfig
    run_dir: str | None = Field(description="the run's folder; null for a dated one under outputs/")
    resume: str | None = Field(description="a run folder to go on with, from its last checkpoint")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.model.family not in self.objective.families:
            raise ValueError(
                f"objective={self.objective.name} cannot train model={self.model.name} ({self.model.family}); "
                f"it trains: {', '.join(sorted(self.objective.families))}"
            )
        self._directions_fit()
        if self.model.family == "closed_form" and self.trainer.seeds > 1:
            raise ValueError(f"trainer.seeds: model={self.model.name} counts, every seed gives the same; set it to 1")
        stride = getattr(self.objective, "stride", None)
        if stride is not None and stride > self.model.max_length:
            raise ValueError(
                f"objective.stride={stride} would leave events out between windows of "
                f"model.max_length={self.model.max_length}; set it to at most that"
            )
        self._candidates_fit()
        if self.trainer.batch_tokens is not None and self.objective.rows != "windows":
            raise ValueError(
                f"trainer.batch_tokens counts windows' tokens; objective={self.objective.name} has no windows: "
                "set trainer.batch_size instead"
            )
        if self.trainer.batch_tokens is not None and not self.trainer.bucket_by_length:
            raise ValueError(
                "trainer.batch_tokens fills batches with rows of like length: set trainer.bucket_by_length=true, "
                "or trainer.batch_tokens=null"
            )
        if self.trainer.ema is not None and self.hardware.embedding == "sparse":
            raise ValueError(
                "trainer.ema averages whole tables at every step, which hardware.embedding=sparse is to avoid; "
                "set trainer.ema=null or hardware.embedding=dense"
            )
        from seqrec_cli.metrics.table import metric_names  # numpy: not before there is something to check

        names = metric_names(self.evaluation.cutoffs)
        if self.trainer.monitor not in names:
            raise ValueError(f"trainer.monitor={self.trainer.monitor} is no metric; have: {', '.join(names)}")
        unset = [name for name, value in self.hardware if value is None and name != "threads"]
        if unset:
            raise ValueError(f"hardware.{unset[0]} may be null in evaluate and export only")
        if self.hardware.embedding == "sparse":
            self._rows_can_be_sparse()
        return self

    def _candidates_fit(self) -> None:
        protocol, objective = self.dataset.protocol, self.objective
        if protocol == "leave_last" or not isinstance(objective, ClickObjectiveConfig):
            return
        if objective.redraw and protocol != "positions":
            raise ValueError(
                f"objective.redraw=true: dataset.protocol={protocol} has its own training candidates; set it to false"
            )
        if not objective.redraw and objective.negatives != 1:
            more = " or objective.redraw=true" if protocol == "positions" else ""
            raise ValueError(
                f"objective.negatives={objective.negatives}: dataset.protocol={protocol} has its own training "
                f"candidates; set objective.negatives=1{more}"
            )

    def _directions_fit(self) -> None:
        if self.model.family != "encoder" or self.objective.causal in (None, self.model.causal):
            return
        pair = f"objective={self.objective.name} cannot train model={self.model.name}"
        if self.model.causal:
            raise ValueError(f"{pair}, which never sees what follows a masked event; use objective=next_item")
        raise ValueError(f"{pair}, which would see the event it is to predict; use objective=cloze")

    def _rows_can_be_sparse(self) -> None:
        if self.hardware.compile:
            raise ValueError("hardware.compile=true cannot make row-sparse gradients; use hardware.embedding=dense")
        if not self.model.sparse_rows:
            raise ValueError(
                f"hardware.embedding=sparse: model={self.model.name} has no tables that are only looked up; "
                "use hardware.embedding=dense"
            )
        if not self.objective.sparse_rows:
            raise ValueError(
                f"hardware.embedding=sparse: objective={self.objective.name} needs the whole item table at every "
                "step; use hardware.embedding=dense, or objective=sampled_softmax"
            )
