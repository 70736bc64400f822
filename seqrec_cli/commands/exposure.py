"""`seqrec exposure`: owners' exposure against what they interact, and what a run's lists lose by it."""

from typing import Any

import numpy as np
import torch

from seqrec_cli.commands.console import say
from seqrec_cli.commands.made_run import write_made_run
from seqrec_cli.commands.measure import measure_run
from seqrec_cli.commands.restore import Restored, folder_of, restore
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.exposure import ExposureConfig
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import dump, validate_plain
from seqrec_cli.data.owners import Owners
from seqrec_cli.data.splits import view_of
from seqrec_cli.evaluation.evaluate import measuring, raw_ids
from seqrec_cli.evaluation.owner_exposure import Kept, Priced, Prices, Shown, distance, gini
from seqrec_cli.evaluation.ranks import rank_held_out
from seqrec_cli.metrics.table import compute_metrics
from seqrec_cli.models.build import build_model
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.reporting.exposure_report import draw_exposure, exposure_table, save_prices
from seqrec_cli.reporting.openings import count_opening, new_opening, opened_words
from seqrec_cli.reporting.run_folder import RunFolder, to_json
from seqrec_cli.reporting.tables import print_table

BIAS = "bias_V"  # the parameter of encoders that holds `item_bias`


def main(cfg: ExposureConfig) -> dict[str, Any]:
    """Print a row a strength; with `run_dir`, also JSON, the owners' prices and a picture, and perhaps a run.

    Raises SeqrecError for data without owners, for sampled candidates, and for a model that cannot keep prices.
    """
    run = restore(cfg.ckpt, cfg.archive, cfg.data_dir, hardware=cfg.hardware)
    owners = Owners.of(run.log)
    candidates = view_of(run.log).candidates
    if candidates != "full":
        raise SeqrecError(
            f"exposure: lists are of the whole corpus, and the run's protocol ranks {candidates} candidates; take a "
            "run of protocol.candidates=full"
        )
    priced = RunFolder(folder_of(cfg.ckpt)).read_manifest().get("exposure")
    if priced is not None:
        _say_or_refuse(priced, cfg)
    if cfg.keep is not None:
        _refuse_to_keep(run)
    folder = None if cfg.run_dir is None else RunFolder.allocate(cfg.run_dir, "exposure")
    if cfg.split == "test":
        opened = count_opening(run.log, "exposure", opening=new_opening(), run=RunFolder(folder_of(cfg.ckpt)))
        say(opened_words(opened))
    learned = _learner(run, owners, cfg)
    rows, prices = [], {}
    for strength in cfg.strengths:
        prices[strength] = learned.learn(strength, cfg.rounds)
        rows.append({"strength": strength, **_measured(run, owners, cfg, price_O=prices[strength])})
    result: dict[str, Any] = {
        "model": run.cfg.model.name,
        "dataset": run.cfg.dataset.name,
        "fingerprint": run.log.fingerprint,
        "protocol": run.cfg.protocol.name,
        "split": cfg.split,
        "cutoff": cfg.cutoff,
        "owners": len(owners.users_O),
        "items": run.log.num_items,
        "owned_items": int((owners.of_items_V1 > 0).sum()),
        "unit": learned.unit,
        "rows": rows,
    }
    print_table(exposure_table(result))
    if folder is not None:
        (folder.path / "exposure.json").write_text(to_json(result, "exposure.json", indent=2) + "\n", encoding="utf-8")
        ids = raw_ids(run.log, "users", owners.users_O)
        assert ids is not None  # a run's log lies in a folder, with its vocabularies
        save_prices(folder.path / "exposure.parquet", ids=ids, owners=owners, prices=prices)
        draw_exposure(folder.path / "exposure.png", result)
        if cfg.keep is not None:
            _keep(run, folder, _by_item(owners, prices[cfg.keep]), of={"ckpt": cfg.ckpt, "strength": cfg.keep})
        folder.mark_done()
        say(str(folder.path))
    return result


def _learner(run: Restored, owners: Owners, cfg: ExposureConfig) -> Prices:
    """What learns prices from the scores after validation histories."""
    evaluation = run.cfg.evaluation.model_copy(update={"ranked_users": cfg.users})
    kept = Kept(evaluation.memory_mb * 2**20)
    with measuring(run.model, run.precision):
        rank_held_out(
            run.model,
            run.log,
            "val",
            cfg=evaluation,
            max_length=run.cfg.model.max_length,
            device=run.precision.device,
            collectors=[kept],
        )
        return Prices(kept.scores_RV, owners, cfg.cutoff)


def _measured(run: Restored, owners: Owners, cfg: ExposureConfig, *, price_O: np.ndarray) -> dict[str, float]:
    """HR, NDCG and MRR at the cutoff under these prices, and how owners are shown."""
    model = run.model
    if price_O.any():
        added_V1 = torch.from_numpy(_by_item(owners, price_O)).to(run.precision.device, torch.float32)
        model = Priced(run.model, added_V1)
    shown = Shown(run.log.num_items, cfg.cutoff)
    with measuring(model, run.precision):
        ranks, _ = rank_held_out(
            model,
            run.log,
            cfg.split,
            cfg=run.cfg.evaluation.model_copy(update={"ranked_users": None}),
            max_length=run.cfg.model.max_length,
            device=run.precision.device,
            collectors=[shown],
        )
    metrics = compute_metrics((cfg.cutoff,), ranks=ranks)
    shares_O = owners.shares(shown.by_item_V1)
    names = [f"{kind}@{cfg.cutoff}" for kind in ("hr", "ndcg", "mrr")]
    return {name: metrics[name] for name in names} | {
        "distance": distance(shares_O, owners.target_O),
        "gini": gini(shares_O),
        "never_shown": float((shares_O == 0).mean()),
    }


def _by_item(owners: Owners, price_O: np.ndarray) -> np.ndarray:
    """What is added to each item's score, float64 [V + 1]."""
    added: np.ndarray = np.concatenate([[0.0], price_O])[owners.of_items_V1]
    return added


def _say_or_refuse(priced: dict[str, Any], cfg: ExposureConfig) -> None:
    """Of a run that has prices in its item bias already: others would come on top, beyond the strength that is told."""
    has = f"{cfg.ckpt} has prices of strength {priced['strength']:g} in it, learned of ckpt={priced['ckpt']}"
    if cfg.keep is not None:
        raise SeqrecError(f"keep={cfg.keep:g}: {has}; keep those of that run")
    say(f"{has}: strength 0 is the run as it is, with these, and others come on top")


def _refuse_to_keep(run: Restored) -> None:
    if not isinstance(run.model, ItemEncoder):  # which has `BIAS`; model=semantic's item_bias is of codes
        raise SeqrecError(
            f"keep: model={run.cfg.model.name} has no item bias to keep prices in; leave keep out, or take a run of "
            "a single encoder (model=sasrec)"
        )


def _keep(run: Restored, folder: RunFolder, added_V1: np.ndarray, *, of: dict[str, Any]) -> None:
    """The run's model with its prices as item bias, a run of its own, measured as `train` does; test stays sealed."""
    plain = dump(run.cfg)
    plain["model"]["item_bias"] = True
    cfg = validate_plain("train", plain)
    assert isinstance(cfg, TrainConfig)
    model = build_model(cfg.model, run.log.catalog, cfg.trainer.seed).to(run.precision.device)
    state, added_V = run.model.state_dict(), torch.from_numpy(added_V1).to(run.precision.device, torch.float32)
    state[BIAS] = state[BIAS] + added_V if BIAS in state else added_V
    model.load_state_dict(state)
    made = cfg, model, run.log, run.precision
    write_made_run(folder, made, of={"exposure": of}, epoch=run.epoch)
    measure_run(made, folder, test="none", by="exposure", loss=None)
