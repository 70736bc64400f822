"""Pictures of runs, studies and sweeps are laid out in tests, and one of all is painted: a third of a second each."""

import io
import re
from pathlib import Path
from typing import Any
from unittest import mock

PICTURES = "curves|reliability_\\w+|importance|slices|contour|parallel_coordinates|learning_curves"


def a_picture() -> bytes:
    """A small one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = io.BytesIO()
    FigureCanvasAgg(Figure(figsize=(1, 1))).print_png(made)
    return made.getvalue()


def unpainted(*, painted: bytes | None = None) -> Any:
    """A patch by which each of these pictures is the bytes of the first, or `painted`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    paint, first = FigureCanvasAgg.print_png, [] if painted is None else [painted]

    def print_png(canvas: FigureCanvasAgg, path: Any, **named: Any) -> None:
        of_a_run = isinstance(path, str | Path) and re.match(rf"\.({PICTURES})\.png\.", Path(path).name)
        if of_a_run and first:
            Path(path).write_bytes(first[0])
        else:
            paint(canvas, path, **named)
        if of_a_run:
            first[:] = [Path(path).read_bytes()]

    return mock.patch.object(FigureCanvasAgg, "print_png", print_png)
