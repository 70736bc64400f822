"""The benchmark's figures as a person reads them."""

import statistics
from typing import Any

from rich.console import Console
from rich.table import Table


def show(result: dict[str, Any]) -> None:
    """The figures a person reads."""
    console = Console()
    cfg, data, limit = result["config"], result["data"], result["ceiling"]
    title = (
        f"{cfg['model']['name']} on {cfg['dataset']['name']} ({data['users']:,} users, {data['items']:,} items), "
        f"{result['precision']}, {result['threads']} threads"
    )
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in _lines(result):
        table.add_row(name, value)
    formats = [key.split("_")[1] for key in limit if key.endswith("gflop_s")]
    rates = ", ".join(f"{limit[f'gemm_{name}_gflop_s']:,.0f} {name}" for name in formats)
    table.add_row("ceiling", f"GEMM {rates} GFLOP/s; copy {limit['copy_gb_s']:.1f} GB/s read and written")
    console.print(table)
    if result["ratios"]:
        console.print(_beside(result))
    if "profile" in result:
        print(result["profile"])


def _lines(result: dict[str, Any]) -> list[tuple[str, str]]:
    lines = []
    if train := result.get("train"):
        lines += [
            (
                "training",
                f"{train['tokens_s']:,.0f} tokens/s ({train['padded_tokens_s']:,.0f} with padding), "
                f"{train['targets_s']:,.0f} targets/s, {train['sequences_s']:,.0f} sequences/s",
            ),
            (
                "",
                f"{train['ms_step']:.1f} ms a step, {train['epoch_seconds']:.2f} s an epoch of {train['epoch_steps']} "
                f"steps, peak {train['peak_memory_mb']:,.0f} MB",
            ),
            (
                "",
                f"{train['useful_gflop_s']:,.1f} useful GFLOP/s, {train['fraction_of_gemm']:.1%} of the GEMM ceiling "
                f"({_shares(train['useful_flop'])})",
            ),
        ]
    if measured := result.get("evaluate"):
        rate = f"{measured['users_s']:,.0f} users/s ({measured['seconds']:.2f} s), peak"
        lines.append(("evaluation", f"{rate} {measured['peak_memory_mb']:,.0f} MB; seen items removed"))
    if raw := result.get("preprocess"):
        lines.append(("raw to ready", f"{raw['seconds']:.2f} s, peak {raw['peak_memory_mb']:,.0f} MB"))
    return lines


def _shares(flops: dict[str, float]) -> str:
    total = sum(flops.values())
    return ", ".join(f"{name} {value / total:.0%}" for name, value in flops.items() if value / total >= 0.005)


def _beside(result: dict[str, Any]) -> Table:
    table = Table(title="seqrec over the peer: median of the rounds (least to most)", title_justify="left")
    for name in ("", "what", "seqrec", "peer", "ratio"):
        table.add_column(name)
    for name, found in result["ratios"].items():
        peer = result["rounds"][0][name]
        for part, ratio in found.items():
            figure = ratio["figure"]
            own, other = (
                statistics.median(turn[side][part][figure] for turn in result["rounds"]) for side in ("seqrec", name)
            )
            kept = part == "evaluate" and peer[part]["seen_removed"] is False
            how = ", ".join(
                [peer["precision"], "tuned" if peer["tuned"] else "as shipped", *(["seen items kept"] if kept else [])]
            )
            table.add_row(
                f"{name} {peer['version']}",
                f"{part}, {figure.replace('_s', '/s')}",
                f"{own:,.0f}",
                f"{other:,.0f} ({how})",
                f"{ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})",
            )
    return table
