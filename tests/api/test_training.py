"""`train` in Python takes what the command line takes, and changes nothing of the process around it."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose as hydra_compose
from hydra import initialize
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import seqrec_cli
from seqrec_cli import SeqrecError, Trained
from seqrec_cli.api.overrides import as_overrides
from seqrec_cli.api.training import _record
from tests.api.conftest import TINY


@pytest.mark.parametrize(
    ("settings", "overrides"),
    [
        ({"model": "bst", "trainer": {"lr": 1e-3, "ema": None}}, ["model=bst", "trainer.lr=0.001", "trainer.ema=null"]),
        ({"model": {"max_length": 20, "name": "din"}}, ["model=din", "model.max_length=20"]),
        ({"evaluation.baselines": True, "a.b": (5, np.float32(0.5))}, ["evaluation.baselines=true", "a.b=[5,0.5]"]),
        ({"run_dir": Path("a b/it's"), "data_dir": "null"}, [r"run_dir='a b/it\'s'", "data_dir='null'"]),
        ({"dataset.name": "1e5", "dataset.delimiter": "\\"}, ["dataset.name='1e5'", r"dataset.delimiter='\\'"]),
    ],
)  # fmt: skip
def test_a_mapping_is_the_command_line_in_python(settings: dict[str, Any], overrides: list[str]) -> None:
    assert as_overrides(settings) == overrides


@pytest.mark.parametrize(
    "text", ["a b", "it's", "a,b", "null", "True", "1e5", r"back\slash", r"end\\", "x=y", "[1]", "ü"]
)
def test_any_text_comes_through_as_it_is(text: str) -> None:
    record = _record({"dataset": "csv", "dataset.archive": text, "data_dir": text}, None, None)
    assert (record.data_dir, record.dataset.archive) == (text, text)  # type: ignore[attr-defined]


def test_overrides_a_mapping_and_a_configuration_train_the_same(base: Path, sasrec: Trained) -> None:
    overrides = [*as_overrides(TINY), f"data_dir={base / 'data'}"]
    listed = seqrec_cli.train(overrides, dataset="synthetic", run_dir=base / "listed", verbose=False)
    whole = seqrec_cli.train(sasrec.config, run_dir=base / "whole", verbose=False)
    openings = [run.metrics.pop("test_opened") for run in (sasrec, listed, whole)]
    assert openings == sorted(openings)
    same = [{**run.metrics, "test_opened": None} for run in (sasrec, listed, whole)]
    assert same[0] == same[1] == same[2]
    assert sasrec.config == whole.config
    config = sasrec.config
    config["trainer"]["seed"] = 9
    assert sasrec.config["trainer"]["seed"] != 9
    other = seqrec_cli.train(config, run_dir=base / "other", verbose=False)
    assert (other.config["trainer"]["seed"], other.metrics != sasrec.metrics) == (9, True)


@pytest.mark.parametrize(
    ("settings", "told", "says"),
    [
        (["model=sasreck"], {}, "sasreck.*did you mean 'sasrec'"),
        ({"trainer.lrr": 1}, {}, "trainer.lrr.*did you mean 'trainer.lr'"),
        ({"trainer": {"lr": "fast"}}, {}, "trainer.lr=fast"),
        ("model=sasrec", {}, "^settings: give a list of overrides .* or a mapping, not 'model=sasrec'$"),
        ([3], {}, "^settings: 3 is no override; give text"),
        ({"trainer.lr": object()}, {}, "^trainer.lr: a object is no setting"),
        (["dataset=synthetic"], {"dataset": "ml-1m"}, "^dataset is given twice"),
        ([], {"dataset": "ml-2m"}, "ml-2m"),
        ([], {"dataset": pd.DataFrame()}, "^dataset: a DataFrame is none yet; make one of a frame: seqrec_cli.dataset"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings: Any, told: dict[str, Any], says: str) -> None:
    with pytest.raises(SeqrecError, match=says) as refusal:
        seqrec_cli.train(settings, **told)
    assert "\n" not in str(refusal.value)


def test_a_configuration_is_refused_where_it_is_wrong(sasrec: Trained) -> None:
    config = sasrec.config
    config["trainer"]["lrr"] = 1
    with pytest.raises(SeqrecError, match=r"trainer\.lrr"):
        seqrec_cli.train(config)
    with pytest.raises(SeqrecError, match=r"^dataset=ml-1m: a whole configuration has its dataset; change it there$"):
        seqrec_cli.train(sasrec.config, dataset="ml-1m")
    with pytest.raises(TypeError, match="unexpected keyword"):
        seqrec_cli.train(learning_rate=3)  # type: ignore[call-arg]


def test_the_process_is_afterwards_as_before(base: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "mine.yaml").write_text("a: ${mine:}\n")
    OmegaConf.register_new_resolver("mine", lambda: 3)
    threads, kind = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(2)
    torch.manual_seed(5)
    drawn = torch.get_rng_state()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with initialize(version_base="1.2", config_path=os.path.relpath(tmp_path, Path(__file__).parent)):
            mine = GlobalHydra.instance().hydra
            OmegaConf.register_new_resolver("now", lambda: "mine", replace=True)  # Hydra has one of this name
            seqrec_cli.train({**TINY, "data_dir": base / "data"}, run_dir=tmp_path / "run", verbose=False)
            assert GlobalHydra.instance().hydra is mine
            assert OmegaConf.create({"x": "${now:}"}).x == "mine"
            assert hydra_compose("mine").a == 3
        assert (torch.get_num_threads(), torch.get_default_dtype()) == (2, kind)
        assert torch.equal(torch.get_rng_state(), drawn)
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    finally:
        torch.set_num_threads(threads)
        OmegaConf.clear_resolver("mine")
        OmegaConf.clear_resolver("now")
    assert capsys.readouterr().out == ""


def test_an_interrupted_run_is_gone_on_with(base: Path, tmp_path: Path) -> None:
    settings = {**TINY, "trainer.max_epochs": 400, "trainer.patience": None, "data_dir": base / "data"}
    run_dir = tmp_path / "run"

    def stop() -> None:
        while not (run_dir / "last.pt").exists():
            if done.wait(0.02):
                return
        os.kill(os.getpid(), signal.SIGINT)

    done = threading.Event()
    watcher = threading.Thread(target=stop)
    watcher.start()
    try:
        with pytest.raises(KeyboardInterrupt, match=r"seqrec_cli.train\(\['resume="):
            seqrec_cli.train(settings, run_dir=run_dir, verbose=False)
    finally:
        done.set()
        watcher.join()
    epochs = json.loads((run_dir / "manifest.json").read_text())["fit"]["epochs"]
    resumed = seqrec_cli.train([f"resume={run_dir}", f"trainer.max_epochs={epochs + 1}"], verbose=False)
    assert resumed.path == run_dir
    assert set(resumed.metrics) >= {"val", "test"}
