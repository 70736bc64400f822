"""`seqrec card`: what a trained model is and how it was measured, as Markdown and a page, with its modules drawn."""

from pathlib import Path
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.commands.repeating import repeat_command
from seqrec_cli.commands.restore import ON_CPU, Restored, folder_of, restore
from seqrec_cli.config.card import CardConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.export.picture import draw_modules, lacking
from seqrec_cli.reporting.model_card import PICTURE, Subject, sections_of, title_of, write_card
from seqrec_cli.reporting.run_folder import RunFolder


def main(cfg: CardConfig) -> dict[str, Any]:
    """Write README.md, card.html and, where it can be drawn, model.svg; which files."""
    missing = None if cfg.picture is False else lacking()
    if cfg.picture and missing is not None:
        raise SeqrecError(f"picture=true: {missing}")
    run = restore(cfg.ckpt, cfg.archive, cfg.data_dir, hardware=ON_CPU)
    folder = folder_of(cfg.ckpt) / "card" if cfg.out is None else Path(cfg.out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise SeqrecError(f"out={folder} is a file; name a folder")
    subject = subject_of(run, RunFolder(folder_of(cfg.ckpt)))
    sections = sections_of(subject)
    folder.mkdir(parents=True, exist_ok=True)
    svg = folder / PICTURE
    if cfg.picture is False or missing is not None:
        svg.unlink(missing_ok=True)  # an earlier card's
    else:
        draw_modules(run.model, run.log, run.cfg.model.max_length, depth=cfg.depth, svg=svg)
    if missing is not None:
        say(f"no picture: {missing}")
    drawn = [svg] if svg.is_file() else []
    written = write_card(folder, title_of(subject), sections, picture_svg=svg if drawn else None)
    for path in (*written, *drawn):
        say(str(path))
    return {"folder": str(folder), "files": sorted(path.name for path in (*written, *drawn))}


def subject_of(run: Restored, folder: RunFolder) -> Subject:
    """The run that a card is of; of a bare checkpoint, less is known."""
    tensors = {id(tensor): tensor for tensor in (*run.model.parameters(), *run.model.buffers())}
    return Subject(
        cfg=run.cfg,
        log=run.log,
        folder=folder,
        parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        weights=sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
        sees_target_time=run.model.sees_target_time,
        repeat=repeat_command(run.as_trained, folder.read_manifest()),
    )
