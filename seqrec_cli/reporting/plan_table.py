"""What a run would take, as a table for a person."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from seqrec_cli.training.memory import in_bytes

PARTS = {
    "item_table": "item table",
    "gradients": "gradients",
    "optimizer": "optimizer state",
    "activations": "activations, largest batch",
    "temporary": "other tensors at the height",
    "loss_chunk": "loss chunk",
    "kept_free": "kept by the allocator",
    "targets": "targets and loss",
    "once": "once a step",
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
        rows = section(plan)
        if rows:
            table.add_section()
            for row in rows:
                table.add_row(*(escape(cell) for cell in row))
    return table


Row = tuple[str, str, str]


def _parameters(plan: Mapping[str, Any]) -> list[Row]:
    parts = plan["parameters"]
    total = parts["total"]
    rows = [("parameters", f"{total:,}", "")]
    for name, count in parts.items():
        if name != "total" and count:
            rows.append((f"  {PARTS.get(name, name)}", f"{count:,}", f"{count / total:.0%}"))
    return rows


def _memory(plan: Mapping[str, Any]) -> list[Row]:
    memory, chunk = plan["memory"], plan["loss_chunk"]
    if memory is None:
        return []
    available = memory["available"]
    rows = [
        (
            "memory of a step",
            in_bytes(memory["total"]),
            "about" if available is None else f"about; {in_bytes(available)} is free",
        )
    ]
    for name in ("model", "gradients", "optimizer", "activations", "temporary", "loss_chunk", "kept_free"):
        note = ""
        if name == "loss_chunk" and chunk is not None:
            budget = "" if chunk["budget"] is None else f"budget {in_bytes(chunk['budget'])}; "
            note = f"{budget}whole {in_bytes(chunk['unchunked'])}"
        if memory[name] is None:
            rows.append((f"  {PARTS.get(name, name)}", "-", ""))
        elif memory[name]:
            rows.append((f"  {PARTS.get(name, name)}", in_bytes(memory[name]), note))
    return rows


def _work(plan: Mapping[str, Any]) -> list[Row]:
    steps, flops = plan["steps"], plan["flops"]
    if steps is None:
        return []
    rows = [("steps an epoch", f"{steps['epoch']:,}", f"{steps['total']:,} in all, at most")]
    if flops is not None:
        padding = flops["epoch_with_padding"] / flops["epoch"] - 1
        rows.append(("work of a step", in_flops(flops["step"]), f"on average; padding adds {padding:.0%}"))
        rows.append(("work of an epoch", in_flops(flops["epoch"]), ""))
        for name, count in sorted(flops["parts"].items(), key=lambda part: -part[1]):
            if count:
                rows.append((f"  {PARTS.get(name, name)}", in_flops(count), f"{count / flops['epoch']:.0%}"))
    return rows


def _time(plan: Mapping[str, Any]) -> list[Row]:
    expected = plan["time"]
    if expected is None:
        return []
    rate = f"{expected['targets_per_second']:,.0f} targets/s; from {expected['probed_steps']} steps"
    ceiling = f"of {expected['ceiling'] / 1e9:,.0f} GFLOP/s, one {plan['precision']} product"
    whole = f"{expected['epochs']:.4g} epochs, {expected['evaluations']} evaluations at most"
    whole += f", {expected['seeds']} seeds" if expected["seeds"] > 1 else ""
    return [
        ("time of an epoch", in_time(expected["epoch"]), rate),
        ("  share of the ceiling", f"{expected['fraction']:.0%}", ceiling),
        ("time of an evaluation", in_time(expected["evaluation"]), f"{expected['users_per_second']:,.0f} users/s"),
        ("time of the run", in_time(expected["run"]), whole),
    ]
