"""Pictures of one look, written whole or not at all. matplotlib takes half a second to import: only to draw."""

from pathlib import Path
from typing import TYPE_CHECKING

from seqrec_cli.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, *, dpi: int = 120) -> "Figure":
    """An empty one, of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=dpi, layout="constrained")


def save_png(figure: "Figure", png: Path) -> None:
    """Paint it, without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with atomic_file(png) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
