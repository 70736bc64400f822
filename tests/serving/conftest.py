"""Fixtures of services whose items change."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.serving.changing import Changing


@pytest.fixture
def made() -> "Iterator[Callable[..., Changing]]":
    """Makes services of the arguments of `Changing`, and ends them."""
    from tests.serving.changing import Changing

    all_of_them: list[Changing] = []

    def make(*given: Any, **named: Any) -> Changing:
        all_of_them.append(Changing(*given, **named))
        return all_of_them[-1]

    yield make
    for each in all_of_them:
        each.batcher.close()


@pytest.fixture
def changing(made: "Callable[..., Changing]", saved_log: Any, tmp_path: Path) -> "Changing":
    """A service whose changes are in the folder `state`."""
    return made(saved_log, tmp_path / "state")
