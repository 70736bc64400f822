"""Every option of conf/trainer and conf/hardware makes a valid record."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from seqrec_cli.config.schema import HardwareConfig, TrainerConfig
from tests.shipped import shipped

CONF = Path(__file__).resolve().parents[2] / "conf"


def group(name: str, option: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain = OmegaConf.to_container(compose(f"{name}/{option}"), resolve=True)
    return plain[name]  # type: ignore[index,call-overload,no-any-return]


@pytest.mark.parametrize("option", sorted(p.stem for p in (CONF / "trainer").glob("*.yaml")))
def test_trainers(option: str, recwarn: pytest.WarningsRecorder) -> None:
    cfg = TrainerConfig.from_plain(shipped("trainer", option))  # words as the numbers of a middling log
    assert cfg.monitor == {"next_item": "ndcg@10", "click": "auc", "auto": "ndcg@10"}.get(option, cfg.monitor)
    assert not recwarn.list


@pytest.mark.parametrize("option", sorted(p.stem for p in (CONF / "hardware").glob("*.yaml")))
def test_hardware(option: str) -> None:
    cfg = HardwareConfig.from_plain(group("hardware", option))
    assert cfg.device == {"as_trained": None, "ddp": "auto"}.get(option, option)


def test_tiny_changes_trainer_settings_that_exist() -> None:
    tiny = OmegaConf.to_container(OmegaConf.load(CONF / "debug" / "tiny.yaml"))
    assert list(tiny) == ["trainer"]  # type: ignore[arg-type]
    cfg = TrainerConfig.from_plain({**group("trainer", "next_item"), **tiny["trainer"]})  # type: ignore[call-overload,index]
    assert cfg.max_steps is not None
    assert cfg.max_steps <= 20
