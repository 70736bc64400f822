"""A page in one file: tables, plots and their style, nothing fetched from anywhere."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

STYLE = """
:root { --ink: #1f2328; --soft: #656d76; --line: #d8dee4; --paper: #ffffff; --mark: #0072b2; --other: #d55e00 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --paper: #0d1117; --mark: #56b4e9; --other: #e69f00 }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 68rem;
       margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
p.note { color: var(--soft); max-width: 60rem }
div.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92em }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th { color: var(--soft); font-weight: 600 }
th.text, td.text { text-align: left }
tr.strong td { font-weight: 600 }
svg, img { display: block; margin: .8rem 0; max-width: 100%; height: auto }
pre { overflow-x: auto; border: 1px solid var(--line); padding: .6rem .8rem }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif }
svg text.soft { fill: var(--soft) } svg .line { stroke: var(--line) }
svg .mark { stroke: var(--mark); fill: var(--mark) }
svg .unsure { stroke: var(--soft); fill: var(--soft) }
""".strip()


def page(title: str, parts: Sequence[str]) -> str:
    """The whole document; `parts` are HTML."""
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """A section's title."""
    return f"<h2>{escape(text)}</h2>"


def note(text: str) -> str:
    """A paragraph in small type."""
    return f'<p class="note">{escape(text)}</p>'


def code(text: str) -> str:
    """A command, to be copied."""
    return f"<pre>{escape(text)}</pre>"


def picture(path: Path, alt: str) -> str:
    """A picture, PNG or SVG, inside the page."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    kind = "svg+xml" if path.suffix == ".svg" else "png"
    return f'<img alt="{escape(alt, quote=True)}" src="data:image/{kind};base64,{data}">'


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: int, strong: Sequence[int] = ()) -> str:
    """A table of texts; the first `text` columns are words, the others numbers. Rows numbered in `strong` are bold."""
    kinds = [' class="text"' if column < text else "" for column in range(len(columns))]

    def line(tag: str, cells: Sequence[str], css: str = "") -> str:
        inner = "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))
        return f"<tr{css}>{inner}</tr>"

    body = [line("td", row, ' class="strong"' if nth in strong else "") for nth, row in enumerate(rows)]
    return '<div class="wide"><table>\n' + "\n".join([line("th", columns), *body]) + "\n</table></div>"
