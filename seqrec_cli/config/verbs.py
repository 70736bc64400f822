"""The table of verbs: what the overview, a verb's help, completion and the command line know of each.

It needs the standard library alone, so that `seqrec --help` is there at once: a record is named, and imported when a
configuration is validated. The verb `foo` runs `commands/foo.py`, from the numbers of `conf/foo.yaml`.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from seqrec_cli.config.errors import SeqrecError, nearest

if TYPE_CHECKING:
    from seqrec_cli.config.settings import Settings


class Verb(NamedTuple):
    """What `seqrec NAME` does and may be told."""

    name: str
    summary: str
    record: str  # the class of its settings: a module of `config` and a name in it
    examples: tuple[str, ...]
    word: str | None = None  # the key that a word without `=` gives: `seqrec metrics ndcg` is `metrics name=ndcg`
    called: Mapping[
        str, str
    ] = {}  # keys by what else they may be called: a group's name, which Hydra would take for it

    def in_full(self, text: str) -> str:
        """An override with its key: for `leaderboard` a word is `folder='WORD'`, and `model=din` is `models=din`."""
        key, equals, value = text.partition("=")
        if equals:
            return f"{self.called.get(key, key)}={value}"
        if self.word is None or text[:1] in "+~":
            return text
        escaped = text.replace("\\", "\\\\").replace("'", "\\'")
        return f"{self.word}='{escaped}'"

    def all_in_full(self, texts: Sequence[str]) -> list[str]:
        """The overrides of a command line, with their keys. Raises SeqrecError for a second word without `=`."""
        words = [text for text in texts if "=" not in text and text[:1] not in ("+", "~")]
        if self.word is not None and len(words) > 1:
            raise SeqrecError(f"{' '.join(words)}: give one word, it is the {self.word}; run it once for each")
        return [self.in_full(text) for text in texts]

    def settings(self) -> "type[Settings]":
        """The class of the verb's record."""
        module, _, name = self.record.partition(".")
        found: type[Settings] = getattr(importlib.import_module(f"seqrec_cli.config.{module}"), name)
        return found


# Of the block `tune`, by their short names.
TUNE_SETTINGS: tuple[str, ...] = (
    "sampler",
    "pruner",
    "trials",
    "minutes",
    "epochs",
    "workers",
    "storage",
    "keep",
    "test",
)
TUNE_SETTINGS += tuple(f"horizon.{name}" for name in ("epochs", "factor", "checks", "agreement"))
TUNE_SETTINGS += tuple(
    f"adviser.{name}" for name in ("endpoint", "model", "key_variable", "timeout", "longest", "give_up")
)

VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "download",
            "fetch a dataset's raw file",
            "records.DownloadConfig",
            ("seqrec download dataset=ml-1m", "seqrec download dataset=ml-1m dataset.archive=ml-1m.zip"),
        ),
        Verb(
            "preprocess",
            "turn the raw file into the packed log (downloads first if needed)",
            "records.PreprocessConfig",
            ("seqrec preprocess dataset=ml-1m", "seqrec preprocess dataset=ml-1m dataset.user_core=5"),
        ),
        Verb(
            "plan",
            "what training would take: parameters, memory, FLOPs, time (takes the settings of train)",
            "records.PlanConfig",
            ("seqrec plan", "seqrec plan dataset=ml-1m model=sasrec model.embed_dim=256"),
        ),
        Verb(
            "train",
            "fit a model, choose on validation, measure once on test (preprocesses first if needed)",
            "schema.TrainConfig",
            (
                "seqrec train",
                "seqrec train dataset=ml-1m model=sasrec trainer.lr=5e-4 run_dir=runs/first",
                "seqrec train -m model=sasrec,bst trainer.seed=0,1,2",
                "seqrec train resume=runs/first",
            ),
        ),
        Verb(
            "tune",
            "search a space of settings by validation, many runs in one study (takes the settings of train)",
            "tuning.TuneConfig",
            (
                "seqrec tune dataset=ml-100k model=sasrec trials=40 run_dir=studies/first",
                "seqrec tune dataset=ml-100k model=sasrec trials=80 run_dir=studies/first",
                "seqrec tune model=din space=din sampler=random pruner=none minutes=30 workers=2",
            ),
            called={name: f"tune.{name}" for name in TUNE_SETTINGS},
        ),
        Verb(
            "evaluate",
            "repeat a run's measurement from its checkpoint",
            "records.EvaluateConfig",
            (
                "seqrec evaluate ckpt=runs/first",
                "seqrec evaluate ckpt=runs/first 'cutoffs=[1,10,100]' beyond_accuracy=true",
                "seqrec evaluate retriever=runs/sasrec ranker=runs/din retrieved=500 split=val",
            ),
        ),
        Verb(
            "metrics",
            "every metric: what it says, what it needs; in full: seqrec metrics NAME",
            "records.MetricsConfig",
            ("seqrec metrics", "seqrec metrics ndcg"),
            word="name",
        ),
        Verb(
            "compare",
            "runs of one protocol side by side, and whether their difference is more than chance",
            "records.CompareConfig",
            (
                "seqrec compare 'runs=[runs/first,runs/second]'",
                "seqrec compare 'runs=[runs/a,runs/b]' segments=history:4 output=compared",
                "seqrec compare log=experiment output=compared",
            ),
        ),
        Verb(
            "leaderboard",
            "all runs under a folder, those of one protocol together, with intervals",
            "records.LeaderboardConfig",
            ("seqrec leaderboard", "seqrec leaderboard outputs sort=mrr dataset=ml-1m output=board"),
            word="folder",
            called={"model": "models", "dataset": "datasets"},
        ),
        Verb(
            "audit",
            "what a dataset and its split hide: leaks, order, popularity, shortcuts (trains nothing)",
            "audit.AuditConfig",
            ("seqrec audit dataset=ml-100k", "seqrec audit ckpt=runs/first run_dir=runs/first-audit"),
        ),
        Verb(
            "rollout",
            "several events from a model's own answers, beside what came and beside its plain top n",
            "rollout.RolloutConfig",
            ("seqrec rollout ckpt=runs/first steps=10", "seqrec rollout ckpt=runs/first by=beam width=5"),
        ),
        Verb(
            "counterfactual",
            "what a run's order of logged lists would have earned, though another one was shown",
            "counterfactual.CounterfactualConfig",
            (
                "seqrec counterfactual ckpt=runs/first",
                "seqrec counterfactual ckpt=runs/first outcome=runs/second clip=20 run_dir=runs/first-order",
            ),
        ),
        Verb(
            "exposure",
            "lists that show owners in proportion to what they interact, and what a run loses by it",
            "exposure.ExposureConfig",
            (
                "seqrec exposure ckpt=runs/first",
                "seqrec exposure ckpt=runs/first keep=0.5 run_dir=runs/first-fair",
            ),
        ),
        Verb(
            "export",
            "write a trained model as a program that needs no seqrec",
            "export.ExportConfig",
            (
                "seqrec export ckpt=runs/first format=torch",
                "seqrec export ckpt=runs/first format=onnx quantize=int8 out=runs/first-int8",
            ),
        ),
        Verb(
            "card",
            "a run's model card, and a picture of its model: what it is, how it was measured, its limits",
            "card.CardConfig",
            ("seqrec card ckpt=runs/first", "seqrec card ckpt=runs/first out=cards/first picture=true depth=1"),
        ),
        Verb(
            "ensemble",
            "trained encoders as one: the mean of their scores",
            "records.EnsembleConfig",
            ("seqrec ensemble 'ckpts=[runs/first,runs/second]'",),
        ),
        Verb(
            "recommend",
            "what a trained model recommends, to a user of the data, after a history, or to a file of them",
            "records.RecommendConfig",
            (
                "seqrec recommend ckpt=runs/first user=42",
                "seqrec recommend ckpt=runs/first 'history=[42,17,88]'",
                "seqrec recommend ckpt=runs/first input=requests.csv output=answers.parquet",
            ),
        ),
        Verb(
            "serve",
            "a trained model as an HTTP service",
            "records.ServeConfig",
            (
                "seqrec serve ckpt=runs/first",
                "seqrec serve ckpt=runs/first host=0.0.0.0 port=80 top=20",
                "seqrec serve 'runs=[runs/a,runs/b]' split=0.5 salt=autumn log=experiment",
            ),
        ),
        Verb(
            "explain",
            "which past events carried a recommendation, and whether that is true of the model",
            "explain.ExplainConfig",
            ("seqrec explain ckpt=runs/first user=42", "seqrec explain ckpt=runs/first user=42 item=7"),
        ),
    )
}


def verb_named(name: str) -> Verb:
    """The verb of that name; refused with the nearest one when there is none."""
    if name not in VERBS:
        raise SeqrecError(f"no verb '{name}'{nearest(name, VERBS)} (have: {', '.join(VERBS)})")
    return VERBS[name]
