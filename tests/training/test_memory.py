"""Memory of a step: growth with the batch, the optimizer's share, what is free, and the warning."""

from pathlib import Path

import pytest
import torch
from planned import batch_of, built, config
from training_toys import update

from seqrec_cli.models.layers import activation_unit
from seqrec_cli.training.live import live_bytes, watch
from seqrec_cli.training.loop import count_targets
from seqrec_cli.training.memory import (
    StepMemory,
    bytes_of,
    fixed_memory,
    group_left,
    in_bytes,
    loss_chunk,
    memory_warning,
    step_memory_law,
    system_left,
)
from seqrec_cli.training.optim import build_optimizer
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.rehearsal import crop

CPU = Precision(torch.device("cpu"), "fp32")
CASES = [
    ["model=sasrec"],
    ["model=sasrec", "model.heads=4", "model.attention_dropout=0.2"],
    ["model=sasrec", "objective=bce"],
    ["model=bst", "model.read_out=all", "model.blocks=2"],
    ["model=din"],
    ["model=bert4rec"],
]


@pytest.mark.parametrize("overrides", CASES, ids=lambda overrides: overrides[-1])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_few_rows_tell_what_many_take(overrides: list[str], precision: str) -> None:
    model, objective, rows = built([*overrides, "model.max_length=8"])
    at = Precision(torch.device("cpu"), precision)  # type: ignore[arg-type]
    batch = rows.largest()
    planes = live_bytes(model, objective, batch, at)
    large = crop(batch, 7, batch.items_BL.shape[1])
    trace_T, saved = watch(model, objective, large, at)
    assert planes.saved(7, count_targets(large)) == saved
    assert planes.height(7, count_targets(large)) == pytest.approx(trace_T.max(), rel=1e-3)


def test_work_in_pieces_is_foretold_from_larger_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit of sigmoids handles a few rows whole and more in pieces: what two rows take says nothing about many."""
    monkeypatch.setattr(activation_unit, "CACHED", 40_000)
    model, objective, rows = built(["model=din", "model.unit_activation=sigmoid"])
    batch = rows.largest()
    planes = live_bytes(model, objective, batch, CPU)
    large = crop(batch, 64, batch.items_BL.shape[1])
    _, saved = watch(model, objective, large, CPU)
    assert planes.planes_3T.shape[1] == 1
    assert planes.saved(64, count_targets(large)) == pytest.approx(saved, rel=0.02)


def test_saved_activations_by_hand() -> None:
    """One product: its inputs are kept, nothing else."""

    class Product(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(5, 7))

        def trainable_models(self) -> "tuple[Product, ...]":
            return (self,)

    class Objective:
        def loss(self, model: Product, batch: object) -> torch.Tensor:
            rows_BD = batch.items_BL.float()  # type: ignore[attr-defined]
            return (rows_BD @ model.weight).sum()

    _, saved = watch(Product(), Objective(), batch_of([5, 5, 5]), CPU)  # type: ignore[arg-type]
    assert saved == 4 * 3 * 5


def test_activations_grow_with_rows_and_the_rest_does_not() -> None:
    model, objective, rows = built(["model=sasrec"])
    law = step_memory_law(model, objective, rows.largest(), CPU)
    one, two, four = law(1), law(2), law(4)
    assert one.activations > 0
    assert two.activations - one.activations == (four.activations - two.activations) / 2 > 0
    assert (one.model, one.gradients, one.optimizer) == (four.model, four.gradients, four.optimizer)
    assert four.total > two.total > one.total


@pytest.mark.parametrize("overrides", CASES, ids=lambda overrides: overrides[-1])
def test_the_optimizer_takes_what_was_foretold(overrides: list[str]) -> None:
    model, objective, rows = built(overrides)
    cfg = config(overrides).trainer
    optimizer = build_optimizer(model, cfg)
    update(objective.loss(model, rows.largest()), optimizer, CPU.scaler(), 1e-3, None)
    states = [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    assert fixed_memory(model).optimizer == bytes_of(states)


def test_loss_chunk_is_what_the_budget_or_the_targets_allow() -> None:
    model, objective, _ = built(["model=sasrec", "objective.chunk_mb=1"])
    model.num_items = 2**16  # a row of logits: 256 kB
    few, many = loss_chunk(model, objective, CPU, 3), loss_chunk(model, objective, CPU, 100)
    assert few is not None
    assert many is not None
    assert (few.used, few.unchunked) == (3 * 2**18, 3 * 2**18)
    assert (many.used, many.unchunked, many.budget) == (2**20, 100 * 2**18, 2**20)
    assert loss_chunk(model, built(["model=sasrec", "objective=bce"])[1], CPU, 3) is None


def test_warning_names_the_batch_size_that_fits() -> None:
    model, objective, rows = built(["model=sasrec", "trainer.batch_size=30"])
    cfg, batch = config(["model=sasrec", "trainer.batch_size=30"]), rows.largest()
    law = step_memory_law(model, objective, batch, CPU)
    needed = law(30).total
    assert memory_warning(law(30), 0, needed, cfg, law, batch) is None
    assert memory_warning(law(30), 0, None, cfg, law, batch) is None
    assert memory_warning(law(30), law(30).model, needed - law(30).model, cfg, law, batch) is None
    warning = memory_warning(law(30), 0, law(7).total, cfg, law, batch)
    assert warning is not None
    assert warning.startswith("WARNING: ")
    assert "trainer.batch_size (now 30; 7 fits) or model.max_length (now 20)" in warning
    assert in_bytes(law(7).total) in warning


def test_warning_of_a_token_budget_counts_tokens() -> None:
    words = ["model=sasrec", "trainer.batch_tokens=90"]
    model, objective, rows = built(words)
    batch = rows.largest()
    law = step_memory_law(model, objective, batch, CPU)
    length = batch.items_BL.shape[1]
    assert len(batch) == 90 // length
    warning = memory_warning(law(len(batch)), 0, law(3).total, config(words), law, batch)
    assert f"trainer.batch_tokens (now 90; {3 * length} fits)" in str(warning)


def test_warning_of_rows_with_runs_of_targets_counts_targets() -> None:
    words = ["model=din", "trainer.batch_size=96"]
    model, objective, rows = built(words)
    batch = rows.largest()
    law = step_memory_law(model, objective, batch, CPU)
    each = int(batch.labels_BC.sum(1).max())  # type: ignore[union-attr]
    assert each > 1
    warning = memory_warning(law(len(batch)), 0, law(3).total, config(words), law, batch)
    assert f"trainer.batch_size (now 96; {3 * each} fits)" in str(warning)


def test_warning_when_no_batch_can_help() -> None:
    memory = StepMemory(model=100, gradients=100, optimizer=200)
    cfg = config(["model=sasrec"])
    assert "model.embed_dim" in str(memory_warning(memory, 0, 399, cfg))
    large_chunk = StepMemory(model=100, gradients=100, optimizer=200, loss_chunk=900)
    assert "lower objective.chunk_mb (now" in str(memory_warning(large_chunk, 0, 1000, cfg))


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
