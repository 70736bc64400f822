"""Every setting of `seqrec train` does what it says, from the command line down: see the table, `rows.py`.

A run with the setting differs from the run without in the part it acts on, and in nothing before: a setting that gets
lost on its way, or that reaches another place, fails here. A new setting without a line in the table does too.
"""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from seqrec_cli.config.describe import settings_in
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import GROUPS, config_class, names
from seqrec_cli.config.schema import TrainConfig
from tests.settings import outcomes, rows, rows_of_data, small_files
from tests.settings.outcomes import first_difference, outcome, run_of
from tests.settings.rows import Row
from tests.settings.rows_of_models import MODELS, OF_ENCODERS, OF_MODELS, OF_RANKERS
from tests.shipped import shipped

# Small and fast, and no number that a table of `conf/` may change. Both runs of a line have these.
SMALL = {
    "max_length": "6",
    "embed_dim": "8",
    "dropout": "0.2",
    "attention_dropout": "0.1",
    "heads": "2",
    "ffn_dim": "8",
    "mlp": "[8, 6]",
    "hidden": "10",
    "states": "8",
    "wide_buckets": "50",
    "half_life": "5.0",
}
BASE = (
    "hardware.device=cpu",
    "hardware.precision=fp32",
    "hardware.threads=1",
    "evaluation.test=none",
    "evaluation.baselines=false",
    "evaluation.ranked_users=null",
)
TRAINED = (
    "trainer.batch_size=8",
    "trainer.bucket_by_length=true",
    "trainer.lr=0.01",
    "trainer.betas=[0.9, 0.98]",
    "trainer.weight_decay=0.01",
    "trainer.warmup_steps=1",
    "trainer.max_epochs=2",
    "trainer.patience=null",
    "trainer.evaluate_every=1",
)
BRIEF = (*TRAINED, "trainer.max_epochs=1", "trainer.max_steps=3")
RANKER_DATA = (
    "dataset.item_attribute_columns=[kind]",
    "dataset.user_attribute_columns=[plan]",
    "dataset.context_columns=[place]",
)
OF_FAMILY = {"encoder": OF_ENCODERS, "generator": OF_ENCODERS, "ranker": OF_RANKERS, "closed_form": {}}
FILES = Path(outcomes.FOLDER.name)


def family(model: str) -> str:
    return config_class("model", model).capabilities.family  # type: ignore[attr-defined,no-any-return]


def model(name: str) -> tuple[str, ...]:
    """A small model on the small log."""
    fields = config_class("model", name).model_fields
    small = [f"model.{key}={value}" for key, value in SMALL.items() if key in fields]
    for member in shipped("model", name)["members"] if "members" in fields else ():
        inside = [key for key in SMALL if key in config_class("model", member).model_fields and key != "max_length"]
        small += [f"model.members.{member}.{key}={SMALL[key]}" for key in inside]
    columns = RANKER_DATA if family(name) == "ranker" else ()
    return (f"model={name}", *data("csv"), *columns, *small)


OF_DATASET = {
    "csv": ("dataset.rating_column=rating", "protocol.click_negatives=3"),
    "amazon": ("dataset.category=Toys",),
    "synthetic": (
        *("dataset.users=40", "dataset.items=30", "dataset.categories=5", "dataset.successors=4"),
        *("dataset.min_events=4", "dataset.max_events=12"),
    ),
}


def brief(name: str) -> tuple[str, ...]:
    """Three steps, unless it takes none."""
    return () if family(name) == "closed_form" else BRIEF


def data(name: str) -> tuple[str, ...]:
    """A dataset on its small file."""
    archive = (
        () if name == "synthetic" else (f"dataset.archive={small_files.of(FILES, name)}", "dataset.duplicates=keep")
    )
    return (f"dataset={name}", *archive, *OF_DATASET.get(name, ()))


def _small(name: str) -> tuple[str, ...]:
    """The model's own settings, without its data."""
    return tuple(text for text in model(name) if text.startswith("model"))


TAUGHT = {
    "cloze": "bert4rec",
    "codes": "semantic",
    "click": "avgpool",
    "unbiased_click": "avgpool",
    "closed_form": "ease",
}  # by the objective; others: sasrec
TAUGHT_WITH = {"multi_step": ("model.steps_ahead=2",), "distil": ("objective.teacher={teacher}",)}
TAUGHT_ON = {"unbiased_click": "trivago"}  # by the objective; others: csv
ASKED_OF = {"impressions": "trivago", "impressions_by_user": "trivago"}  # by the protocol; others: csv
ASKED_WITH = {"given": (f"dataset.archive={small_files.split(FILES)}", "dataset.split_column=part")}


class Line(NamedTuple):
    group: str
    option: str  # of the group, or the group itself
    key: str
    row: Row | None

    @property
    def setting(self) -> str:
        return f"{self.group}.{self.key}" if self.group else self.key

    def given(self) -> tuple[str, ...]:
        """Overrides of both runs."""
        if self.group == "model":
            return (*brief(self.option), *model(self.option))
        if self.group == "objective":
            taught, on = TAUGHT.get(self.option, "sasrec"), TAUGHT_ON.get(self.option)
            parts = model(taught) if on is None else (*_small(taught), *data(on))
            return (*brief(taught), *parts, f"objective={self.option}", *TAUGHT_WITH.get(self.option, ()))
        if self.group == "protocol":
            small = [text for text in _small("sasrec") if text.startswith("model.")]
            log = [text for text in data(ASKED_OF.get(self.option, "csv")) if not text.startswith("protocol.")]
            return (*BRIEF, *small, *log, *ASKED_WITH.get(self.option, ()), f"protocol={self.option}")
        return data(self.option) if self.group == "dataset" else (*TRAINED, *model("sasrec"))


def tables(group: str, option: str) -> Mapping[str, Row | None]:
    """The rows of an option: its group's, and before them its own."""
    if group == "model":
        return OF_MODELS | OF_FAMILY[family(option)] | MODELS.get(option, {})
    if group == "objective":
        return rows.OF_WINDOWS | rows.OF_NEGATIVES | rows.OBJECTIVES.get(option, {})
    if group == "protocol":
        return rows_of_data.OF_PROTOCOLS | rows_of_data.PROTOCOLS.get(option, {})
    return rows_of_data.OF_DATASETS | rows_of_data.DATASETS.get(option, {})


def lines() -> Iterator[Line]:
    """A line for every setting there is."""
    for group in ("model", "objective", "protocol", "dataset"):
        for code in names(group):
            option = code.replace("_", "-") if group == "dataset" else code
            found = tables(group, option)
            for key in config_class(group, code).model_fields:
                if key != "name" or group == "dataset":  # elsewhere the name is the option
                    yield Line(group, option, key, found.get(key))
    of_all = {"trainer": rows.TRAINER, "hardware": rows.HARDWARE, "evaluation": rows.EVALUATION}
    for name, field in TrainConfig.model_fields.items():
        if name in of_all:
            kind = settings_in(field.annotation)
            assert kind is not None
            yield from (Line(name, name, key, of_all[name].get(key)) for key in kind.model_fields)
        elif name not in GROUPS:
            yield Line("", "run", name, None)


LINES = list(lines())


def test_every_setting_has_a_row() -> None:
    without = [line for line in LINES if line.row is None]
    told = [line for line in without if not rows.OTHERWISE.keys() & {line.setting, f"{line.option}-{line.setting}"}]
    assert not [f"no row for {line.setting} ({line.option})" for line in told], "add one to tests/settings/rows*.py"


def test_no_row_is_of_a_setting_that_is_gone() -> None:
    known = {line.setting for line in LINES} | {f"{line.option}-{line.setting}" for line in LINES}
    assert set(rows.OTHERWISE) <= known
    for group, of in (("model", MODELS), ("objective", rows.OBJECTIVES), ("protocol", rows_of_data.PROTOCOLS)):
        for option, found in of.items():
            assert {f"{group}.{key}" for key in found} <= {line.setting for line in LINES if line.option == option}


@pytest.mark.parametrize("line", [line for line in LINES if line.row], ids=lambda line: f"{line.option}-{line.setting}")
def test_a_setting_acts_where_it_says(line: Line) -> None:
    row = line.row
    assert row is not None
    files = {
        "{other}": small_files.of(FILES, line.option, 15) if line.setting == "dataset.archive" else FILES,
        "{odd}": small_files.odd(FILES),
        "{headerless}": small_files.csv(FILES, header=False),
        "{split}": small_files.split(FILES),
        "{items}": small_files.items(FILES),
        "{users}": small_files.users(FILES),
        "{pairs}": small_files.sequences(FILES, 15),
        "{vectors}": small_files.vectors(FILES),
    }
    if line.option == "distil":
        files |= {"{teacher}": teacher(0), "{another}": teacher(1)}
    given = tuple(filled(text, files) for text in (*line.given(), *row.given, *BASE))
    change = f"{line.setting}={filled(row.value, files)}"
    if row.acts_on == "refused":
        assert refused(given, None) != refused(given, change)
        return
    until = "measured" if row.same or row.too else row.acts_on
    without, changed = outcome(given, until), outcome(given, until, change)
    assert first_difference(without, changed, until) == row.acts_on
    for part in row.same:
        assert without[part] == changed[part], part
    for part in row.too:
        assert without[part] != changed[part], part


@functools.cache
def teacher(seed: int) -> Path:
    """The folder of a run on the small file."""
    return run_of((*BRIEF, *model("sasrec"), *BASE, f"trainer.seed={seed}"))


def filled(text: str, files: dict[str, Path]) -> str:
    for name, path in files.items():
        text = text.replace(name, str(path))
    return text


def refused(overrides: tuple[str, ...], change: str | None) -> bool:
    try:
        outcome(overrides, "candidates", change)
    except SeqrecError:
        return True
    return False
