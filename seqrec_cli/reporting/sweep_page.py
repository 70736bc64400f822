"""A sweep as a page in one file: its jobs, parallel coordinates, learning curves, and the command of the best run."""

from collections.abc import Sequence
from pathlib import Path

from seqrec_cli.files import write_atomically
from seqrec_cli.reporting.html_page import code, heading, html_table, note, page, picture
from seqrec_cli.reporting.sweep_board import TEST_SET, board_rows, number, state_of
from seqrec_cli.reporting.sweep_folder import Row, SweepFolder
from seqrec_cli.reporting.sweep_pictures import draw_coordinates, draw_job_curves
from seqrec_cli.reporting.sweep_rank import monitors_of, repeat_command, varying


def write_page(folder: SweepFolder, rows: Sequence[Row], winners: Sequence[Row], *, verb: str) -> None:
    """Draw the pictures, and put them and the table into `sweep.html`."""
    columns, cells = board_rows(rows)
    best = {str(row["job"]) for row in winners}
    strong = [nth for nth, line in enumerate(cells) if line[1] in best]
    parts = [note(_told(rows))]
    for row in winners:
        where = f", in {row['run_dir']}" if row["run_dir"] else ""
        parts.append(
            note(f"Best by validation {row['monitor']}: job {row['job']} ({number(row['val'])}){where}. Again:")
        )
        parts.append(code(repeat_command(verb, row)))
    words = 2 + len(varying(rows)) + (TEST_SET in columns)
    parts += [heading("Jobs"), html_table(columns, cells, text=words, strong=strong)]
    failed = [row for row in rows if row["error"]]
    if failed:
        parts += [heading("Jobs that did not end well")]
        lines = [[str(row["job"]), state_of(row), str(row["error"]), row["log"] or ""] for row in failed]
        parts += [html_table(["job", "state", "reason", "log"], lines, text=4)]
    pictures = (
        ("Settings and outcome", folder.coordinates_png, draw_coordinates(rows, folder.coordinates_png)),
        ("Learning curves", folder.curves_png, draw_job_curves(rows, folder.curves_png)),
    )
    for title, png, drawn in pictures:
        if drawn:
            parts += [heading(title), picture(png, title)]
    fingerprints = list(dict.fromkeys(row["fingerprint"] for row in rows if row["fingerprint"]))
    if fingerprints:
        parts.append(note(f"Data and protocol: {', '.join(each[:12] for each in fingerprints)}."))
    write_atomically(folder.page_html, page(f"Sweep {_name(folder.path)}", parts))


def _name(path: Path) -> str:
    return path.resolve().name


def _told(rows: Sequence[Row]) -> str:
    failed = sum(bool(row["error"]) for row in rows)
    seconds = sum(row["seconds"] or 0 for row in rows)
    by = ", ".join(monitors_of(rows)) or "nothing"
    told = (
        f"{len(rows)} jobs, {failed} of them failed; {seconds / 60:.1f} minutes of work; compared by validation {by}."
    )
    return told + " The test set is read for the best job alone, where the settings ask for it."
