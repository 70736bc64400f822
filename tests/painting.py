"""Pictures in tests: of runs, studies and sweeps the first of all is painted, a third of a second each.

A run's own (its curves, its reliability) are laid out once in a process, too: every run of a test would lay out three
of them, a third of the time that it takes. In a process that has been handed a painted one, none is.
"""

import io
import re
from contextlib import ExitStack
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


class _Blank:
    """A figure, or a part of one, on which nothing is laid out."""

    def __getattr__(self, name: str) -> "_Blank":
        return self

    def __call__(self, *given: Any, **named: Any) -> "_Blank":
        return self

    def __getitem__(self, key: Any) -> "_Blank":
        return self

    def subplots(self, rows: int, columns: int, **named: Any) -> list["_Blank"]:
        return [self] * (rows * columns)


class Unpainted:
    """A patch by which each of these pictures is the bytes of the first, or `painted`."""

    def __init__(self, *, painted: bytes | None = None) -> None:
        self.first, self._handed, self._patches = painted, painted is not None, ExitStack()

    def start(self) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        from seqrec_cli.reporting import curves, reliability

        paint = FigureCanvasAgg.print_png

        def print_png(canvas: FigureCanvasAgg, path: Any, **named: Any) -> None:
            of_a_run = isinstance(path, str | Path) and re.match(rf"\.({PICTURES})\.png\.", Path(path).name)
            if of_a_run and self.first:
                Path(path).write_bytes(self.first)
            else:
                paint(canvas, path, **named)
            if of_a_run:
                self.first = Path(path).read_bytes()

        self._patches.enter_context(mock.patch.object(FigureCanvasAgg, "print_png", print_png))
        for module in (curves, reliability):
            self._laid_out_once(module)

    def _laid_out_once(self, module: Any) -> None:
        new_figure, save_png, made = module.new_figure, module.save_png, []

        def figure(*size: float) -> Any:
            if self.first and (made or self._handed):
                return _Blank()
            made.append(size)
            return new_figure(*size)

        def save(drawn: Any, png: Path) -> None:
            if isinstance(drawn, _Blank):
                assert self.first is not None
                png.write_bytes(self.first)
            else:
                save_png(drawn, png)

        self._patches.enter_context(mock.patch.multiple(module, new_figure=figure, save_png=save))

    def stop(self) -> None:
        self._patches.close()
