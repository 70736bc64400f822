"""The trained models that `seqrec serve` answers with, made ready."""

from typing import TYPE_CHECKING, Any

from seqrec_cli.commands.console import say
from seqrec_cli.commands.recommend import recommending_of
from seqrec_cli.commands.restore import restore
from seqrec_cli.commands.stages import asked_run
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import ServeConfig
from seqrec_cli.machine import cores
from seqrec_cli.saying import Say

if TYPE_CHECKING:
    from seqrec_cli.serving.catalogue import Catalogue
    from seqrec_cli.serving.recommending import Recommending
    from seqrec_cli.serving.service import Loaded


def load(cfg: ServeConfig, tell: Say, *, run: str | None = None) -> "Loaded":
    """What the settings name, a run or two stages; or a `run` beside it, whose items stay as they were trained."""
    from seqrec_cli.models.contract import SequenceEncoder
    from seqrec_cli.serving.alike import ItemVectors
    from seqrec_cli.serving.catalogue import Catalogue
    from seqrec_cli.serving.scoring import Scoring
    from seqrec_cli.serving.service import Loaded

    threads = cfg.hardware.threads or max(cores() // cfg.workers - 1, 1)  # one is for the rest of the process
    hardware = cfg.hardware.model_copy(update={"threads": threads})
    if run is None:
        found = asked_run(cfg, hardware, tell)
    else:
        found = restore(run, cfg.archive, cfg.data_dir, hardware=hardware, tell=tell)
    recommending = recommending_of(found, cfg.newer, cfg.history)
    facts = {
        "model_loaded": True,
        "model": found.cfg.model.name,
        "model_version": found.version,
        "vocab_size": found.log.num_items,
        "dataset": found.cfg.dataset.name,
        "device": str(found.precision.device),
        **found.stages,
    }
    catalogue = Catalogue(recommending)
    if run is None and cfg.has_page:  # which searches the first run's items, and should not wait
        catalogue.prepare()
    if run is None and (cfg.state is not None or cfg.index != "none"):
        return _with_items(cfg, recommending, facts, catalogue=catalogue)
    vectors = ItemVectors(recommending) if isinstance(found.model, SequenceEncoder) else None
    return Loaded(Scoring(recommending), vectors, facts, catalogue)


def load_beside(cfg: ServeConfig, run: str, first: "Loaded") -> "Loaded":
    """A second run, to be looked at beside the first. Raises SeqrecError where they have no item in common."""
    found = load(cfg, say, run=run)
    ids = found.scoring.recommending.items
    if not len(first.scoring.recommending.known_indices(ids)[0]):
        raise SeqrecError(
            f"beside={run}: none of its items is among those of ckpt={cfg.ckpt} (its ids are such as {ids[0]}, "
            f"{ids[-1]}); two runs of one catalogue can be compared"
        )
    return found


def _with_items(
    cfg: ServeConfig, recommending: "Recommending", facts: dict[str, Any], *, catalogue: "Catalogue"
) -> "Loaded":
    """Items that may change, or are searched in an index."""
    from seqrec_cli.serving.item_scoring import ItemVectorsAt, ScoringAt
    from seqrec_cli.serving.item_search import Search
    from seqrec_cli.serving.item_start import open_items
    from seqrec_cli.serving.service import Loaded

    items = open_items(
        recommending,
        cfg.state,
        dataset=facts["dataset"],
        item_vectors=cfg.item_vectors,
        most=cfg.most_added,
        compact_at=cfg.compact_at,
    )
    search = None if cfg.index == "none" else Search(cfg.index, items.now().state)
    return Loaded(ScoringAt(recommending, search), ItemVectorsAt(recommending), facts, catalogue, items)
