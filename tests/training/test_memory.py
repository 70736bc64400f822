"""Memory of a step: the estimate, the measurement, the optimizer's share, what is free, and the warning."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from configured import built, config
from training_toys import update

from seqrec_cli.config.registry import config_class, names
from seqrec_cli.kernels import registry
from seqrec_cli.training import memory
from seqrec_cli.training.memory import (
    StepMemory,
    bytes_of,
    estimated_memory,
    fixed_memory,
    group_left,
    in_bytes,
    measured_memory,
    memory_warning,
    shortage,
    system_left,
)
from seqrec_cli.training.optim import build_optimizer
from seqrec_cli.training.precision import Precision

CPU = Precision(torch.device("cpu"), "fp32")
TRAINED = [name for name in names("model") if config_class("model", name).capabilities.family != "closed_form"]
CASES = [
    *([f"model={name}"] for name in TRAINED),
    ["model=sasrec", "model.heads=4", "model.attention_dropout=0.2"],
    ["model=sasrec", "objective=bce"],
    ["model=sasrec", "objective=sampled_softmax", "objective.shared=position"],
    ["model=bst", "model.read_out=all", "model.blocks=2"],
    ["model=din", "model.unit_activation=sigmoid"],
]


@pytest.mark.parametrize("overrides", CASES, ids=lambda overrides: " ".join(overrides))
def test_the_estimate_is_more_than_is_needed(overrides: list[str]) -> None:
    """So that what it lets pass fits; but a batch of a few megabytes must not look like gigabytes."""
    model, objective, rows = built([*overrides, "trainer.batch_size=32"])
    batch = rows.largest()
    needed = measured_memory(model, objective, batch, precision=CPU, available=None)
    estimated = estimated_memory(model, objective, batch, precision=CPU)
    assert needed.activations < estimated.activations < 100 * needed.activations
    assert replace(estimated, activations=0, kept_free=0) == replace(needed, activations=0, kept_free=0)


@pytest.mark.parametrize("overrides", [["model=sasrec"], ["model=din"], ["model=bert4rec"]], ids=str)
def test_a_few_rows_tell_what_all_take(overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # Kernels pack rows, and fill the packed row up to a step (`PACKED_STEP`) that is longer than a few of these.
    monkeypatch.setattr(registry, "_PRODUCTS", "0")
    model, objective, rows = built([*overrides, "trainer.batch_size=40"])
    batch = rows.largest()
    whole = measured_memory(model, objective, batch, precision=CPU, available=None)
    estimate = estimated_memory(model, objective, batch, precision=CPU)
    short = measured_memory(model, objective, batch, precision=CPU, available=estimate.total - estimate.model)
    assert short.total == pytest.approx(whole.total, rel=0.25)
    assert short.activations > 0


@pytest.mark.parametrize("overrides", CASES[::3], ids=lambda overrides: " ".join(overrides))
def test_the_optimizer_takes_what_was_told(overrides: list[str]) -> None:
    model, objective, rows = built(overrides)
    cfg = config(overrides).trainer
    optimizer = build_optimizer(model, cfg)
    for trainable in model.trainable_models():
        objective.loss(trainable, rows.largest()).backward()
    update(torch.zeros((), requires_grad=True), optimizer, CPU.scaler(), lr=1e-3, clip_norm=None)
    states = [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    assert fixed_memory(model).optimizer == bytes_of(states)


def test_scratch_of_a_softmax_is_what_the_budget_or_the_targets_allow() -> None:
    _, objective, _ = built(["model=sasrec", "objective.chunk_mb=1"])
    scratch = [objective.scratch_bytes(2**16, targets, dtype=torch.float32, device=CPU.device) for targets in (3, 100)]
    assert scratch == [3 * 2**18, 2**20]  # a row of logits: 256 kB


def test_scratch_of_sampled_scores() -> None:
    def scratch(targets: int, *overrides: str) -> int:
        _, objective, _ = built(["model=sasrec", "objective=bce", *overrides])
        return objective.scratch_bytes(2**16, targets, dtype=torch.float32, device=CPU.device)

    assert scratch(3, "objective.negatives=256", "objective.shared=sequence") == 16 * 3 * 256
    assert scratch(2**20, "objective.negatives=256", "objective.shared=sequence") == 16 * 2**20
    assert scratch(3, "objective.negatives=4", "objective.shared=position") == 0  # their vectors are kept
    assert scratch(3, "objective.negatives=2048", "objective.shared=position") == 16 * 3 * (2**16 + 1)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The free memory, to be set."""
    found = [0]
    monkeypatch.setattr(memory, "available_memory", lambda device: found[0])
    return found


def test_no_step_is_tried_where_memory_is_plenty(free: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model, objective, rows = built(["model=sasrec"])
    cfg, tried = config(["model=sasrec"]), []
    monkeypatch.setattr(memory, "peak_bytes", lambda *given, **named: tried.append(given) or 0)
    estimate = estimated_memory(model, objective, rows.largest(), precision=CPU)
    free[0] = estimate.total - estimate.model
    assert memory_warning(model, objective, rows.largest(), precision=CPU, cfg=cfg) is None
    assert not tried
    free[0] -= 1
    assert memory_warning(model, objective, rows.largest(), precision=CPU, cfg=cfg) is None
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        (["model=sasrec", "trainer.batch_size=30"], "batch_size"),
        (["model=sasrec", "trainer.batch_tokens=90"], "batch_tokens"),
        (["model=bert4rec", "trainer.micro_batch_tokens=90"], "micro_batch_tokens"),
        (["model=din", "trainer.batch_size=96"], "batch_size"),
    ],
)
def test_the_warning_names_the_size_that_fits(words: list[str], setting: str) -> None:
    model, objective, rows = built(words)
    cfg = config(words)
    batch = memory.largest_part(rows.largest(), cfg.trainer)
    needed = measured_memory(model, objective, batch, precision=CPU, available=None)
    own = needed.total - needed.model
    assert shortage(needed, own, cfg, batch=batch) is None
    assert shortage(needed, None, cfg, batch=batch) is None
    free = own - (needed.activations + needed.kept_free) // len(batch) * 2  # two rows too many
    warning = str(shortage(needed, free, cfg, batch=batch))
    row = {"batch_tokens": batch.items_BL.shape[1], "micro_batch_tokens": batch.items_BL.shape[1]}.get(setting, 1)
    if batch.labels_BC is not None:
        row = int(batch.labels_BC.sum(1).max())
        assert row > 1  # several targets, which trainer.batch_size counts
    fits = (len(batch) - 2) * row
    assert warning.startswith("WARNING: ")
    assert f"trainer.{setting} (now {getattr(cfg.trainer, setting)}; {fits} fits) or model.max_length" in warning
    assert f"{in_bytes(free)} is free" in warning


def test_the_warning_where_no_batch_can_help() -> None:
    fixed = StepMemory(model=100, gradients=100, optimizer=200)
    cfg = config(["model=sasrec"])
    assert "lower model.embed_dim" in str(shortage(fixed, 399, cfg, batch=None))
    scratch = StepMemory(model=100, gradients=100, optimizer=200, loss_scratch=900)
    assert "lower objective.chunk_mb (now" in str(shortage(scratch, 1000, cfg, batch=None))


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_free_memory_of_the_system(tmp_path: Path) -> None:
    write(tmp_path, meminfo="MemTotal: 900 kB\nMemFree: 1 kB\nMemAvailable:   300 kB")
    assert system_left(tmp_path / "meminfo") == 300 * 1024
    assert system_left(tmp_path / "none") is None


def test_free_memory_of_control_groups(tmp_path: Path) -> None:
    """The nearest limit may be the parent's; caches count as free; `max` is no limit."""
    two = tmp_path / "two"
    write(two / "a", memory__max=1000, memory__current=700, memory__stat="anon 600\ninactive_file 50")
    write(two / "a" / "b", memory__max="max", memory__current=600, memory__stat="inactive_file 0")
    write(tmp_path, cgroup="0::/a/b")
    assert group_left(two, tmp_path / "cgroup") == 350
    one = tmp_path / "one" / "memory"
    write(one / "c", memory__limit_in_bytes=500, memory__usage_in_bytes=100, memory__stat="total_inactive_file 7")
    write(tmp_path, cgroup="5:devices:/\n4:memory:/c\n0::/")
    assert group_left(tmp_path / "one", tmp_path / "cgroup") == 407
    assert group_left(tmp_path / "nowhere", tmp_path / "cgroup") is None


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 B"), (1536, "1.5 kB"), (100 * 2**20, "100 MB"), (2.5 * 2**30, "2.5 GB")]
)
def test_sizes_in_words(size: float, words: str) -> None:
    assert in_bytes(size) == words
