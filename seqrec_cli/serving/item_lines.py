"""Lines of the journal of the items: changes, and what else stands there."""

import json
from typing import Any

FROM = ("vector", "attributes", "text_vector", "like", "trained")  # one of these says what an item's vector is
FROM_OF = {"put": 1, "delete": 0}  # how many of these a change has
Change = dict[str, Any]


def change_of(line: bytes) -> Change | None:
    """What a line says, if it is a change of an item."""
    found = head_of(line)
    is_one = isinstance(found.get("item"), str | int) and found.get("op") in FROM_OF
    if not is_one or sum(found.get(name) not in (None, False) for name in FROM) != FROM_OF[found["op"]]:
        return None
    return found


def head_of(line: bytes) -> dict[str, Any]:
    """The object of a line; empty where there is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
