"""What is kept of a teacher is what it says of every training event, given the whole history before it and no more."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import LogTensors
from seqrec_cli.data.soft_targets import SoftTargets, SoftTargetsFile
from seqrec_cli.data.splits import train_ends, training_targets
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender
from seqrec_cli.training import soft_teacher
from seqrec_cli.training.closed_form import fit_closed_form
from seqrec_cli.training.precision import Precision, resolve_precision
from seqrec_cli.training.soft_teacher import Asked, ask
from tests.toylog import packed, random_histories

ITEMS, LONGEST, TOP = 40, 17, 4
LOG = packed(random_histories(12, ITEMS, LONGEST), ITEMS)
SMALL = ("hardware.device=cpu", "hardware.precision=fp32", "dataset=synthetic")
ENSEMBLE = (
    *("model=ensemble", "model.members.sasrec.embed_dim=8", "model.members.lrurec.embed_dim=8"),
    *("model.members.gru4rec.embed_dim=8", "+model@model.members.ease=ease", "model.members.ease.max_length=5"),
    *("objective=next_item", "trainer=next_item"),
)


def configured(*overrides: str) -> tuple[TrainConfig, Recommender, Precision]:
    cfg = validate("train", compose("train", [*overrides, *SMALL]))
    assert isinstance(cfg, TrainConfig)
    torch.manual_seed(0)
    model = build_model(cfg.model, LOG.catalog, 0)
    fit_closed_form(model, LOG)
    with torch.no_grad():
        for parameter in model.parameters(recurse=False):  # weights of towers, which begin alike
            parameter.uniform_(-1, 1)
    return cfg, model, resolve_precision(cfg.hardware)


def asked(cfg: TrainConfig, model: Recommender, precision: Precision, **changes: Any) -> Asked:
    settings = {"log": LOG, "stride": 1, "temperature": 1.0, "memory_mb": 1} | changes
    return Asked(model=model, cfg=cfg.model, precision=precision, **settings)


def told(folder: Path, of: Asked, log: PackedLog = LOG) -> SoftTargets:
    file = SoftTargetsFile(folder, log, TOP)
    ask(of, file, lambda line: None)
    file.finish({})
    found = SoftTargets.open(folder, by="scores", rank_decay=1.0)
    assert found is not None
    return found


def one_by_one(of: Asked) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(places, first items, logs of their shares) from one request an event, asked as evaluation asks."""
    rows_N, positions_N = training_targets(LOG.offsets_U1, train_ends(LOG))
    events, items, logs = LogTensors.of(LOG, torch.device("cpu")), [], []
    of.model.eval()
    for row, position in zip(rows_N, positions_N, strict=True):
        first = int(LOG.offsets_U1[row])
        start = max(first, position - of.cfg.max_length)
        batch = events.histories(np.array([row]), np.array([start]), np.array([position - start]))
        with torch.inference_mode():
            scores_V = of.model.score_corpus(batch)[0].float()
        scores_V = scores_V.clamp(min=1e-38).log() if of.model.scores_are_weights else scores_V.clone()
        scores_V[0] = -torch.inf
        scores_V[torch.from_numpy(LOG.items_N[first:position].astype(np.int64))] = -torch.inf
        best_K, items_K = (scores_V / of.temperature).topk(TOP)
        items.append(items_K.numpy())
        logs.append((best_K - (scores_V / of.temperature).logsumexp(0)).numpy())
    return positions_N, np.array(items), np.array(logs)


@pytest.mark.parametrize(
    ("at_once", "overrides"),
    [
        (True, ("model=sasrec", "model.embed_dim=8", "model.max_length=5", "model.positions=absolute")),
        (
            False,
            ("model=sasrec", "model.embed_dim=8", "model.max_length=5", "model.positions=reversed"),
        ),  # one row a history
        (False, ("model=recdenoiser", "model.embed_dim=8", "model.max_length=5", "model.positions=none")),
        (False, ("model=sasrec", "model.embed_dim=8", "model.max_length=5", "model.padding=zero")),
        (True, ("model=gru4rec", "model.embed_dim=8", "model.max_length=30")),
        (True, ("model=ease", "model.embed_dim=8", "model.max_length=6")),
        (True, (*ENSEMBLE, "model.max_length=7", "model.members.sasrec.positions=rotary")),
        (True, (*ENSEMBLE, "model.max_length=7", "model.members.sasrec.positions=rotary", "model.trained=together")),
        (False, ("model=markov", "model.max_length=5")),
        (False, ("model=itemknn", "model.max_length=5")),
    ],
    ids=["sasrec", "reversed", "recdenoiser", "padding", "gru4rec", "ease", "ensemble", "towers", "markov", "itemknn"],
)
def test_every_event_is_answered_for_from_the_latest_events_before_it(
    at_once: bool, overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soft_teacher, "BLOCK_EVENTS", 40)
    monkeypatch.setattr(soft_teacher, "ROW_TOKENS", 20)
    of = asked(*configured(*overrides), temperature=1.5)
    assert of.at_once == at_once
    soft, (positions_N, items_NK, logs_NK) = told(tmp_path / "told", of), one_by_one(of)
    np.testing.assert_allclose(soft.logs_NK[positions_N].astype(float), logs_NK, rtol=2e-3, atol=2e-3)
    # What neighbours know nothing of has equal scores, in any order: items are compared that stand apart from the next.
    apart_NK = -np.diff(logs_NK, axis=1) > 1e-3
    clear_NK = np.pad(apart_NK, ((0, 0), (1, 0)), constant_values=True) & np.pad(apart_NK, ((0, 0), (0, 1)))
    assert clear_NK.any()
    np.testing.assert_array_equal(soft.items_NK[positions_N][clear_NK], items_NK[clear_NK])
    others = np.setdiff1d(np.arange(len(LOG.items_N)), positions_N)
    assert not soft.items_NK[others].any(), "held-out events, and those with no history, are not asked about"


def test_held_out_events_are_in_no_history(tmp_path: Path) -> None:
    """Another future changes nothing of what is said of the past."""
    cfg, model, precision = configured("model=sasrec", "model.embed_dim=8", "model.max_length=30")
    items_N = LOG.items_N.copy()
    for end, last in zip(train_ends(LOG), LOG.offsets_U1[1:], strict=True):
        items_N[end:last] = 1
    other = PackedLog(LOG.offsets_U1, items_N, LOG.times_N, None, LOG.catalog, LOG.manifest, view=LOG.view)
    found = [
        told(tmp_path / name, asked(cfg, model, precision, log=log), log) for name, log in (("a", LOG), ("b", other))
    ]
    np.testing.assert_array_equal(found[0].items_NK, found[1].items_NK)
    np.testing.assert_array_equal(found[0].logs_NK, found[1].logs_NK)


def test_a_stride_says_how_much_of_a_long_history_has_been_read() -> None:
    offsets_U1, ends_U = np.array([0, 30]), np.array([30])
    rows = soft_teacher._windows(offsets_U1, ends_U, 8, first_user=0, stride=3)
    reach = {}
    for start, length, wanted in zip(rows.starts_R, rows.lengths_R, rows.wanted_R, strict=True):
        for target in range(start + length - wanted + 1, start + length + 1):
            assert target not in reach, "an event is answered for once"
            reach[target] = target - start
    assert sorted(reach) == list(range(1, 30))
    assert all(read == target for target, read in reach.items() if target <= 6)
    assert all(6 <= read <= 8 for target, read in reach.items() if target > 6)


def test_work_that_was_stopped_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_teacher, "BLOCK_EVENTS", 30)
    cfg, model, precision = configured(
        "model=sasrec", "model.embed_dim=8", "model.max_length=5", "model.positions=none"
    )
    of, whole = asked(cfg, model, precision), told(tmp_path / "whole", asked(cfg, model, precision))
    original, blocks = soft_teacher._by_windows, list[slice]()

    def interrupted(asked_of: Asked, users: slice, top: int) -> Any:
        blocks.append(users)
        if len(blocks) == 3:
            raise KeyboardInterrupt
        return original(asked_of, users, top)

    monkeypatch.setattr(soft_teacher, "_by_windows", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"answered for \d+ of 12 users, nothing of it lost"):
        told(tmp_path / "parts", of)
    assert SoftTargets.open(tmp_path / "parts", by="scores", rank_decay=1.0) is None
    parts = told(tmp_path / "parts", of)
    assert blocks[3].start == blocks[2].start > 0
    np.testing.assert_array_equal(parts.items_NK, whole.items_NK)
    np.testing.assert_array_equal(parts.logs_NK, whole.logs_NK)


def test_what_is_not_finite_is_refused(tmp_path: Path) -> None:
    cfg, model, precision = configured(
        "model=sasrec", "model.embed_dim=8", "model.max_length=5", "model.positions=none"
    )
    with torch.no_grad():
        model.items.weight.fill_(torch.nan)  # type: ignore[union-attr, operator]
    with pytest.raises(SeqrecError, match="not finite"):
        told(tmp_path, asked(cfg, model, precision))


def test_ranks_weigh_exponentially() -> None:
    items_NK = np.array([[3, 1, 2], [2, 3, 1]], np.int32)
    logs_NK = np.array([[-0.7, -1.2, -np.inf], [-0.9, -1.2, -1.6]], np.float16)
    items_MK, shares_MK = SoftTargets(items_NK, logs_NK, "ranks", 2.0).at(np.array([1, 0]))
    assert items_MK.tolist() == [[2, 3, 1], [3, 1, 2]]
    weights_K = np.exp(-np.array([1, 2, 3]) / 2)
    np.testing.assert_allclose(shares_MK[0], weights_K / weights_K.sum(), rtol=1e-6)
    np.testing.assert_allclose(shares_MK[1], [*(weights_K[:2] / weights_K[:2].sum()), 0], rtol=1e-6)


def test_events_that_no_teacher_was_asked_about_have_no_targets() -> None:
    soft = SoftTargets(np.array([[0, 0], [1, 2]], np.int32), np.zeros((2, 2), np.float16), "scores", 1.0)
    with pytest.raises(RuntimeError, match="no teacher"):
        soft.at(np.array([1, 0]))
