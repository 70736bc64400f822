"""`seqrec compare log=...`: the arms of an online experiment, from what `serve` logged."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.data.exposure_log import OnlineLog, read_log
from seqrec_cli.evaluation.online import Found, arms_compared
from seqrec_cli.files import write_atomically
from seqrec_cli.reporting.comparison import comparison_table
from seqrec_cli.reporting.online_comparison import CAPTION, arms_table, left_out_lines, online_csv, online_page, period
from seqrec_cli.reporting.tables import print_table


def compare_arms(path: Path, output: str | None) -> dict[str, Any]:
    """Print arms, rates and differences; the same as plain values."""
    log = read_log(path)
    found = arms_compared(log)
    arms, names = [asdict(arm) for arm in found.arms], [arm.name for arm in found.arms]
    metrics = {metric: [asdict(arm) for arm in of_arms] for metric, of_arms in found.metrics.items()}
    title = f"{log.files} file{'s' * (log.files > 1)}, {period(log.began, log.ended)}"
    print_table(arms_table(arms, title))
    if metrics:
        print_table(comparison_table(names, metrics, f"{sum(arm.users for arm in found.arms):,} users"))
    told = _told(log, found, names)
    for line in told:
        say(line)
    if output is not None:
        folder = Path(output).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "compare.csv", online_csv(arms, metrics))
        text = online_page(arms, metrics, title=" and ".join(names), told=[title, *told])
        write_atomically(folder / "compare.html", text)
        say(str(folder / "compare.html"))
    return {
        "arms": arms,
        "metrics": metrics,
        "sample_ratio_p": found.ratio_p,
        "doubts": found.doubts,
        "differences": [
            {"metric": metric, "arm": names[number], "higher": names[_higher(found, metric, number)]}
            for metric, number in found.differing()
        ],
        "left_out": asdict(log.left_out),
    }


def _higher(found: Found, metric: str, number: int) -> int:
    return number if found.metrics[metric][number].difference > 0 else 0


def _told(log: OnlineLog, found: Found, names: list[str]) -> list[str]:
    """Lines under the tables: how they are to be read, what is not in them, and what they come to."""
    users = " : ".join(f"{count:,}" for count in log.dealt_A)
    planned = " : ".join(f"{arm.planned:.3g}" for arm in found.arms)
    lines = [CAPTION.format(first=names[0])] if found.metrics else []
    lines += left_out_lines(asdict(log.left_out))
    lines.append(f"sample ratio: {users} users, planned {planned} (chi-square, p = {found.ratio_p:.3g})")
    if found.doubts:
        return [*lines, f"WARNING: no winner is named: {'; '.join(found.doubts)}"]
    if not found.metrics:
        return [*lines, "no feedback to the exposures of this log"]
    for metric, number in found.differing():
        above = _higher(found, metric, number)
        by = abs(found.metrics[metric][number].difference)
        lines.append(f"{metric}: higher with {names[above]} than with {names[number - above]}, by {by:.4f}")
    return lines if found.differing() else [*lines, "no difference here is more than chance"]
