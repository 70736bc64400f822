"""What a run would take, as a table for a person."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from seqrec_cli.training.memory import in_bytes

PARTS = {
    "item_table": "item table",
    "optimizer": "optimizer state",
    "activations": "activations, largest batch",
    "loss_scratch": "scratch of the loss",
    "kept_free": "kept by the allocator",
    "log": "the log's events",
}


def in_flops(count: float) -> str:
    """A number of operations, in the unit that keeps it short."""
    for unit, scale in (("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6)):
        if count >= scale:
            return f"{count / scale:,.1f} {unit}"
    return f"{count:,.0f} FLOP"


def in_time(seconds: float) -> str:
    """A duration to about three digits."""
    if seconds >= 5400:
        return f"{seconds / 3600:,.1f} h"
    if seconds >= 90:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"


def plan_table(title: str, plan: Mapping[str, Any]) -> Table:
    """Sections for parameters, memory, work and time, as far as `plan` (the result of the verb) has them."""
    table = Table(title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for section in (_parameters, _memory, _work, _time):
        table.add_section()
        for row in section(plan):
            table.add_row(*(escape(cell) for cell in row))
    return table


Row = tuple[str, str, str]


def _parameters(plan: Mapping[str, Any]) -> Iterator[Row]:
    parts = plan["parameters"]
    yield "parameters", f"{parts['total']:,}", ""
    for name, count in parts.items():
        if name != "total" and count:
            yield f"  {PARTS.get(name, name)}", f"{count:,}", f"{count / parts['total']:.0%}"


def _memory(plan: Mapping[str, Any]) -> Iterator[Row]:
    memory = plan["memory"]
    free = "" if memory["available"] is None else f"; {in_bytes(memory['available'])} is free"
    yield "memory of a step", in_bytes(memory["total"]), f"about{free}"
    for name, size in memory.items():
        if name not in ("total", "available") and size:
            yield f"  {PARTS.get(name, name)}", in_bytes(size), ""


def _work(plan: Mapping[str, Any]) -> Iterator[Row]:
    steps, flops = plan["steps"], plan["flops"]
    if steps is not None:
        yield "steps an epoch", f"{steps['epoch']:,}", f"{steps['total']:,} in all, at most"
        yield "work of a step", in_flops(flops["step"]), "about, padding included"
        yield "work of an epoch", in_flops(flops["epoch"]), ""


def _time(plan: Mapping[str, Any]) -> Iterator[Row]:
    times = plan["time"]
    if times is not None:
        rate = f"{times['targets_per_second']:,.0f} targets/s, {in_flops(times['flops_per_second'])}/s"
        yield "time of an epoch", in_time(times["epoch"]), f"{rate}; from {times['timed_steps']} steps"
        yield "time of an evaluation", in_time(times["evaluation"]), f"{times['users_per_second']:,.0f} users/s"
        whole = f"{times['epochs']:.4g} epochs, {times['evaluations']} evaluations at most"
        whole += f", {times['seeds']} seeds" if times["seeds"] > 1 else ""
        yield "time of the run", in_time(times["run"]), whole
