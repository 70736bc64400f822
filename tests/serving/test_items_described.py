"""Items that are added by what is known of them: their attributes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from tests.serving.test_cold_start import planted

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from tests.serving.changing import Biased, Changing, D, Tied


def test_estimates_from_attributes_come_near_what_is_planted(tmp_path: Path, made: Callable[..., Changing]) -> None:
    log = planted(tmp_path / "log")
    changing = made(log, tmp_path / "state", _Planted)
    answer = changing.put("new", attributes={"genre": "crime"})
    assert answer["by"] == "attributes"
    assert answer["quality"]["items"] == 60
    assert answer["quality"]["r2"] > 0.8
    assert 0 <= answer["quality"]["recall10"] <= 1
    table = _Planted(log).items.weight.detach()
    crime = torch.nn.functional.normalize(table[1:][torch.arange(60) % 3 == 1].mean(0), dim=0)
    told = torch.tensor(changing.item("GET", "new")[1]["vector"])
    assert float(torch.nn.functional.normalize(told, dim=0) @ crime) > 0.98
    assert float(told.norm()) == pytest.approx(float(table[1:].norm(dim=1).mean()), rel=0.1)
    status, said = changing.item("PUT", "newer", {"attributes": {"genre": "crme"}})
    assert (status, "did you mean 'crime'" in said["detail"]) == (422, True)
    assert changing.item("PUT", "newer", {"attributes": {}})[0] == 422


class _Planted(Tied):
    """Vectors of a genre lie around one place."""

    def __init__(self, log: PackedLog) -> None:
        super().__init__(log)
        with torch.no_grad():
            centres = torch.nn.functional.normalize(
                torch.randn(3, D, generator=torch.Generator().manual_seed(1)), dim=1
            )
            self.items.weight[1:] = 3 * centres[torch.arange(60) % 3] + 0.2 * self.items.weight[1:]

    def encode(self, batch: Batch) -> torch.Tensor:
        return self.items(batch.items_BL)


def test_an_added_item_that_is_not_read_tells_taste_by_its_attributes(
    tmp_path: Path, made: Callable[..., Changing]
) -> None:
    changing = made(planted(tmp_path / "log"), tmp_path / "state", Biased)
    changing.put("new", attributes={"genre": "crime"}, title="A new one")
    ((_, answer),) = changing.post("/recommend", {"user_history": ["new"], "top_k": 5})
    ((_, told),) = changing.post(
        "/recommend", {"user_history": ["x"], "item_attributes": {"x": {"genre": "crime"}}, "top_k": 5}
    )
    assert (answer["answered_by"], answer["unknown_items"]) == ("category", ["new"])
    assert answer["recommendations"] == told["recommendations"]
    ((_, everything),) = changing.post("/recommend", {"user_history": [], "top_k": 100})
    assert everything["recommendations"][-1] == {"item_id": "new", "score": 0.0}


def test_what_tells_nothing_of_an_item_brings_it_into_no_list(tmp_path: Path, made: Callable[..., Changing]) -> None:
    """Vectors that have a common part, which everybody likes, and nothing of the genre."""
    log = planted(tmp_path / "log")
    changing = made(log, tmp_path / "state", _Common)
    answer = changing.put("new", attributes={"genre": "crime"})
    assert answer["quality"]["r2"] <= 0
    assert "stands in next to no list" in answer["warning"]
    assert answer["quality"]["shown10"] <= answer["quality"]["shown10_trained"]
    lists = [[item for item, _ in changing.best(user=user, top_k=10, repeats=True)] for user in range(20)]
    assert sum("new" in items for items in lists) <= 2


class _Common(Tied):
    """Nothing of the genre, and a part that all items share."""

    def __init__(self, log: PackedLog) -> None:
        super().__init__(log)
        with torch.no_grad():
            noise = torch.randn(self.items.weight[1:].shape, generator=torch.Generator().manual_seed(5))
            self.items.weight[1:] = 2.0 + noise

    def encode(self, batch: Batch) -> torch.Tensor:
        return self.items(batch.items_BL)
