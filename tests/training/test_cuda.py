"""What a GPU does, beside what a processor does: the same numbers, and no waiting for each other."""

import copy
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from configured import LOG, config
from toylog import packed, random_histories
from training_toys import Recorder
from training_toys import train as train_toy

from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows
from seqrec_cli.evaluation.evaluate import evaluate
from seqrec_cli.kernels.masked_softmax_dropout.op import attention
from seqrec_cli.training.loop import LOG_EVERY, Loop
from seqrec_cli.training.optim import update
from seqrec_cli.training.precision import Precision

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
GPU, CPU = torch.device("cuda"), torch.device("cpu")
STILL = ["model.dropout=0", "trainer.batch_size=8"]  # a GPU draws its random numbers its own way
WORDS = [
    ["model=sasrec", "model.embed_dim=32", "objective=next_item"],
    ["model=sasrec", "model.embed_dim=32", "model.positions=relative", "objective=bce"],
    ["model=bert4rec", "model.embed_dim=32"],
    ["model=bsarec", "model.embed_dim=32", "model.filter=row", "objective.window=prefixes"],
    ["model=gru4rec", "model.embed_dim=32"],
    ["model=hstu", "model.embed_dim=32"],
    ["model=lrurec", "model.embed_dim=32"],
    ["model=nextitnet", "model.embed_dim=32"],
    ["model=din"],
    ["model=dien"],
    ["model=bst"],
    ["model=semantic", "model.embed_dim=32"],
]


def named(words: list[str]) -> str:
    return "-".join(words)


@pytest.fixture
def watched() -> Iterator[None]:
    """Whatever makes the host wait for the GPU is an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def loop_on(device: torch.device, words: list[str], precision: str = "fp32") -> Loop:
    cfg = config([*STILL, *words])
    objective, model = objective_for(cfg, LOG, device), fresh_model(cfg, LOG, device=device)
    rows = training_rows(cfg, objective, LOG, device=device)
    model.train()
    chosen = Precision(device, precision)  # type: ignore[arg-type]
    return Loop(
        model,
        objective,
        rows,
        cfg=cfg.trainer,
        precision=chosen,
        validate=dict,
        header={},
        folder=Path(),
        listener=Recorder(),
    )


@pytest.mark.parametrize("words", WORDS, ids=named)
def test_a_step_has_the_loss_and_gradients_of_a_processor_s(words: list[str]) -> None:
    losses, gradients = [], []
    for device in (CPU, GPU):
        loop = loop_on(device, words)
        batch = next(iter(loop.rows.epoch(0)))
        losses.append(loop.accumulate_gradients(batch).cpu())
        gradients.append({name: p.grad.cpu() for name, p in loop.model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(
            gradients[1][name], gradient, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("words", WORDS, ids=named)
def test_the_host_never_waits_in_a_step(words: list[str], precision: str, request: pytest.FixtureRequest) -> None:
    parts = [] if config(words).model.batch_statistics else ["trainer.micro_batch_tokens=60"]  # not of Dice
    loop = loop_on(GPU, [*words, *parts, "trainer.ema=0.9"], precision)
    batches = itertools.islice(loop.rows.epoch(0), 8)  # step LOG_EVERY reports its loss, and waits for it
    for _ in range(2):  # libraries are loaded, memory is fetched
        loop.run_step(next(batches))
    request.getfixturevalue("watched")
    for batch in batches:
        loop.run_step(batch)
    assert 3 < loop.progress.step < LOG_EVERY


def test_batches_are_cut_where_the_log_lies() -> None:
    for words in (WORDS[0], WORDS[2], WORDS[6]):
        batch = next(iter(loop_on(GPU, words).rows.epoch(0)))
        assert batch.items_BL.is_cuda
        assert batch.host_lengths_B is not None
        assert batch.host_lengths_B.tolist() == batch.lengths_B.tolist()


def test_causal_attention_runs_on_flash() -> None:
    q, k, v = (torch.randn(4, 2, 64, 32, device=GPU, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):  # or nothing
        found = attention(q, k, v, causal=True, mask_BT=None, drop=0.0)
        found.sum().backward()
    on_cpu = (x.detach().cpu().float() for x in (q, k, v))
    expected = attention(*on_cpu, causal=True, mask_BT=None, drop=0.0)
    torch.testing.assert_close(found.detach().cpu().float(), expected, rtol=2e-2, atol=2e-2)
    assert q.grad is not None


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_format_learns_and_fp16_scales_its_loss(precision: str) -> None:
    loop, told = loop_on(GPU, ["model=sasrec", "objective=next_item", "trainer.lr=0.01"], precision), []
    for epoch in range(8):
        total = torch.zeros((), device=GPU)
        for batch in loop.rows.epoch(epoch):
            loss = loop.accumulate_gradients(batch)
            update(loop.optimizer, loop.scaler, lr=0.01, clip_norm=1.0)
            total += loss
        told.append(total.item())
    assert told[-1] < 0.9 * told[0]
    assert loop.scaler.is_enabled() == (precision == "fp16")
    assert (loop.scaler.get_scale() > 1) == (precision == "fp16")


@pytest.mark.parametrize("words", [WORDS[0], WORDS[2], WORDS[6]], ids=named)
def test_ranks_are_a_processor_s(words: list[str]) -> None:
    cfg = config([*STILL, *words])
    log = packed(random_histories(40, 30, 20), 30, click_negatives=9)
    model = fresh_model(cfg, log, CPU).eval()
    found = [
        evaluate(
            copy.deepcopy(model), log, "test", cfg=cfg.evaluation, max_length=20, precision=Precision(device, "fp32")
        ).metrics["mrr"]
        for device in (CPU, GPU)
    ]
    assert found[1] == pytest.approx(found[0], abs=1e-4)


def test_a_run_resumes_on_the_gpu(tmp_path: Path) -> None:
    result, model, _ = train_toy(tmp_path, precision=Precision(GPU, "fp16"))
    assert result.steps == 20
    assert next(model.parameters()).is_cuda
    payload = torch.load(tmp_path / "last.pt", weights_only=True)
    again, _, recorder = train_toy(tmp_path, precision=Precision(GPU, "fp16"), resume_from=payload)
    assert recorder.started == (20, 20)
    assert again.steps == 20


@pytest.mark.parametrize("words", [WORDS[0], WORDS[5], WORDS[8]], ids=named)
@pytest.mark.parametrize("compiled", ["true", "graphs"])
def test_compiled_steps_have_the_same_losses(compiled: str, words: list[str]) -> None:
    losses = []
    for how in ("false", compiled):
        loop = loop_on(GPU, [*words, f"hardware.compile={how}"])
        epoch = []
        for batch in itertools.islice(loop.rows.epoch(0), 5):  # of several widths; later ones add up what is rounded
            epoch.append(loop.accumulate_gradients(batch).item())
            update(loop.optimizer, loop.scaler, lr=0.01, clip_norm=1.0)
        losses.append(epoch)
    assert len(losses[0]) > 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
