"""Makes the pages `reference/config.md` and `reference/metrics.md` from the configuration's own records and the table
of metrics, so that they are never out of date."""

from typing import Any

from mkdocs.structure.files import File, Files
from omegaconf import OmegaConf

from seqrec_cli.config.compose import compose, groups
from seqrec_cli.config.describe import keys_of, value_in_words
from seqrec_cli.config.registry import config_class
from seqrec_cli.config.verbs import VERBS
from seqrec_cli.reporting.metric_listing import metrics_page

PAGE, METRICS_PAGE = "reference/config.md", "reference/metrics.md"
OPTIONS = {"dataset": "source", "model": "name", "objective": "name"}  # groups whose options have settings of their own
INTRODUCTION = """# Configuration

Every setting, its type and its default. A setting is given as `KEY=VALUE`, an option of a group as `GROUP=OPTION`;
`seqrec VERB --help` prints the same for the options in use. This page is generated from the code.

Defaults are those of `seqrec train` as it stands. A model names the objective and the trainer it wants, whose numbers
may differ: `seqrec train model=din --cfg job` prints what a run would have.
"""
METRICS_INTRODUCTION = """# Every metric

What `seqrec metrics NAME` prints: formula and source of each. How they are read, and what they cost:
[Metrics](../metrics.md). This page is generated from the code.
"""


def on_files(files: Files, config: Any) -> Files:
    """MkDocs calls it with the pages it found."""
    files.append(File.generated(config, PAGE, content=config_page()))
    files.append(File.generated(config, METRICS_PAGE, content=f"{METRICS_INTRODUCTION}\n{metrics_page()}"))
    return files


def config_page() -> str:
    """The page as Markdown."""
    plain = _plain("train", [])
    parts = [INTRODUCTION, "## Settings of a run\n"]
    rows = [key for key in keys_of(VERBS["train"].settings(), plain) if key.name.partition(".")[0] not in OPTIONS]
    parts.append(_table(rows, plain))
    for group, named_by in OPTIONS.items():
        parts.append(f"## {group.capitalize()}s\n")
        for option in groups()[group]:
            own = _plain("train", [f"{group}={option}"])
            record = config_class(group, own[group][named_by])
            keys = list(keys_of(record, own[group], f"{group}."))
            parts += [f"### {group}={option}\n", _table(keys, own)]
    parts.append("## Ready options\n")
    for group in sorted(set(groups()) - set(OPTIONS)):
        parts.append(f"- `{group}=`: " + ", ".join(f"`{option}`" for option in groups()[group]))
    parts.append("\n## Other verbs\n")
    for verb in VERBS.values():
        if verb.name not in ("train", "plan"):
            own = _plain(verb.name, [])
            parts += [f"### seqrec {verb.name}\n", f"{verb.summary[0].upper()}{verb.summary[1:]}.\n"]
            names = OPTIONS if "dataset" in own else ()
            rows = [key for key in keys_of(verb.settings(), own) if key.name.partition(".")[0] not in names]
            parts.append(_table(rows, own))
    return "\n".join(parts)


def _plain(verb: str, overrides: list[str]) -> dict[str, Any]:
    plain = OmegaConf.to_container(compose(verb, overrides))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _table(keys: list[Any], plain: dict[str, Any]) -> str:
    lines = ["| setting | default | type | |", "|---|---|---|---|"]
    for key in keys:
        value: Any = plain
        for part in key.name.split("."):
            value = value.get(part, "???") if isinstance(value, dict) else "???"
        default = "must be given" if value == "???" else f"`{value_in_words(value)}`"
        cells = (f"`{key.name}`", default, key.type(), key.description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
