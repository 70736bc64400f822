"""What each verb may be told. The record of `train`, of which a run consists, is in `schema.py`."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from seqrec_cli.config.online import ExperimentConfig
from seqrec_cli.config.protocol import Candidates
from seqrec_cli.config.recommending import FileSettings, ListSettings
from seqrec_cli.config.schema import Cutoff, DataConfig, HardwareConfig, TrainConfig
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.stages import CKPT, AnsweringConfig, StagesConfig

Length = Annotated[int, Field(ge=1)]
Attributes = dict[str, str | int | float | tuple[str | int | float, ...]]


class PlanConfig(TrainConfig):
    """The verb `plan`: what it plans is the `train` of the same settings."""


class RestoringConfig(Settings):
    """A verb that begins with a trained model. Everything not named here is restored from the run."""

    ckpt: str = Field(description=CKPT)
    archive: str | None = Field(description="the raw file, if it has moved since the run")
    data_dir: str | None = Field(description="folder of preprocessed data; null for the run's own")


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class EvaluateConfig(StagesConfig):
    """The verb `evaluate`."""

    split: Literal["val", "test"] = Field(description="which held-out events are ranked")
    cutoffs: tuple[Cutoff, ...] | None = Field(
        min_length=1, description="the k of metrics at k, such as '[1,10,100]'; null: as trained"
    )
    beyond_accuracy: bool | None = Field(
        description="also measure what the top lists are like (see seqrec metrics); null: as trained"
    )
    candidates: Annotated[tuple[Candidates, ...], BeforeValidator(_listed)] | None = Field(
        min_length=1,
        description="what targets are ranked among, one or several: full, or sampled items, for comparison only, as "
        "uniform:100 or popularity:100; null: as the run was measured",
    )
    run_dir: str | None = Field(description="folder for metrics.json and ranks; null to print only")
    history: tuple[Length, ...] | None = Field(
        min_length=1, description="also measure with these numbers of latest events alone: '[10,20,50]'; null: no"
    )
    ranker_alone: bool = Field(description="of two stages, also measure what the ranker makes of the whole corpus")
    hardware: HardwareConfig

    @model_validator(mode="after")
    def _stages_rank_the_corpus(self) -> Self:
        if self.ranker is None and self.ranker_alone:
            raise ValueError("ranker_alone=true goes with retriever=RUN and ranker=RUN; leave it out")
        sampled = [kind for kind in self.candidates or () if kind != "full"]
        if self.ranker is not None and sampled:
            raise ValueError(
                f"candidates={sampled[0]}: sampled items are given and not retrieved, so two stages are measured on "
                "the whole corpus alone; leave it out (how many the retriever finds is retrieved=NUMBER)"
            )
        return self


class EnsembleConfig(Settings):
    """The verb `ensemble`. Everything not named here is restored from the runs."""

    ckpts: tuple[str, ...] = Field(
        min_length=2, description="run folders or checkpoint files of encoders: '[runs/a,runs/b]'"
    )
    archive: str | None = Field(description="the raw file, if it has moved since the runs")
    data_dir: str | None = Field(description="folder of preprocessed data; null for the runs' own")
    run_dir: str | None = Field(description="the ensemble's folder; null for a dated one under outputs/")
    test: Literal["once", "best", "all", "none"] = Field(
        description="when the ensemble's test set is read, as evaluation.test of train; its members' never is"
    )
    hardware: HardwareConfig


SEGMENTS = r"^(history:[1-9]\d*|popularity:[1-9]\d*|cold|cold_users|user\.[^\s:]+)$"


class CompareConfig(Settings):
    """The verb `compare`."""

    runs: tuple[str, ...] | None = Field(
        min_length=2, description="run folders, the one to compare with first: '[runs/a,runs/b]'; null with log"
    )
    log: str | None = Field(
        description="instead of runs: the log of an online experiment, a file or a folder (log= of serve)"
    )
    split: Literal["val", "test"] = Field(description="which held-out events")
    metrics: tuple[str, ...] = Field(
        min_length=1, description="metrics of ranks, such as ndcg@10 or mrr, and of click scores: auc, gauc, logloss"
    )
    segments: tuple[str, ...] = Field(
        description="parts to tell apart too: history:4 (or 4), popularity:3, cold (targets), cold_users, "
        "user.ATTRIBUTE; several as '[cold,user.gender]'"
    )
    may_differ: tuple[str, ...] = Field(
        description="fields of the protocol in which the runs may differ: '[chosen_by,max_length]'"
    )
    resamples: int = Field(ge=100, description="resamples of the users (bootstrap)")
    seed: int = Field(ge=0, description="seed of the resamples")
    output: str | None = Field(description="folder for compare.csv and compare.html; null to print only")
    data_dir: str | None = Field(
        description="folder of preprocessed data, for segments that need them; null for the first run's own"
    )

    @model_validator(mode="after")
    def _runs_or_a_log(self) -> "CompareConfig":
        if self.runs is None and self.log is None:
            raise ValueError("runs is missing: give it as 'runs=[A,B]', or the log of an online experiment as log=FILE")
        if self.runs is not None and self.log is not None:
            raise ValueError("runs and log exclude each other: runs are compared by what they stored, a log by itself")
        return self

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        from seqrec_cli.metrics.kinds import RankMetric
        from seqrec_cli.metrics.table import parse_metric  # numpy: not before there is something to check

        for name in metrics:
            try:
                metric, _ = parse_metric(name)
            except ValueError as error:
                raise ValueError(f"metrics: {error}") from error
            if not isinstance(metric, RankMetric) and name not in ("auc", "gauc", "logloss"):
                raise ValueError(f"metrics: {name} is no mean over users that runs store, so it has no interval")
        return metrics

    @field_validator("segments", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """One stands for a list of one; a number for so many parts by history (1: none)."""
        several = value if isinstance(value, list | tuple) else [value]
        texts = [f"history:{each}" if isinstance(each, int) else each for each in several]
        for each in texts:
            if not isinstance(each, str) or not re.match(SEGMENTS, each):
                raise ValueError(
                    f"segments: {each!r} is no way to part the users; have: history:4, popularity:3, cold, cold_users, "
                    "user.ATTRIBUTE"
                )
        return tuple(each for each in texts if each != "history:1")


class LeaderboardConfig(Settings):
    """The verb `leaderboard`."""

    folder: str = Field(description="where the runs lie, at any depth")
    split: Literal["val", "test"] = Field(description="which held-out events")
    metrics: tuple[str, ...] | None = Field(description="columns; null: those of the tables of train")
    sort: str = Field(description="the metric that orders the runs of a protocol, the best first")
    models: tuple[str, ...] | None = Field(description="these models only, as din or '[din,bst]'; null for all")
    datasets: tuple[str, ...] | None = Field(description="these datasets only; null for all")
    where: dict[str, str | int | float | bool | None] | None = Field(
        description="runs whose protocol or settings have these values: '{max_length: 50, trainer.seed: 0}'"
    )
    may_differ: tuple[str, ...] = Field(description="fields of the protocol that tell no groups apart")
    output: str | None = Field(description="folder for leaderboard.md, .csv and .html; null to print only")

    @field_validator("models", "datasets", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class MetricsConfig(Settings):
    """The verb `metrics`."""

    name: str | None = Field(description="the metric to explain in full, such as ndcg; null: all, a line each")


class RequestConfig(Settings):
    """For whom, knowing what: a verb that is asked about one user or history."""

    user: str | int | None = Field(description="the user's raw id; with a history, for models that know users")
    history: tuple[str | int, ...] | None = Field(
        description="raw item ids, the latest last; null: the user's events in the data"
    )
    times: tuple[int, ...] | None = Field(
        description="when the history's events happened, in seconds since 1970, for models that read it"
    )
    asked_at: int | None = Field(description="when the answer is for; null: at the latest event's time")
    context: dict[str, str | int | float] | None = Field(
        description="the request's context, for models that read it: '{device: mobile}'"
    )


class RecommendConfig(RequestConfig, AnsweringConfig, ListSettings, FileSettings):
    """The verb `recommend`."""

    top: int = Field(ge=1, description="how many items, the best first")
    repeats: bool | None = Field(
        description="items of the history may come back; null: as they were ranked (protocol.seen=keep: they may)"
    )
    attributes: Attributes | None = Field(
        description="read where nothing of the history is known: attributes of liked items, and the user's own: "
        "'{genres: [Comedy, Crime], age: 25}'; null: none"
    )
    item_attributes: dict[str, Attributes] | None = Field(
        description="attributes of items of the history that the data do not have: '{new: {genres: Comedy}}'"
    )


MOST_SERVED = 100  # items of an answer


class ServeConfig(ExperimentConfig):
    """The verb `serve`."""

    host: str = Field(description="the address to listen at; 0.0.0.0: at every one of this machine's")
    port: int = Field(ge=0, le=65535, description="the port; 0: one that is free")
    top: int = Field(ge=1, le=MOST_SERVED, description="how many items, where a request does not say (top_k)")
    history: int | None = Field(
        ge=1, description="events that the model reads at most, the latest; null: as many as it was trained on"
    )
    workers: int = Field(ge=1, le=256, description="processes that answer, each with its share of the cores")
    batch: int = Field(ge=1, description="requests that are scored together at most")
    wait_ms: float = Field(ge=0, le=1000, description="how long a request waits for others to be scored with, at most")
    waiting: int = Field(ge=1, description="requests under way at most, of all processes; others get status 503")
    timeout_s: float = Field(gt=0, le=3600, description="seconds until a request without an answer gets status 503")
    most_bytes: int = Field(ge=1024, le=2**30, description="bytes of a request's body; more get status 413")
    most_events: int = Field(ge=1, description="events of a request's history; more get status 422")
    most_candidates: int = Field(ge=1, description="candidates of a request; more get status 422")
    watch_s: float | None = Field(
        gt=0, description="seconds between looks at the checkpoint, to load a newer one; null: on SIGHUP alone"
    )
    state: str | None = Field(
        description="folder of the items that are added, changed and removed while the service runs (/items/{id}), of "
        "all its processes and the next ones; null: the items stay as they were trained"
    )
    item_vectors: str | None = Field(
        description="file of the items' text vectors (.parquet, .csv, .npz), from which with `state` vectors of added "
        "items can be estimated; null: dataset.item_vectors of the run, where it has any"
    )
    most_added: int = Field(ge=1, description="items that may be added; more get status 422")
    compact_at: int = Field(
        ge=2, description="lines of the journal of changed items from which on those without effect are taken out of it"
    )
    index: Literal["none", "flat", "ivf"] = Field(
        description="how the best items are found: none (all are scored), or by FAISS: flat (the same) or ivf"
    )
    page: bool = Field(description="a web page at `/`, to try the model in a browser")
    beside: str | None = Field(
        description="a second run folder or checkpoint with the same items, beside the first on the page: `run: B`"
    )
    most_left_out: int = Field(
        ge=0,
        description="events of a history that POST /explain leaves out in turn, the latest; 0: it refuses",
    )

    @field_validator("index", mode="before")
    @classmethod
    def _removes(cls, index: Any) -> Any:
        if index == "hnsw":
            raise ValueError("index=hnsw: its graph removes nothing, and a service's items may go; take flat or ivf")
        return "none" if index is None else index

    @property
    def has_page(self) -> bool:
        """Not in an experiment, where looking at lists would count as showing them."""
        return self.page and self.runs is None and self.log is None

    @model_validator(mode="after")
    def _experiments_are_plain(self) -> "ServeConfig":
        of_one = {"beside": self.beside, "state": self.state, "index": None if self.index == "none" else self.index}
        for name, value in of_one.items():
            if self.runs is not None and value is not None:
                raise ValueError(f"{name} is of a service with one run; leave it out, or runs")
        if self.log is not None and self.beside is not None:
            raise ValueError("beside is of the page, which an experiment's log leaves out; leave out one of the two")
        return self

    @model_validator(mode="after")
    def _with_state(self) -> "ServeConfig":
        if self.item_vectors is not None and self.state is None:
            raise ValueError("item_vectors: estimates vectors of added items, which need state=FOLDER")
        return self


class DownloadConfig(DataConfig):
    """The verb `download`."""


class PreprocessConfig(DataConfig):
    """The verb `preprocess`."""

    verify: bool = Field(
        description="read all bytes of a folder that is ready, and compare checksums; false: once a machine"
    )
