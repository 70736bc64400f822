"""The tables of docs/scale.md, as Markdown, by the name that stands in the page."""

from collections.abc import Iterable
from typing import Any

from scripts.scale.arithmetic import (
    Setting,
    distinct_of_step,
    epoch_hours,
    exchange_bytes,
    fewest_devices,
    memory,
    parts,
    seconds,
    table_bytes,
)
from scripts.scale.volumes import (
    Preprocess,
    Serving,
    in_process,
    indexes,
    machines,
    on_disk,
    preprocessing,
    ranking_seconds,
    requests_a_second,
)

WIDTHS = (64, 128, 256)
GPUS = (8, 16, 32, 64, 128, 256, 512, 1024)
NODES = (4, 8, 16, 32, 64, 128, 256)


def size(value: float) -> str:
    """Bytes, decimal units, three digits."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale * 0.9995:
            return f"{three(value / scale)} {unit}"
    return f"{value:.0f} B"


def three(value: float) -> str:
    """Three digits that count."""
    if value >= 99.95:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.{1 if value >= 9.995 else 2}f}"


def span(hours: float) -> str:
    """Hours in the unit that keeps them short."""
    for unit, scale in (("years", 8766), ("days", 24), ("h", 1)):
        if hours >= scale:
            return f"{three(hours / scale)} {unit}"
    return f"{three(hours * 60)} min" if hours >= 1 / 60 else f"{three(hours * 3600)} s"


def table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Markdown."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def disk_table(inputs: dict[str, Any]) -> str:
    setting = Setting.of(inputs, "H100")
    return table(
        ["on disk", "size"], ((name, size(found)) for name, found in on_disk(setting.log, setting.model).items())
    )


def tables_table(inputs: dict[str, Any]) -> str:
    base = Setting.of(inputs, "H100")
    rows = []
    for whose, count in (("items", base.log.items), ("users", base.log.users)):
        for dim in WIDTHS:
            found = table_bytes(count + 1, dim)
            rows.append((whose, dim, *map(size, found.values()), size(found["table"] + found["moments"])))
    return table(["table of", "width", "itself", "two moments", "dense gradient", "itself and moments"], rows)


def memory_table(inputs: dict[str, Any]) -> str:
    rows = []
    for name in inputs["accelerators"]:
        for dim in WIDTHS:
            setting = Setting.of(inputs, name).wide(dim)
            n = fewest_devices(setting)
            found = memory(setting, n)
            rows.append((name, dim, n, *map(size, found.values()), size(sum(found.values()))))
    return table(
        ["device", "width", "fewest", "table", "moments", "dense part", "activations", "rows of the step", "together"],
        rows,
    )


def bytes_table(inputs: dict[str, Any]) -> str:
    setting = Setting.of(inputs, "H100")
    shown = (8, 64, 512)
    found = [exchange_bytes(setting, n) for n in shown]
    rows = ((name, *(size(each[name]) for each in found)) for name in found[0])
    return table(["sent by a GPU in a step", *(f"{n} GPUs" for n in shown)], rows)


def scaling_table(inputs: dict[str, Any], name: str, counts: Iterable[int], dim: int) -> str:
    setting = Setting.of(inputs, name).wide(dim)
    first = fewest_devices(setting)
    rows = []
    base = None
    for n in counts:
        if n < first:
            continue
        found, whole = parts(setting, n), seconds(setting, n)
        rate = setting.targets / whole
        base = rate if base is None else base
        shown = (f"{found[key] * 1e3:.2f}" for key in ("layers", "loss", "table", "exchange", "all-reduce"))
        rows.append(
            (
                n,
                *shown,
                f"{whole * 1e3:.2f}",
                f"{three(rate * n / 1e6)} M",
                f"{rate / base:.0%}",
                f"{setting.log.events / setting.targets / n:,.0f}",
                span(epoch_hours(setting, n)),
                span(epoch_hours(setting, n, full_softmax=True)),
            )
        )
    heads = [
        "layers",
        "loss",
        "table",
        "exchange",
        "all-reduce",
        "step, ms",
        "targets/s",
        "of the first's",
        "steps an epoch",
    ]
    return table([name + "s", *heads, "an epoch", "softmax over all items"], rows)


def batch_table(inputs: dict[str, Any]) -> str:
    """One batch divided over more devices, instead of more batches at once."""
    whole = Setting.of(inputs, "H100")
    batch = whole.step.rows * GPUS[0]
    first = whole.targets * GPUS[0] / seconds(whole, GPUS[0])
    rows = []
    for n in GPUS:
        setting = whole.of_batch(batch / n)
        found, step = parts(setting, n), seconds(setting, n)
        rate = setting.targets * n / step
        shown = (f"{found[key] * 1e3:.2f}" for key in ("layers", "loss", "table", "exchange", "overhead"))
        ideal = first * n / GPUS[0]
        rows.append(
            (
                n,
                f"{setting.step.rows:,.0f}",
                *shown,
                f"{step * 1e3:.2f}",
                f"{rate / ideal:.0%}",
                span(epoch_hours(setting, n)),
            )
        )
    heads = ["layers", "loss", "table", "exchange", "overhead", "step, ms", "of the ideal", "an epoch"]
    return table(["H100s", "rows of a GPU", *heads], rows)


def loader_table(inputs: dict[str, Any]) -> str:
    rows = []
    thread, a_target = inputs["loader"]["targets_a_thread"], inputs["loader"]["bytes_a_target"]
    for name, n in (("H100", 64), ("H200", 64), ("CPU", 64)):
        for dim in WIDTHS:
            setting = Setting.of(inputs, name).wide(dim)
            rate = setting.targets / seconds(setting, n)
            in_node = setting.device.in_node
            rows.append(
                (name, dim, f"{three(rate / 1e6)} M", f"{rate / thread:.2f}", f"{size(rate * a_target * in_node)}/s")
            )
    return table(["device", "width", "targets/s it asks for", "loader threads", "read by a node"], rows)


def process_table(inputs: dict[str, Any]) -> str:
    rows = in_process(Setting.of(inputs, "H100").log)
    return table(["arrays of a process", "size"], ((name, size(found)) for name, found in rows.items()))


def preprocess_table(inputs: dict[str, Any]) -> str:
    log, cost = Setting.of(inputs, "H100").log, Preprocess(**inputs["preprocess"])
    rows = []
    for nodes in (1, 8, 32, 128):
        found = preprocessing(log, cost, nodes)
        hours = (span(found[key]) for key in ("processors", "network", "disks", "hours"))
        rows.append((nodes, *hours, size(found["spilled a node"])))
    return table(["nodes", "processors", "network", "disks", "together", "of one shuffle on a node's disks"], rows)


def ranking_table(inputs: dict[str, Any]) -> str:
    setting = Setting.of(inputs, "H100")
    rows = []
    for requests in (10_000, 1_000_000, setting.log.users):
        found = ranking_seconds(setting, requests, 64)
        half = 1.96 * (0.05 * 0.95 / requests) ** 0.5
        rows.append(
            (
                f"{requests:,}",
                *(span(x / 3600) for x in found.values()),
                span(sum(found.values()) / 3600),
                f"± {half:.5f}",
            )
        )
    return table(["requests", "encoding", "products", "scores", "together", "95 % interval of a hit rate of .05"], rows)


def serving_table(inputs: dict[str, Any]) -> str:
    setting, cost = Setting.of(inputs, "H100"), Serving(**inputs["serving"])
    cpu = inputs["accelerators"]["CPU"]
    core = cpu["flops"] / 128 * inputs["rates"]["of_peak"]
    rows = []
    for kind, found in indexes(setting.log, setting.model, cost).items():
        count = machines(setting.log, setting.model, cost, kind=kind, encode_flops=core)
        rows.append((f"`{kind}`", size(found["bytes"]), f"{three(found['ms'])}", f"{three(count)}"))
    peak = f"machines for {three(requests_a_second(setting.log, cost) / 1e3)} thousand requests/s"
    return table(["index", "memory", "ms of a core, a query", peak], rows)


def all_tables(inputs: dict[str, Any]) -> dict[str, str]:
    """By name, in the page's order."""
    setting = Setting.of(inputs, "H100")
    rows = f"{distinct_of_step(setting):,.0f} of {setting.targets:,.0f} events and {setting.step.negatives:,} negatives"
    return {
        "disk": disk_table(inputs),
        "tables": tables_table(inputs),
        "memory": memory_table(inputs),
        "distinct": f"Different rows of the item table in a GPU's step: {rows}.",
        "bytes": bytes_table(inputs),
        "scaling-h100": scaling_table(inputs, "H100", GPUS, 128),
        "scaling-h100-256": scaling_table(inputs, "H100", GPUS, 256),
        "scaling-h200": scaling_table(inputs, "H200", GPUS, 128),
        "scaling-cpu": scaling_table(inputs, "CPU", NODES, 128),
        "batch": batch_table(inputs),
        "loader": loader_table(inputs),
        "process": process_table(inputs),
        "preprocess": preprocess_table(inputs),
        "ranking": ranking_table(inputs),
        "serving": serving_table(inputs),
    }
