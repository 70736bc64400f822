"""A reliability plot: how often candidates were clicked against how likely the model called it.

Legend: K bins of predicted probability.
"""

from pathlib import Path
from typing import Protocol

import numpy as np

from seqrec_cli.reporting.curves import BLUE, GREY, ORANGE
from seqrec_cli.reporting.figures import new_figure, save_png


class Bins(Protocol):
    """Candidates of each bin, their mean probability and the share clicked, and the calibration error."""

    @property
    def counts_K(self) -> np.ndarray: ...
    @property
    def predicted_K(self) -> np.ndarray: ...
    @property
    def clicked_K(self) -> np.ndarray: ...
    @property
    def error(self) -> float: ...


def draw_reliability(png: Path, bins: Bins) -> None:
    """Draw the bins that hold candidates: share clicked over mean probability, and below them their numbers."""
    counts_K, predicted_K, clicked_K = bins.counts_K, bins.predicted_K, bins.clicked_K
    full_K = np.flatnonzero(counts_K)
    figure = new_figure(5.2, 5.8)
    upper, lower = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    upper.plot((0, 1), (0, 1), color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="calibrated")
    upper.plot(predicted_K[full_K], clicked_K[full_K], color=ORANGE, linewidth=2, marker="o", label="model")
    upper.set_title("reliability", loc="left", fontsize=11, fontweight="bold")
    upper.set_title(f"expected calibration error {bins.error:.4f}", loc="right", fontsize=9, color=GREY)
    upper.set_ylabel("share clicked", color=GREY)
    upper.set_ylim(0, 1)
    upper.legend(frameon=False, fontsize=9, loc="best")
    edges_K1 = np.linspace(0, 1, len(counts_K) + 1)
    lower.bar(edges_K1[:-1], counts_K, width=np.diff(edges_K1), align="edge", color=BLUE, edgecolor="white")
    lower.set_yscale("log")
    lower.set_xlim(0, 1)
    lower.set_xlabel("predicted probability", color=GREY)
    lower.set_ylabel("candidates", color=GREY)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=GREY, labelsize=9)

    save_png(figure, png)
