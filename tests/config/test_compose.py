"""Composing: precedence, extra folders, and Hydra's global state left as it was."""

from pathlib import Path

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

from seqrec_cli.config.compose import choices, compose, compose_raw, conf_folder, groups
from seqrec_cli.config.errors import SeqrecError


def test_overrides_win_over_files() -> None:
    cfg = compose("train", ["dataset=ml-100k", "trainer.lr=0.5", "trainer=click"])
    assert cfg.trainer.lr == 0.5
    assert cfg.trainer.monitor == "auc"
    assert cfg.dataset.name == "ml-100k"
    assert "hydra" not in cfg


def test_null_is_a_value() -> None:
    assert compose("train", ["dataset=ml-100k", "run_dir=null"]).run_dir is None


def test_model_names_its_objective_and_the_command_line_wins() -> None:
    assert compose("train", ["dataset=ml-100k", "model=bst"]).objective.name == "click"
    assert compose("train", ["dataset=ml-100k", "model=bst", "objective=bce"]).objective.name == "bce"


def test_experiment_needs_no_plus_and_wins_over_the_model_but_not_over_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: bst\ntrainer:\n  lr: 0.25\n  seed: 7\n"
    )
    cfg = compose("train", ["dataset=ml-100k", "experiment=mine", "trainer.seed=8"], str(tmp_path))
    assert (cfg.model.name, cfg.trainer.lr, cfg.trainer.seed) == ("bst", 0.25, 8)


def test_extra_folder_with_a_space_and_a_quote(tmp_path: Path) -> None:
    folder = tmp_path / "it's mine"
    (folder / "hardware").mkdir(parents=True)
    (folder / "hardware" / "slow.yaml").write_text("device: cpu\nprecision: fp32\nthreads: 1\nembedding: dense\n")
    assert compose("train", ["dataset=ml-100k", "hardware=slow"], str(folder)).hardware.threads == 1
    assert "slow" in groups(str(folder))["hardware"]
    assert "slow" not in groups()["hardware"]


def test_choices_are_the_verbs_own_groups() -> None:
    chosen = choices(compose_raw("train", ["dataset=ml-100k"]))
    assert chosen["model"] == "sasrec"
    assert chosen["dataset"] == "ml-100k"
    assert not any("hydra" in group for group in chosen)


def test_hydra_is_left_as_it_was_even_after_an_error() -> None:
    before = GlobalHydra.instance().hydra
    with pytest.raises(SeqrecError):
        compose("train", ["nonsense=1"])
    assert GlobalHydra.instance().hydra is before


def test_composing_inside_a_running_composition() -> None:
    from hydra import initialize_config_dir

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), "outer", version_base="1.3"):
        running = GlobalHydra.instance().hydra
        assert compose("evaluate", ["ckpt=x"]).ckpt == "x"
        assert GlobalHydra.instance().hydra is running


def test_unknown_verb() -> None:
    with pytest.raises(SeqrecError, match="did you mean 'train'"):
        compose("trian", [])


def test_conf_is_found_inside_the_package_then_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "seqrec_cli"
    monkeypatch.setattr("seqrec_cli.config.compose.PACKAGE", package)
    with pytest.raises(SeqrecError, match="no conf/ folder"):
        conf_folder()
    for folder in (tmp_path / "conf", package / "conf"):
        folder.mkdir(parents=True)
        (folder / "train.yaml").touch()
        assert conf_folder() == folder


def inherited(folder: Path, entries: list[object]) -> dict[str, object]:
    """What the files of a list of defaults say of the same keys: of `folder`, or of `shared/` with `@_here_`."""
    found: dict[str, object] = {}
    for entry in entries:
        name, _, package = str(entry).partition("@")
        if isinstance(entry, str) and entry != "_self_" and package in ("", "_here_"):
            path = conf_folder() / f"{name[1:]}.yaml" if name.startswith("/") else folder / f"{name}.yaml"
            own = yaml.safe_load(path.read_text(encoding="utf-8"))
            found |= inherited(path.parent, own.pop("defaults", [])) | own
    return found


@pytest.mark.parametrize("group", ["shared", "dataset", "model", "objective", "trainer", "hardware"])
def test_a_default_stands_once(group: str) -> None:
    for path in sorted((conf_folder() / group).glob("*.yaml")):
        own = yaml.safe_load(path.read_text(encoding="utf-8"))
        above = inherited(path.parent, own.pop("defaults", []))
        assert [key for key in own if key in above and own[key] == above[key]] == [], path.name
