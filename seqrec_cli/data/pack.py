"""From a source's raw events to the packed log: filter, index, sort, describe.

Legend: N raw events, K events that pass the filters, U users, Q requests, S items shown, C those of a request (the most
that one showed), F context attributes.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.catalog import Attribute, Catalog, level_ranks
from seqrec_cli.data.filters import apply_filters, removed_said
from seqrec_cli.data.interactions import PackedLog, equal_to_previous
from seqrec_cli.data.labels import Events, labelled_rows, sort_keys, unclicked
from seqrec_cli.data.numbers import encode_numbers, number_levels
from seqrec_cli.data.raw import AttributeTable, Impressions, RawLog
from seqrec_cli.data.turned import turned
from seqrec_cli.data.view import LabelledRows
from seqrec_cli.data.vocabulary import encode_attribute, factorize
from seqrec_cli.saying import Say


class Ids(NamedTuple):
    """Raw ids of the log: of user row 0 first, of item index 1 first."""

    users: np.ndarray
    items: np.ndarray


class Indexed(NamedTuple):
    """Events that pass the filters, in file order."""

    kept_K: np.ndarray  # positions among the raw events
    rows_K: np.ndarray  # user rows
    items_K: np.ndarray  # item indices
    shown_S: np.ndarray  # item indices of what the requests showed, or of the rows that were not clicked
    unclicked_S: np.ndarray  # where these rows are among the raw ones
    unclicked_rows_S: np.ndarray  # their user rows


def pack(cfg: DatasetConfig, raw: RawLog, identity: dict[str, Any], *, say: Say) -> tuple[PackedLog, Ids]:
    """The log in memory, and the raw ids of its users and items. Raises SeqrecError where too little is left."""
    raw = _with_levels(raw)
    before: list[dict[str, Any]] = []
    if cfg.predict == "users":
        cfg, raw, before = turned(cfg, raw, say)
    indexed, ids, counts = _filter_and_index(cfg, raw, say)
    counts = before or counts
    events = _sort(raw, indexed)
    requests = None
    if raw.labels_N is not None:
        requests = labelled_rows(
            raw,
            events,
            unclicked_S=indexed.unclicked_S,
            rows_S=indexed.unclicked_rows_S,
            shown_S=indexed.shown_S,
        )
    elif len(indexed.shown_S):
        requests = _requests(raw, indexed, events)
    notes = list(raw.notes)
    if raw.labels_N is not None and (left := int((~raw.labels_N).sum()) - len(indexed.unclicked_S)):
        notes.append(f"{left:,} rows that were not clicked are left out: repeated ones, or of users without a click")
    for note in notes:
        say(note)
    catalog, values = _catalog(raw, ids)
    whole = counts[-1]["events"] == counts[0]["events"]  # else the process did not make these histories
    ticks = None if raw.times_N is None else raw.ticks_per_second
    manifest = manifest_of(
        identity | {"source": cfg.source, "filters": counts},
        order=order_in_words(ticks, further=bool(raw.order_keys)),
        ties=(0 if events.tied_K is None else int(events.tied_K.sum()), events.ordered_ties),
        time_span=None if events.times_K is None else (int(events.times_K.min()), int(events.times_K.max())),
        notes=notes,
        values=values,
        process=raw.process if whole else None,
    )
    context = [codes_N[events.kept_K] + 1 for codes_N, _ in raw.context.values()]
    return PackedLog(
        events.offsets_U1,
        events.items_K,
        events.times_K,
        None if raw.ratings_N is None else raw.ratings_N[events.kept_K],
        catalog,
        manifest,
        np.stack(context, axis=1).astype(np.int32) if context else None,
        requests,
        None if raw.sessions_N is None else raw.sessions_N[events.kept_K],
        None if raw.item_owners is None else _owners(raw.item_owners, ids, say),
        splits_N=None if raw.splits_N is None else raw.splits_N[events.kept_K],
        weights_N=None if raw.weights_N is None else raw.weights_N[events.kept_K],
        tied_N=_stored_ties(events),
    ), ids


def manifest_of(
    identity: dict[str, Any],
    *,
    order: str,
    ties: tuple[int, int],
    time_span: tuple[int, int] | None,
    notes: list[str],
    values: dict[str, Any],
    process: dict[str, Any] | None,
) -> dict[str, Any]:
    """What is told of a log beside its arrays. `ties` are pairs of equal times, and those that further columns order;
    `values` the texts of attributes."""
    return identity | {
        "order": order,
        "equal_times": ties[0],
        "ordered_ties": ties[1],
        "time_span": None if time_span is None else list(time_span),
        "notes": notes,
        **values,
        "process": process,
    }


def order_in_words(ticks: int | None, *, further: bool) -> str:
    """What orders a user's events. `ticks` of a second (0: none) are those of the times, None where there are none;
    `further` columns may order equal times."""
    then = " and dataset.order_columns" * further
    if ticks is None:
        return f"by dataset.order_columns{'; equal ones in file order' if then else ''}" if then else "file order"
    by = "by time" if ticks else "by an order without seconds (dataset.time_unit=order)"
    return f"{by}{then}; equal times in file order (stable sort)"


def _stored_ties(events: Events) -> np.ndarray | None:
    """Ties that the seconds of the log do not show."""
    if events.tied_K is None or events.times_K is None:
        return events.tied_K
    shown_K = equal_to_previous(events.times_K, events.offsets_U1)
    return None if np.array_equal(shown_K, events.tied_K) else events.tied_K


def _owners(table: AttributeTable, ids: Ids, say: Say) -> np.ndarray:
    """The user index of each item's owner, int32 [V + 1], 0 where that is no user of this log."""
    index = {str(user): nth for nth, user in enumerate(ids.users.tolist(), 1)}
    owner = dict(zip(table.ids.tolist(), table.values, strict=True))
    found = [index.get(next(iter(owner.get(item, ())), ""), 0) for item in ids.items.tolist()]
    return checked_owners(np.array([0, *found], np.int32), say)


def checked_owners(owners_V1: np.ndarray, say: Say) -> np.ndarray:
    """The same; says how many there are. Raises SeqrecError where no item has one."""
    owned = int((owners_V1 > 0).sum())
    if not owned:
        raise SeqrecError("no owner of an item is a user of this log; see dataset.owner_column")
    say(f"{owned:,} of {len(owners_V1) - 1:,} items belong to users of the log")
    return owners_V1


def _filter_and_index(cfg: DatasetConfig, raw: RawLog, say: Say) -> tuple[Indexed, Ids, list[dict[str, Any]]]:
    """The events that pass, and how many events, users and items each filter left."""
    all_users, users_N = factorize(raw.users_N)
    shown = raw.impressions.shown_S if raw.impressions else raw.items_N[:0]
    all_items, coded = factorize(np.concatenate([raw.items_N, shown]) if len(shown) else raw.items_N)
    items_N, shown_S = coded[: len(raw.items_N)], coded[len(raw.items_N) :]
    kept_K, counts = apply_filters(cfg, raw, users_N, items_N=items_N)
    for line in removed_said(counts):
        say(line)
    user_codes, rows_K = factorize(users_N[kept_K])
    unclicked_S = np.zeros(0, np.int64)
    if raw.labels_N is not None:
        unclicked_S = unclicked(cfg, raw, users_N, items_N=items_N, users=user_codes)
        shown_S = items_N[unclicked_S]
    item_codes, coded = factorize(np.concatenate([items_N[kept_K], shown_S]))
    if len(item_codes) < 2:
        raise SeqrecError(one_item(cfg, len(all_items)))
    unclicked_rows_S = np.searchsorted(user_codes, users_N[unclicked_S])
    indexed = Indexed(kept_K, rows_K, coded[: len(kept_K)] + 1, coded[len(kept_K) :] + 1, unclicked_S, unclicked_rows_S)
    return indexed, Ids(all_users[user_codes], all_items[item_codes]), counts


def one_item(cfg: DatasetConfig, before: int) -> str:
    """What is wrong with a log of one item: its column is another's, or filters took the others."""
    if before == 1:
        told = getattr(cfg, "item_column", None)
        named = "" if told is None else f"; is dataset.item_column={told} the column of items?"
        return f"the log holds 1 item in all its rows, and ranking needs two or more{named}"
    given = [f"dataset.{name}={getattr(cfg, name)}" for name in ("min_rating", "user_core", "item_core")]
    set_ = [text for text in given if not text.endswith(("=None", "=0"))]
    by = ", ".join(set_) or "its labels"
    return f"only 1 of {before:,} items is left after {by}; ranking needs two or more"


def _sort(raw: RawLog, indexed: Indexed) -> Events:
    """A stable sort: what no key orders stays in the order of the file."""
    keys = [key_N[indexed.kept_K] for key_N in sort_keys(raw)]
    order_K = np.lexsort([*reversed(keys), indexed.rows_K])
    rows_K = indexed.rows_K[order_K]
    offsets_U1 = np.searchsorted(rows_K, np.arange(int(rows_K[-1]) + 2)).astype(np.int64)
    same = [equal_to_previous(key_K[order_K], offsets_U1) for key_K in keys]
    times_K, tied_K, ordered = None, None, 0
    if raw.times_N is not None or raw.order_keys:
        found_K: np.ndarray = np.logical_and.reduce(same)
        by_time_K: np.ndarray = np.logical_and.reduce(same[: len(same) - len(raw.order_keys)] or [found_K])
        tied_K, ordered = found_K, int(by_time_K.sum() - found_K.sum())
    if raw.times_N is not None and raw.ticks_per_second:
        times_K = raw.times_N[indexed.kept_K][order_K] // raw.ticks_per_second
    return Events(
        indexed.kept_K[order_K],
        rows_K,
        indexed.items_K[order_K].astype(np.int32),
        times_K,
        offsets_U1,
        tied_K,
        ordered,
    )


def _requests(raw: RawLog, indexed: Indexed, events: Events) -> LabelledRows:
    """The logged requests whose own events are in the log."""
    assert raw.impressions is not None
    positions_N = np.full(len(raw.items_N), -1, np.int64)
    positions_N[events.kept_K] = np.arange(len(events.kept_K))
    return _labelled_requests(
        raw.impressions, indexed.shown_S, positions_N, rows_K=events.rows_K, items_K=events.items_K
    )


def _catalog(raw: RawLog, ids: Ids) -> tuple[Catalog, dict[str, Any]]:
    """Sizes and attributes, and the texts of the attributes' values."""
    items = Known(len(ids.items), *_of_rows(raw.item_attributes, ids.items, raw.numeric))
    users = Known(len(ids.users), *_of_rows(raw.user_attributes, ids.users, raw.numeric))
    return catalog_of(items, users, {name: texts for name, (_, texts) in raw.context.items()}, numeric=raw.numeric)


class Known(NamedTuple):
    """How many items or users there are, and what is known of them: categories, with their values and the values'
    texts, and numbers."""

    rows: int
    categories: list[tuple[Attribute, np.ndarray, list[str]]]
    numbers: dict[str, np.ndarray]


def catalog_of(
    items: Known, users: Known, context: dict[str, list[str]], *, numeric: frozenset[str]
) -> tuple[Catalog, dict[str, Any]]:
    """Sizes and attributes, and the texts of the attributes' values; `context` has those of events."""
    contexts = tuple(Attribute(name, len(texts) + 1, 1) for name, texts in context.items())
    catalog = Catalog(
        users.rows,
        items.rows,
        tuple(attribute for attribute, _, _ in items.categories),
        tuple(attribute for attribute, _, _ in users.categories),
        {attribute.name: values for attribute, values, _ in items.categories},
        {attribute.name: values for attribute, values, _ in users.categories},
        contexts,
        items.numbers,
        users.numbers,
        level_ranks(contexts, [name for name in context if name in numeric]),
    )
    return catalog, {
        "item_attribute_values": {attribute.name: texts for attribute, _, texts in items.categories},
        "user_attribute_values": {attribute.name: texts for attribute, _, texts in users.categories},
        "context_values": context,
    }


def _of_rows(
    tables: dict[str, AttributeTable], ids: np.ndarray, numeric: frozenset[str]
) -> tuple[list[tuple[Attribute, np.ndarray, list[str]]], dict[str, np.ndarray]]:
    """The categories and the numbers of items or users."""
    categories = [encode_attribute(name, table, ids) for name, table in tables.items() if name not in numeric]
    return categories, {name: encode_numbers(name, tables[name], ids) for name in tables if name in numeric}


def _with_levels(raw: RawLog) -> RawLog:
    """The log, numbers of its events as levels."""
    context, notes = dict(raw.context), list(raw.notes)
    for name in [name for name in context if name in raw.numeric]:
        codes_N, texts, note = number_levels(name, *context[name])
        context[name] = codes_N, texts
        notes += [note] if note else []
    return replace(raw, context=context, notes=tuple(notes))


def _labelled_requests(
    impressions: Impressions, shown_S: np.ndarray, positions_N: np.ndarray, *, rows_K: np.ndarray, items_K: np.ndarray
) -> LabelledRows:
    """The requests whose events are in the log, in its order.

    `shown_S` item indices, `positions_N` each raw event's log position (-1: filtered out), `rows_K`, `items_K` the
    log's user rows and items by position.
    """
    positions_Q = positions_N[impressions.events_Q]
    kept_Q = np.flatnonzero(positions_Q >= 0)
    kept_Q = kept_Q[np.argsort(positions_Q[kept_Q], kind="stable")]
    starts_Q, ends_Q = impressions.offsets_Q1[kept_Q], positions_Q[kept_Q]
    counts_Q = impressions.offsets_Q1[kept_Q + 1] - starts_Q
    columns_C = np.arange(int(counts_Q.max(initial=1)))
    real_QC = columns_C < counts_Q[:, None]
    items_QC = shown_S[np.minimum(starts_Q[:, None] + columns_C, len(shown_S) - 1)]
    items_QC = np.where(real_QC, items_QC, 0).astype(np.int32)
    labels_QC = (items_QC == items_K[ends_Q][:, None]).astype(np.float32)
    return LabelledRows(rows_K[ends_Q], ends_Q, items_QC, labels_QC)
