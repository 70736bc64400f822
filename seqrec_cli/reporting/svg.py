"""Plots as SVG text for a page: intervals on both sides of 0, and shares that rise with a cutoff."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
ROW, LABELS, PLOT, VALUES, TOP, BOTTOM = 24, 340, 370, 210, 8, 34  # pixels
HEIGHT = 260


class Bar(NamedTuple):
    """An interval with its middle; a label that is empty repeats the one above."""

    label: str
    value: float
    low: float
    high: float


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between the two, about so many."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    step = 10 ** math.floor(math.log10(raw))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= raw)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def forest(bars: Sequence[Bar], *, zero: bool) -> str:
    """A row a bar. With `zero` a line stands at 0, and intervals that hold it are grey."""
    ends = [end for bar in bars for end in (bar.low, bar.high)] + ([0.0] if zero else [])
    low, high = min(ends), max(ends)
    margin = (high - low) * 0.06 or 1e-3
    low, high = low - margin, high + margin
    height, width = TOP + ROW * len(bars) + BOTTOM, LABELS + PLOT + VALUES

    def x(value: float) -> float:
        return round(LABELS + PLOT * (value - low) / (high - low), 1)

    bottom = TOP + ROW * len(bars)
    found = [f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img">']
    for tick in ticks(low, high):
        found.append(f'<line class="line" x1="{x(tick)}" x2="{x(tick)}" y1="{TOP}" y2="{bottom}"/>')
        text = f"{tick:+.4g}" if zero and abs(tick) > 1e-12 else f"{tick:.4g}" if abs(tick) > 1e-12 else "0"
        found.append(f'<text class="soft" x="{x(tick)}" y="{bottom + 18}" text-anchor="middle">{text}</text>')
    if zero:
        found.append(f'<line class="unsure" x1="{x(0)}" x2="{x(0)}" y1="{TOP}" y2="{bottom}" stroke-width="1.5"/>')
    for nth, bar in enumerate(bars):
        y = TOP + ROW * nth + ROW / 2
        kind = "unsure" if zero and bar.low <= 0 <= bar.high else "mark"
        found.append(f'<text x="0" y="{y + 4}">{escape(bar.label)}</text>')
        found.append(f'<line class="{kind}" x1="{x(bar.low)}" x2="{x(bar.high)}" y1="{y}" y2="{y}" stroke-width="2"/>')
        found.append(f'<circle class="{kind}" cx="{x(bar.value)}" cy="{y}" r="4"/>')
        sign = "+" if zero else ""
        words = f"{bar.value:{sign}.4f} [{bar.low:{sign}.4f}, {bar.high:{sign}.4f}]"
        found.append(f'<text class="soft" x="{LABELS + PLOT + 10}" y="{y + 4}">{words}</text>')
    return "\n".join([*found, "</svg>"])


def rising(names: Sequence[str], cutoffs: Sequence[int], shares: Sequence[Sequence[float]]) -> str:
    """A line a run over cutoffs on a logarithmic axis: the share of targets found among the first k."""
    left, right = 46, 170
    width, top = LABELS + PLOT + VALUES, 10
    most = max(max(line) for line in shares) * 1.05 or 1.0
    longest = math.log(max(cutoffs[-1], 2))

    def x(cutoff: float) -> float:
        return round(left + (width - left - right) * math.log(cutoff) / longest, 1)

    def y(share: float) -> float:
        return round(top + HEIGHT * (1 - share / most), 1)

    found = [f'<svg viewBox="0 0 {width} {top + HEIGHT + 40}" width="{width}" role="img">']
    for share in ticks(0, most):
        found.append(f'<line class="line" x1="{left}" x2="{width - right}" y1="{y(share)}" y2="{y(share)}"/>')
        found.append(f'<text class="soft" x="{left - 6}" y="{y(share) + 4}" text-anchor="end">{share:.3g}</text>')
    for power in range(int(longest / math.log(10)) + 1):
        found.append(f'<text class="soft" x="{x(10**power)}" y="{top + HEIGHT + 18}">{10**power:,}</text>')
    for nth, (name, line) in enumerate(zip(names, shares, strict=True)):
        colour = COLOURS[nth % len(COLOURS)]
        points = " ".join(f"{x(cutoff)},{y(share)}" for cutoff, share in zip(cutoffs, line, strict=True))
        found.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = top + 14 + 18 * nth
        found.append(f'<rect x="{width - right + 14}" y="{at - 9}" width="10" height="10" fill="{colour}"/>')
        found.append(f'<text x="{width - right + 30}" y="{at}">{escape(name)}</text>')
    return "\n".join([*found, "</svg>"])
