"""The shape of a run's configuration: trainer, hardware, evaluation, and the rules between the groups.

Datasets, models and objectives are in `dataset.py`, `model/` and `objective/`. No numbers: those are in `conf/`.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.autoregression import own_answers_can_be_read, steps_are_trained
from seqrec_cli.config.dataset import AnyDataset
from seqrec_cli.config.model import AnyModel
from seqrec_cli.config.objective import AnyObjective, PrefixConfig, WindowConfig
from seqrec_cli.config.processes import ProcessesConfig
from seqrec_cli.config.protocol import AnyProtocol
from seqrec_cli.config.rows import rows_fit
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.tables import rows_can_be_sparse, tables_can_be_sharded, texts_are_there

Cutoff = Annotated[int, Field(ge=1)]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|(cuda|xpu)(:\d+)?)$")]


class TrainerConfig(Settings):
    """How parameters are fitted."""

    max_epochs: int = Field(ge=1, description="passes over the training rows, at most")
    max_steps: int | None = Field(ge=1, description="optimizer steps, at most; null for no limit")
    minutes: float | None = Field(
        gt=0,
        description="training stops after so many minutes, validated once more; the rate falls to its end by then, and "
        "a repeated run may differ; model=auto: for all its members together; null: no limit",
    )
    batch_size: int = Field(ge=1, description="rows a batch")
    batch_tokens: int | None = Field(
        ge=1,
        description="for next-item objectives: tokens a batch, padding included (window=packed has none), instead of "
        "batch_size rows",
    )
    bucket_by_length: bool | Literal["equal"] = Field(
        description="rows of like length share a batch, so little is padded; equal: of the same length, so nothing is; "
        "false: rows of any length, as drawn"
    )
    micro_batch_tokens: int | None = Field(
        ge=1,
        description="padded tokens worked on at once; a larger batch is taken in parts whose gradients add up to the "
        "whole batch's, in less memory (not with Dice or batch normalisation); null: whole",
    )
    seed: int = Field(ge=0, description="seed of initialisation, order, negatives and dropout")
    seeds: int = Field(ge=1, description="runs, from seed, seed + 1, ...: with more than one, their mean and spread")
    lr: float = Field(gt=0, description="peak learning rate of AdamW")
    betas: tuple[float, float] = Field(description="AdamW's two averaging rates")
    weight_decay: float = Field(
        ge=0,
        description="AdamW's decay of matrices (never of biases and norms; of embeddings if decay_embeddings says so)",
    )
    decay_embeddings: bool = Field(
        description="whether weight_decay is of the tables of items, users and positions too, at every step; false: a "
        "row is moved by its own events alone"
    )
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
    monitor: str = Field(
        description="validation metric that chooses the best checkpoint; loss: the objective's own, on validation"
    )
    patience: int | None = Field(ge=1, description="evaluations without improvement before stopping; null: never")
    evaluate_every: int = Field(ge=1, description="epochs between validations")

    @model_validator(mode="after")
    def _betas_in_range(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"trainer.betas must lie in [0, 1), got {list(self.betas)}")
        return self

    @model_validator(mode="after")
    def _something_decays(self) -> Self:
        if self.decay_embeddings and not self.weight_decay:
            raise ValueError(
                "trainer.decay_embeddings=true has nothing to decay by: trainer.weight_decay=0; raise that"
            )
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


class HardwareConfig(ProcessesConfig):
    """Where and in which number format the work is done. `null` in `evaluate` means: as the run was trained."""

    device: Device | None = Field(description="auto, cpu, cuda, cuda:N, mps or xpu")
    precision: Precision | None = Field(description="auto takes bf16 where the processor multiplies it fast")
    threads: int | None = Field(
        ge=1, le=4096, description="CPU threads of each process; null for all cores, shared by this machine's processes"
    )
    embedding: Literal["dense", "sparse"] | None = Field(
        description="sparse: a step updates the rows of item and user tables that it used, and no others"
    )
    table: Literal["replicated", "sharded"] | None = Field(
        description="of several processes: each holds the tables of items and users whole, or some of their rows alone"
    )
    compile: bool | Literal["graphs"] | None = Field(
        description="compile the model's forward and backward (needs a C++ compiler); graphs: as CUDA graphs too"
    )
    log: Literal["auto", "device", "host"] | None = Field(
        description="where the events lie that batches are cut from: device, in the GPU's memory; host, and batches "
        "are sent; auto: device, if an eighth of what is free there holds them. On a CPU all are the same"
    )
    kernels: bool | None = Field(description="fused kernels (CPU: C, CUDA: Triton); false: torch's own operations")


class EvaluationConfig(Settings):
    """How a model is measured."""

    cutoffs: tuple[Cutoff, ...] = Field(min_length=1, description="the k of HR@k, NDCG@k, MRR@k")
    batch_size: int = Field(ge=1, description="users encoded at once")
    memory_mb: int = Field(ge=1, description="memory budget of one block of scores")
    ranked_users: int | None = Field(
        ge=1, description="rank the corpus for at most this many users, the same ones every time; null for all"
    )
    beyond_accuracy: bool = Field(
        description="also measure what the top lists are like: coverage, novelty, diversity, ... (see seqrec metrics)"
    )
    test: Literal["once", "best", "all", "none"] = Field(
        description="when the test set is read: once, at a run's end (in a sweep: best); best: only that of a sweep's "
        "best job by validation, at the sweep's end; all: that of every job; none: never"
    )
    baselines: bool = Field(
        description="also score random, most popular, last-item Markov, item-to-item cosine, the transition graph (and "
        "the oracle)"
    )

    def changed(self, cutoffs: tuple[int, ...] | None, beyond_accuracy: bool | None) -> Self:
        """These settings, with other cutoffs and metrics where they are given."""
        asked = {"cutoffs": cutoffs, "beyond_accuracy": beyond_accuracy}
        return self.model_copy(update={name: value for name, value in asked.items() if value is not None})


class DataConfig(Settings):
    """The verbs `download` and `preprocess`: the data, and the protocol that is asked of them."""

    dataset: AnyDataset
    protocol: AnyProtocol
    data_dir: str = Field(description="folder of downloaded and preprocessed data")

    @model_validator(mode="after")
    def _protocol_fits(self) -> Self:
        protocol, name = self.protocol, self.protocol.name
        labels = getattr(self.dataset, "label_column", None)
        if protocol.needs_impressions and not self.dataset.logs_impressions:
            own = "; name its 0/1 labels in dataset.label_column, or" if hasattr(self.dataset, "label_column") else "; "
            raise ValueError(
                f"protocol={name} needs logged impressions, and dataset.source={self.dataset.source} has none{own} use "
                "protocol=positions or last"
            )
        if labels is not None and not protocol.needs_impressions:
            raise ValueError(
                f"dataset.label_column={labels}: protocol={name} draws negatives and does not read the log's own "
                "labels; set protocol=impressions (or impressions_by_user), which does"
            )
        if protocol.one_negative and protocol.click_negatives != 1:
            raise ValueError(
                f"protocol={name} has its own candidates, one negative or those logged; set protocol.click_negatives=1 "
                f"(it is {protocol.click_negatives})"
            )
        return self


class TrainConfig(DataConfig):
    """The verb `train`."""

    model: AnyModel
    objective: AnyObjective
    trainer: TrainerConfig
    hardware: HardwareConfig
    evaluation: EvaluationConfig
    auto: dict[str, Literal["auto", "fast", "thorough"]] = Field(
        description="settings that were written so, until the data settle them; filled in, not to be given"
    )
    run_dir: str | None = Field(description="the run's folder; null for a dated one under outputs/")
    resume: str | None = Field(description="a run folder to go on with, from its last checkpoint")
    start_from: str | None = Field(
        description="a run folder whose settings and best weights a new run on later data begins with; what the data "
        "have new (items, users) begins as the mean of what is like it"
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        unset = [name for name, value in self.hardware if value is None and name != "threads"]
        if unset:
            raise ValueError(f"hardware.{unset[0]} may be null in evaluate and export only")
        from seqrec_cli.metrics.table import LOSS, monitored_metric  # numpy: not before there is something to check

        try:
            if self.trainer.monitor != LOSS:
                monitored_metric(self.trainer.monitor, self.evaluation.cutoffs, lists=self.evaluation.beyond_accuracy)
        except ValueError as error:
            raise ValueError(f"trainer.monitor: {error}") from error
        if self.evaluation.beyond_accuracy and self.protocol.candidates != "full":
            raise ValueError(
                "evaluation.beyond_accuracy=true: lists are of the whole corpus, and "
                f"protocol.candidates={self.protocol.candidates}; set one of the two back"
            )
        self._objective_can_train_the_model()
        self._context_is_read()
        self._weights_are_read()
        self._closed_form_takes_no_steps()
        rows_fit(self)
        self._micro_batches_change_nothing()
        if self.hardware.compile and self.model.not_compiled:
            raise ValueError(
                f"hardware.compile={str(self.hardware.compile).lower()}: model={self.model.name} "
                f"{self.model.not_compiled}: set it to false"
            )
        self._batches_can_be_shared()
        self._candidates_fit()
        texts_are_there(self)
        rows_can_be_sparse(self)
        tables_can_be_sharded(self)
        steps_are_trained(self)
        own_answers_can_be_read(self)
        return self

    def _objective_can_train_the_model(self) -> None:
        model, objective = self.model.capabilities, self.objective.capabilities
        pair = f"objective={self.objective.name} cannot train model={self.model.name}"
        if model.family not in objective.families:
            raise ValueError(f"{pair} ({model.family}); it trains: {', '.join(sorted(objective.families))}")
        if self.model.name == "ensemble" and getattr(self.objective, "sampling", "") == "cross_batch":
            raise ValueError(
                "objective.sampling=cross_batch remembers the item vectors of one model, and model=ensemble has "
                "several; use objective.sampling=in_batch, or a single encoder"
            )
        if model.family != "encoder" or objective.causal is None:
            return
        if not objective.causal and model.causal:
            raise ValueError(f"{pair}, which never sees what follows a masked event; use objective=next_item")
        windows = self.objective if isinstance(self.objective, WindowConfig) else None
        if objective.causal and self.model.looks_ahead and not (windows and windows.one_a_row):
            prefixes = "" if windows is None or windows.needs_more_targets else "objective.window=prefixes or "
            remedy = f"use {prefixes}{self.model.looks_ahead}"
            raise ValueError(f"{pair}, which would see the event it is to predict; {remedy}")

    def _context_is_read(self) -> None:
        if self.dataset.time_context and not self.model.reads_context:
            remedy = " or set model.context" if "context" in type(self.model).model_fields else ""
            raise ValueError(f"dataset.time_context: model={self.model.name} reads no context; set it to []{remedy}")

    def _weights_are_read(self) -> None:
        if self.dataset.weighs_events and not self.objective.capabilities.weights:
            raise ValueError(
                f"dataset.weight_column: objective={self.objective.name} counts all targets alike; set it to null"
            )

    def _closed_form_takes_no_steps(self) -> None:
        if self.model.capabilities.family != "closed_form":
            return
        self.hardware.refuse_several(self.model.name)
        if self.trainer.seeds > 1:
            raise ValueError(
                f"trainer.seeds: model={self.model.name} is fitted in closed form, every seed gives the same; "
                "set it to 1"
            )
        for name in ("batch_tokens", "micro_batch_tokens", "plateau", "ema", "swa_epochs"):
            if getattr(self.trainer, name) is not None:
                raise ValueError(
                    f"trainer.{name}: model={self.model.name} is fitted in closed form, in no steps; set it to null"
                )
        if self.trainer.monitor == "loss":
            raise ValueError(f"trainer.monitor=loss: model={self.model.name} is fitted in closed form and has no loss")
        if self.hardware.compile:
            raise ValueError(
                f"hardware.compile={str(self.hardware.compile).lower()}: model={self.model.name} is fitted in closed "
                "form; set it to false"
            )

    def _micro_batches_change_nothing(self) -> None:
        found = self.model.batch_statistics | self.objective.batch_statistics
        if self.trainer.micro_batch_tokens is not None and found:
            raise ValueError(
                f"trainer.micro_batch_tokens={self.trainer.micro_batch_tokens}: model={self.model.name} with "
                f"{' and '.join(found)} learns from statistics of the whole batch, which a micro-batch does not have; "
                f"set {' '.join(found.values())}, or trainer.micro_batch_tokens=null and a smaller trainer.batch_size"
            )

    def _batches_can_be_shared(self) -> None:
        if self.objective.needs_one_process and self.hardware.processes not in (None, 1):
            raise ValueError(
                f"hardware.processes={self.hardware.processes}: {self.objective.needs_one_process}, or leave "
                "hardware.processes out"
            )

    def _candidates_fit(self) -> None:
        protocol, objective = self.protocol, self.objective
        if objective.needs_impressions and not protocol.needs_impressions:
            raise ValueError(
                f"objective={objective.name} corrects logged lists, and protocol={protocol.name} draws its candidates; "
                "use protocol=impressions or impressions_by_user, or objective=click"
            )
        if not isinstance(objective, PrefixConfig):
            return
        if objective.redraw and protocol.name != "positions":
            own = "has its own training candidates" if protocol.fixes_training_rows else "draws them anew every epoch"
            raise ValueError(f"objective.redraw=true: protocol={protocol.name} {own}; set it to false")
        if protocol.fixes_training_rows and not objective.redraw and objective.negatives != 1:
            more = " or objective.redraw=true" if protocol.name == "positions" else ""
            raise ValueError(
                f"objective.negatives={objective.negatives}: protocol={protocol.name} has its own training "
                f"candidates; set objective.negatives=1{more}"
            )
