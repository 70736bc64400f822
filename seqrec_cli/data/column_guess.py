"""What a person may have called the columns of users, items and times, for a message that can be pasted."""

import re
from collections.abc import Sequence

from seqrec_cli.config.quoting import shell_override
from seqrec_cli.data.columns import NoColumnError, resolve

ALIASES = {
    "user_column": (
        *("user", "userid", "uid", "userindex", "visitor", "visitorid", "customer", "customerid", "client", "clientid"),
        *("reviewer", "reviewerid", "member", "memberid", "account", "accountid", "person", "personid", "session"),
        *("sessionid", "who"),
    ),
    "item_column": (
        *("item", "itemid", "iid", "movie", "movieid", "product", "productid", "article", "articleid", "asin", "sku"),
        *("parentasin", "track", "trackid", "song", "songid", "artist", "artistid", "book", "bookid", "isbn", "game"),
        *("gameid", "business", "businessid", "aid", "newsid", "videoid", "what"),
    ),
    "time_column": (
        *("time", "timestamp", "ts", "date", "datetime", "unixtime", "unixreviewtime", "eventtime", "createdat"),
        *("timems", "epoch", "when", "day"),
    ),
}


def guessed(known: Sequence[str], wanted: dict[str, str | int | None]) -> str | None:
    """The settings for those of user, item and time that have no column of their name; None where no name is alike.

    `wanted` has the present value of each setting.
    """
    found: dict[str, str] = {}
    for setting, aliases in ALIASES.items():
        column = wanted[setting]
        if not isinstance(column, str) or _is_there(column, known):
            continue
        plain = {_plain(name): name for name in reversed(known)}
        name = next((plain[alias] for alias in aliases if alias in plain), None)
        if name is not None:
            found[setting] = name
        elif setting != "time_column":
            return None
    if not found and _is_there(str(wanted["time_column"]), known):
        return None
    told = [shell_override(f"dataset.{setting}", name) for setting, name in found.items()]
    if (
        isinstance(wanted["time_column"], str)
        and "time_column" not in found
        and not _is_there(wanted["time_column"], known)
    ):
        told.append("dataset.time_column=null (rows are in order)")
    return " ".join(told) or None


def unnamed_time(known: Sequence[str], used: Sequence[str]) -> str | None:
    """A column that looks like times by its name and that nothing uses."""
    return next((name for name in known if name not in used and _plain(name) in ALIASES["time_column"]), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _is_there(column: str, known: Sequence[str]) -> bool:
    try:
        resolve(column, known, "")
    except NoColumnError:
        return False
    return True
