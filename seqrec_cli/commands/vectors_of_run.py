"""`model.vectors=RUN`: the item table of a trained encoder, whose rows a generative retriever clusters."""

from pathlib import Path

import torch

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.migrations import migrated
from seqrec_cli.config.model.semantic import SOURCES
from seqrec_cli.config.model.semantic import Config as SemanticConfig
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate_plain
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Generator, Recommender, SequenceEncoder
from seqrec_cli.training.checkpoint import load_checkpoint


def give_vectors(model: Recommender, cfg: TrainConfig, log: PackedLog) -> None:
    """Hand the model the item vectors of the run that `model.vectors` names, if it names one.

    A run that goes on, or begins with another's weights, has its tuples of codes already. Raises SeqrecError where
    there is no such run, where it is of other data or another protocol (its vectors may know held-out events), or where
    its model has no item vectors.
    """
    if not isinstance(cfg.model, SemanticConfig) or cfg.model.of_run is None or cfg.resume or cfg.start_from:
        return
    assert isinstance(model, Generator)
    given = f"model.vectors={cfg.model.vectors}"
    folder = Path(cfg.model.vectors).expanduser()
    if not folder.exists():
        raise SeqrecError(
            f"{given}: neither a run's folder nor {', '.join(SOURCES)}{nearest(cfg.model.vectors, SOURCES)}"
        )
    try:
        payload = load_checkpoint(folder, setting="model.vectors")
    except SeqrecError as error:
        raise SeqrecError(f"{given}: {error}") from error
    if not log.fits(payload["fingerprint"]):
        raise SeqrecError(
            f"{given}: that run was trained on other data or under another protocol (fingerprint "
            f"{payload['fingerprint'][:12]}, here {log.fingerprint[:12]}), so its vectors may know what is held out; "
            "train it on the same, or use histories or attributes"
        )
    of_run = validate_plain("train", migrated(payload["config"]))
    assert isinstance(of_run, TrainConfig)
    encoder = build_model(of_run.model, log.catalog, of_run.trainer.seed)
    if not isinstance(encoder, SequenceEncoder) or not encoder.scores_by_product:
        raise SeqrecError(
            f"{given}: its model={of_run.model.name} has no item vectors; give the run of an encoder (sasrec), or use "
            "histories or attributes"
        )
    encoder.load_state_dict(payload["model"])
    with torch.no_grad():
        model.use_vectors(encoder.item_table())
