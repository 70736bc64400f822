"""The packed log of a dataset larger than memory: staged, ordered, filtered, written; each stage once.

Legend: N rows, U users, V items.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.attribute_tables import named, numeric_attributes
from seqrec_cli.data.filters import removed_said
from seqrec_cli.data.given_splits import count_early, split_notes
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.large import attributes
from seqrec_cli.data.large.batches import place_in
from seqrec_cli.data.large.choose import open_engine
from seqrec_cli.data.large.engine import Engine
from seqrec_cli.data.large.facts import Facts, category_notes, facts_of, known_of, reading_notes
from seqrec_cli.data.large.finish import Packed, finish
from seqrec_cli.data.large.ordering import ordered_rows, vocabularies
from seqrec_cli.data.large.passes import Filters, Ordered
from seqrec_cli.data.large.progress import progress
from seqrec_cli.data.large.room import Room
from seqrec_cli.data.large.stage_state import StageState
from seqrec_cli.data.large.staging import Staging
from seqrec_cli.data.numbers import levels_of, nearest_level, number_of
from seqrec_cli.data.pack import catalog_of, checked_owners, manifest_of, one_item, order_in_words
from seqrec_cli.data.parts import Parts
from seqrec_cli.data.remote import Address
from seqrec_cli.data.sources.csv import Config, refuse_one_column
from seqrec_cli.data.tables import log_parts
from seqrec_cli.saying import Say


class LargeIds(NamedTuple):
    """Raw ids of the log: of user row 0 first, of item index 1 first; and the items' titles, where they have any."""

    users: pa.Array
    items: pa.Array
    titles: pa.Array | None


def pack_large(
    cfg: Config, path: Path | Address, identity: dict[str, Any], *, work: Path, room: Room, say: Say
) -> tuple[PackedLog, LargeIds]:
    """As `pack`, of a log that is read through an engine; its arrays lie in the folder `work`, which is kept until the
    log is published and gone on with after a kill.

    Raises SeqrecError as reading and filtering in memory do, and where memory or disk are too small.
    """
    parts, notes = log_parts(cfg, path)
    room.refuse_small_disk(parts, work)
    work.mkdir(parents=True, exist_ok=True)
    with _told("rows read", say) as told, progress("reading rows") as advance:
        state = Staging(cfg, work / "staged", rows=room.batch_rows).run(parts, advance)
        refuse_one_column(cfg, state.first_part[1] if state.first_part else ())
        told(state.rows_read)
    scratch = work / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    room.refuse_small_disk_for_sorting(state.rows, len(state.files[0].columns), work)
    engine: Engine = open_engine(
        cfg.engine, work / "staged", state.files, scratch=scratch, memory=room.memory, disk=room.free(work)
    )
    try:
        with _told("distinct users, items", say) as told, progress("finding ids"):
            ids = vocabularies(engine, work / "ids")
            told(len(ids["user"]), len(ids["item"]))
        facts = facts_of(cfg, state, engine, vocabularies=ids)
        notes = reading_notes(cfg, state, engine, ids=ids, label=parts.label, parts=notes)
        with _told("rows in order", say) as told, progress("ordering rows", state.rows) as advance:
            sizes = {"rows": state.rows, "users": len(ids["user"]), "items": len(ids["item"])}
            log = ordered_rows(engine, work / "ordered", **sizes, advance=advance)
            told(log.rows)
    finally:
        engine.close()
    return _packed(cfg, identity, Read(parts, state, facts, notes, log, ids), work=work, room=room, say=say)


class Read(NamedTuple):
    """What was read and ordered."""

    parts: Parts
    state: StageState
    facts: Facts
    notes: list[str]
    log: Ordered
    ids: dict[str, pa.Array]


def _packed(
    cfg: Config, identity: dict[str, Any], read: Read, *, work: Path, room: Room, say: Say
) -> tuple[PackedLog, LargeIds]:
    log, notes = read.log, list(read.notes)
    if "split" in log.columns:
        notes += _split_notes(cfg, log, room.batch_rows)
    notes += read.facts.notes
    contexts = dict(zip(named(cfg.context_columns), map(list, read.state.contexts), strict=True))
    notes += category_notes(cfg, read.facts, contexts)
    levels = _levels(cfg, log, contexts, notes=notes)
    where = _Where(cfg, read.parts)
    with _told("rows stay", say) as told, progress("filtering") as advance:
        filters = Filters(log, work / "kept.bin", block=room.batch_rows, advance=advance)
        counts = filters.run(cfg, where)
        told(counts[-1]["events"])
    for line in removed_said(counts):
        say(line)
    if int((filters.items_V > 0).sum()) < 2:
        raise SeqrecError(one_item(cfg, log.items))
    ticks = None if cfg.time_column is None else 0 if cfg.time_unit == "order" else read.state.times.per_second
    with progress("writing", log.rows) as advance:
        packed = finish(log, filters, work / "packed", ticks=ticks, levels=levels, advance=advance)
    for note in notes:
        say(note)
    identity = identity | {"source": cfg.source, "filters": counts}
    read = read._replace(notes=notes)
    return _as_log(cfg, identity, Written(packed, contexts, ticks), read=read, say=say)


class Written(NamedTuple):
    """The arrays, the texts of context, and the ticks of a second."""

    packed: Packed
    contexts: dict[str, list[str]]
    ticks: int | None


def _as_log(
    cfg: Config, identity: dict[str, Any], written: Written, *, read: Read, say: Say
) -> tuple[PackedLog, LargeIds]:
    packed, contexts, ticks = written
    numeric, facts = numeric_attributes(cfg), read.facts
    items = known_of(facts.items, packed.items_K, numeric)
    users = known_of(facts.users, packed.users_K, numeric)
    catalog, values = catalog_of(items, users, contexts, numeric=numeric)
    user_ids = read.ids["user"].take(pa.array(packed.users_K))
    item_ids = read.ids["item"].take(pa.array(packed.items_K))
    owners = None
    if facts.owners is not None:
        owners = checked_owners(attributes.owners(facts.owners, packed.items_K, user_ids), say)
    manifest = manifest_of(
        identity,
        order=order_in_words(ticks, further=bool(cfg.order_columns)),
        ties=(packed.equal_times, packed.ordered_ties),
        time_span=packed.time_span,
        notes=read.notes,
        values=values,
        process=None,
    )
    arrays = packed.arrays
    log = PackedLog(
        arrays["offsets"],
        arrays["items"],
        arrays.get("times"),
        arrays.get("ratings"),
        catalog,
        manifest,
        arrays.get("context"),
        None,
        arrays.get("sessions"),
        owners,
        splits_N=arrays.get("splits"),
        weights_N=arrays.get("weights"),
        tied_N=arrays.get("tied"),
    )
    titles = None if facts.titles is None else attributes.titles(facts.titles, packed.items_K)
    return log, LargeIds(user_ids, item_ids, titles)


def _split_notes(cfg: Config, log: Ordered, block: int) -> list[str]:
    counts, early = np.zeros(3, np.int64), 0
    for rows in log.blocks(block):
        splits_B = np.asarray(log.columns["split"][rows])
        counts += np.bincount(splits_B, minlength=3)
        if "time" in log.columns:
            users_B = np.asarray(log.columns["user"][rows])
            early += count_early(users_B - users_B[0], splits_B, np.asarray(log.columns["time"][rows]))
    return split_notes(counts, early, keep=cfg.split_leaks)


def _levels(cfg: Config, log: Ordered, contexts: dict[str, list[str]], *, notes: list[str]) -> list[np.ndarray | None]:
    """For columns of context that are numbers the level of each code, with that of no value last; their texts are then
    those of the levels, as `numbers.number_levels` has them."""
    found: list[np.ndarray | None] = []
    numeric = numeric_attributes(cfg)
    for nth, (name, texts) in enumerate(list(contexts.items())):
        if name not in numeric:
            found.append(None)
            continue
        numbers = np.array([number_of(text, f"dataset.numeric_columns holds {name}") for text in texts] or [np.nan])
        codes_N = np.asarray(log.columns[f"context{nth}"])
        counts = np.bincount(codes_N + 1, minlength=len(numbers) + 1)[1:]
        known = ~np.isnan(numbers) & (counts > 0)
        many = len(np.unique(numbers[known])) > 1
        levels, note = levels_of(name, np.repeat(numbers[known], counts[known] if many else 1))
        notes += [note] if note else []
        others = np.full(len(numbers) + 1, -1, np.int32)
        others[:-1][~np.isnan(numbers)] = nearest_level(levels, numbers[~np.isnan(numbers)])
        contexts[name] = [repr(level) for level in levels.tolist()]
        found.append(others)
    return found


class _Where:
    """Where a row is, in words."""

    def __init__(self, cfg: Config, parts: Parts) -> None:
        self.cfg, self.parts = cfg, parts.parts

    def __call__(self, part: int, row: int) -> str:
        place = place_in(self.parts[part], self.cfg, row)
        return place if len(self.parts) == 1 else f"{self.parts[part].label}: {place}"


@contextmanager
def _told(what: str, say: Say) -> Iterator[Any]:
    """Says how many there were, and in which time."""
    began, counts = time.perf_counter(), list[int]()
    yield lambda *found: counts.extend(found)
    say(f"{', '.join(f'{count:,}' for count in counts)} {what} ({time.perf_counter() - began:,.0f} s)")
