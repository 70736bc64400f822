"""What `hardware.embedding=sparse` and `hardware.table=sharded` ask of the other settings."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqrec_cli.config.schema import TrainConfig


def rows_can_be_sparse(cfg: "TrainConfig") -> None:
    """Raises ValueError with one line where `hardware.embedding=sparse` cannot be had."""
    if cfg.hardware.embedding != "sparse":
        return
    if cfg.trainer.decay_embeddings:
        raise ValueError(
            "trainer.decay_embeddings=true shrinks whole tables at every step, which hardware.embedding=sparse is "
            "to avoid; set it to false, or use hardware.embedding=dense"
        )
    if cfg.trainer.ema is not None:
        raise ValueError(
            "trainer.ema averages whole tables at every step, which hardware.embedding=sparse is to avoid; "
            "set trainer.ema=null or hardware.embedding=dense"
        )
    if _reads_texts(cfg):
        raise ValueError(
            "hardware.embedding=sparse: model.items=text and both learn an adaptor from every item's text; use "
            "hardware.embedding=dense, or model.items=ids"
        )
    if cfg.hardware.compile:
        raise ValueError("hardware.compile makes no row-sparse gradients; set it to false, or hardware.embedding=dense")
    if not cfg.model.capabilities.sparse_rows:
        raise ValueError(
            f"hardware.embedding=sparse: model={cfg.model.name} has no tables that are only looked up; "
            "use hardware.embedding=dense"
        )
    if not cfg.objective.capabilities.sparse_rows:
        raise ValueError(
            f"hardware.embedding=sparse: objective={cfg.objective.name} needs the whole item table at every "
            "step; use hardware.embedding=dense, or objective=sampled_softmax"
        )


def tables_can_be_sharded(cfg: "TrainConfig") -> None:
    """Raises ValueError with one line where `hardware.table=sharded` cannot be had."""
    if cfg.hardware.table != "sharded":
        return
    if cfg.model.capabilities.family != "encoder" or cfg.model.name == "ensemble":
        raise ValueError(
            f"hardware.table=sharded: model={cfg.model.name} does not score by inner products with one item table; use "
            "hardware.table=replicated, or an encoder (model=sasrec, bert4rec, gru4rec, lrurec, hstu, ...)"
        )
    refused = {
        "objective": (
            cfg.objective.name == "distil",
            "distil reads the scores of all items in one process",
        ),
        "objective.sampling": (
            getattr(cfg.objective, "sampling", "") in ("hard", "cross_batch"),
            "negatives chosen by their scores, or remembered, are looked up in one table; use uniform or in_batch",
        ),
        "model.items": (_reads_texts(cfg), "vectors made of texts are no table that processes could part; use ids"),
        "trainer.micro_batch_tokens": (
            cfg.trainer.micro_batch_tokens is not None,
            "processes have unlike numbers of micro-batches, and look up vectors together; set it to null and lower "
            "trainer.batch_size",
        ),
        "objective.consistency": (
            bool(cfg.objective.needs_one_process),
            "an item's users are in the rows of several processes; set it to 0",
        ),
        "objective.owner_weight": (
            getattr(cfg.objective, "owner_weight", 0) > 0,
            "it reads the scores of all items, of which a process has a part; set it to 0",
        ),
        "objective.known": (
            bool(cfg.objective.batch_statistics),
            "it compares targets with all items, of which a process has a part; set it to none",
        ),
        "hardware.compile": (cfg.hardware.compile, "what processes send each other is not compiled; set it to false"),
        "hardware.precision": (
            cfg.hardware.precision == "fp16",
            "the scale of fp16 gradients is not agreed on between processes; use bf16 or fp32",
        ),
        "start_from": (cfg.start_from is not None, "the earlier run's vectors are not dealt out; leave it out"),
    }
    for setting, (given, reason) in refused.items():
        if given:
            raise ValueError(f"hardware.table=sharded: {setting}: {reason}, or use hardware.table=replicated")


def texts_are_there(cfg: "TrainConfig") -> None:
    """Raises ValueError where item vectors are to be made of texts and the data have none."""
    if _reads_texts(cfg) and cfg.dataset.item_text is None and cfg.dataset.item_vectors is None:
        raise ValueError(
            "model.items=text and both make items' vectors of texts, and the data have none; set dataset.item_text "
            "(tfidf, or a model's name or folder) or dataset.item_vectors=FILE, or use model.items=ids"
        )


def _reads_texts(cfg: "TrainConfig") -> bool:
    """Whether item vectors are made of texts, in a member of an ensemble too."""
    each = (cfg.model, *getattr(cfg.model, "members", {}).values())
    return any(getattr(model, "items", "ids") != "ids" for model in each)
