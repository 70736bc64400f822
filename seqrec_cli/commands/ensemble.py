"""`seqrec ensemble`: trained encoders in one run folder, whose scores are the mean of theirs (model=ensemble).

Members that were trained apart do what an ensemble trained at once does, for there too each learns by itself.
"""

from collections import Counter
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.commands.made_run import write_made_run
from seqrec_cli.commands.measure import measure_run, validation_loss
from seqrec_cli.commands.restore import Restored, restore
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import EnsembleConfig
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import dump, validate_plain
from seqrec_cli.models.build import build_model
from seqrec_cli.models.ensemble import Model
from seqrec_cli.reporting.run_folder import RunFolder


def main(cfg: EnsembleConfig) -> dict[str, Any]:
    """Put the runs' best models together and measure them as `train` does at its end.

    What the folder's configuration says of objective and trainer is that of the first run that learned; the manifest
    names all runs.
    A member reads as many of the latest events as it was trained on. Raises SeqrecError for runs on other data than the
    first, and for models that do not mix.
    """
    runs = [restore(ckpt, cfg.archive, cfg.data_dir, hardware=cfg.hardware) for ckpt in cfg.ckpts]
    at = next((position for position, run in enumerate(runs) if run.model.trainable_models()), 0)
    first = runs[at]
    for ckpt, run in zip(cfg.ckpts, runs, strict=True):
        if run.log.fingerprint != first.log.fingerprint:
            raise SeqrecError(
                f"ckpts: {ckpt} was trained on other data, or by another protocol, than {cfg.ckpts[at]}; "
                "put runs together that agree in both"
            )
    members = _named(runs)
    mixed = _config(members, first)
    model = build_model(mixed.model, first.log.catalog, mixed.trainer.seed).to(first.precision.device)
    assert isinstance(model, Model)
    for key, run in members.items():
        model.members[key].load_state_dict(run.model.state_dict())
    folder = RunFolder.allocate(cfg.run_dir, f"ensemble_{mixed.dataset.name}")
    measured = mixed, model, first.log, first.precision
    write_made_run(folder, measured, of={"mixed": dict(zip(members, cfg.ckpts, strict=True))}, epoch=0)
    metrics = measure_run(measured, folder, test=cfg.test, by="ensemble", loss=validation_loss(measured))
    folder.mark_done()
    say(str(folder.path))
    return {**metrics, "run_dir": str(folder.path)}


def _named(runs: list[Restored]) -> dict[str, Restored]:
    """The runs by their models' names; of several of a kind, the later ones are numbered."""
    named, seen = dict[str, Restored](), Counter[str]()
    for run in runs:
        name = run.cfg.model.name
        seen[name] += 1
        named[name if seen[name] == 1 else f"{name}_{seen[name]}"] = run
    return named


def _config(members: dict[str, Restored], first: Restored) -> TrainConfig:
    """The configuration of the ensemble of these members, all else as in the first one's."""
    settings = {key: dump(run.cfg.model) for key, run in members.items()}
    model = {
        "name": "ensemble",
        "trained": "apart",
        "max_length": max(run.cfg.model.max_length for run in members.values()),
        "members": settings,
    }
    cfg = validate_plain("train", {**dump(first.cfg), "model": model})
    assert isinstance(cfg, TrainConfig)
    return cfg
