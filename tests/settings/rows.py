"""The table of `test_every_setting.py`: a line a setting, with another value and the first part of a run it acts on.

Here are the trainer, hardware, evaluation, models and objectives; `rows_of_data.py` has protocols and datasets.

A line of a group (`OF_ENCODERS`, ...) holds for every option that has the setting; a line under an option's own name
comes before it. `{csv}` and the like stand for the files of `small_files.py`.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """With `setting=value` a run differs in `acts_on` from the run without, and in no part before it (`PARTS`).

    `acts_on="refused"`: one of the two is bad input.
    """

    value: str
    acts_on: str
    given: tuple[str, ...] = ()  # in both runs
    same: tuple[str, ...] = ()  # later parts that stay as they are
    too: tuple[str, ...] = ()  # later parts that differ as well, each by itself


FLAT = ("trainer.lr=1e-12", "trainer.max_epochs=4")  # nothing is learned, so no validation is better than the first
UNIFORM = ("objective=bce", "objective.sampling=uniform")
ITEM_KINDS = ("dataset.item_attribute_columns=[kind]",)
USER_PLANS = ("dataset.user_attribute_columns=[plan]",)
PLACES = ("dataset.context_columns=[place]",)

TRAINER = {
    "max_epochs": Row("1", "seeds"),
    "max_steps": Row("2", "seeds"),
    "batch_size": Row("5", "rows"),
    "batch_tokens": Row("30", "rows"),
    "bucket_by_length": Row("false", "rows"),
    "micro_batch_tokens": Row("12", "steps", UNIFORM, same=("rates", "seeds")),
    "seed": Row("1", "start", too=("rows", "seeds")),
    "lr": Row("0.02", "rates"),
    "betas": Row("[0.5, 0.9]", "steps"),
    "weight_decay": Row("0.5", "steps"),
    "decay_embeddings": Row("true", "steps", ("trainer.weight_decay=0.5",)),
    "warmup_steps": Row("3", "rates"),
    "schedule": Row("constant", "rates"),
    "final_lr": Row("0.5", "rates"),
    "plateau": Row("1", "rates", FLAT),
    "plateau_factor": Row("0.1", "rates", (*FLAT, "trainer.plateau=1")),
    "ema": Row("0.9", "validated"),
    "swa_epochs": Row("2", "validated"),
    "clip_norm": Row("0.01", "steps"),
    "monitor": Row("loss", "chosen", ("trainer.max_epochs=4", "trainer.lr=0.2")),
    "patience": Row("1", "seeds", FLAT),
    "evaluate_every": Row("2", "validated"),
}

HARDWARE = {
    "precision": Row("bf16", "way"),
    "threads": Row("2", "way"),
    "embedding": Row("sparse", "way", UNIFORM, same=("seeds", "rates")),
    "compile": Row("true", "way"),
    "kernels": Row("false", "way"),
}

EVALUATION = {
    "cutoffs": Row("[1, 10]", "validated", same=("chosen",)),
    "batch_size": Row("4", "blocks", same=("steps",)),
    "memory_mb": Row("1", "blocks", same=("steps",)),
    "ranked_users": Row("5", "blocks", same=("steps",), too=("validated",)),
    "beyond_accuracy": Row("true", "validated", same=("steps", "chosen")),
    "test": Row("once", "measured"),
    "baselines": Row("true", "measured"),
}

OF_MODELS = {"max_length": Row("3", "rows")}

OF_ENCODERS = {
    "embed_dim": Row("16", "start"),
    "dropout": Row("0.6", "steps"),
    "event_dropout": Row("0.6", "steps"),
    "positions": Row("absolute", "start"),
    "attributes": Row("add", "start", ITEM_KINDS),
    "user_attributes": Row("add", "start", USER_PLANS),
    "context": Row("history", "start", PLACES),
    "widths": Row("{kind: 3}", "start", (*ITEM_KINDS, "model.attributes=concat")),
    "user_dim": Row("4", "start"),
    "user_dropout": Row("0.9", "steps", ("model.user_dim=4",)),
    "tied": Row("false", "start"),
    "item_bias": Row("true", "start"),
    "temperature": Row("0.5", "steps"),
    "init_std": Row("0.1", "start"),
    "layer_std": Row("0.1", "start"),
    "blocks": Row("3", "start"),
    "heads": Row("4", "steps"),
    "ffn_dim": Row("16", "start"),
    "attention_dropout": Row("0.6", "steps"),
}

OF_RANKERS = {
    "max_length": Row("1", "rows"),
    "embed_dim": Row("16", "start"),
    "user_id": Row("true", "start"),
    "widths": Row("{plan: 3}", "start"),
    "mlp": Row("[9]", "start"),
    "embedding_dropout": Row("0.6", "steps"),
    "unknown": Row("0.3", "start"),
    "l2": Row("0.1", "steps"),
    "l2_counts": Row("occurrences", "steps", ("model.l2=0.1",)),
    "l2_attributes": Row("true", "steps", ("model.l2=0.1",)),
    "dropout": Row("0.6", "steps"),
    "init_std": Row("0.1", "start"),
    "activation": Row("relu", "start"),
    "batch_norm": Row("true", "start"),
    "heads": Row("4", "steps"),
    "ffn_dim": Row("16", "start"),
    "hidden": Row("12", "start"),
    "unit": Row("[9]", "start"),
}

ADDED = Row("none", "start")  # what lies in a table of its own
TABLE = {"max_length": Row("3", "start"), "positions": ADDED}
PADDED = {
    "padding": Row("initial", "start"),
    "padding_positions": Row("true", "steps", ("model.padding=initial",)),
}

COUNTED = ("model.candidates=[popular, markov]",)

MODELS: dict[str, dict[str, Row]] = {
    "sasrec": {**TABLE, **PADDED, "norm": Row("published", "start")},
    "esasrec": {**TABLE, **PADDED},
    "bert4rec": {
        **TABLE,
        "norm": Row("post", "start"),
        "ffn_dropout": Row("0.6", "steps"),
        "embedding_norm": Row("false", "start"),
        "head": Row("linear", "start"),
        "item_bias": Row("false", "start"),
    },
    "bsarec": {
        **TABLE,
        "alpha": Row("0.3", "steps"),
        "cutoff": Row("1", "start"),
        "filter": Row("causal", "start"),
    },
    "gru4rec": {"layers": Row("2", "start"), "hidden": Row("12", "start")},
    "hstu": {
        **TABLE,
        "position_bias": Row("false", "start"),
        "time_bias": Row("past", "start"),
        "time_buckets": Row("8", "start", ("model.time_bias=past",)),
    },
    "lrurec": {
        "states": Row("12", "start"),
        "ring": Row("[0.5, 0.6]", "start"),
        "norm": Row("pre", "start"),
        "item_bias": Row("false", "start"),
    },
    "nextitnet": {"dilations": Row("[1, 2]", "start"), "kernel": Row("2", "start")},
    "ensemble": {"max_length": Row("3", "start"), "members": Row("{sasrec: {embed_dim: 16}}", "start")},
    "popular": {"max_length": Row("3", "blocks")},
    "markov": {"max_length": Row("3", "blocks")},
    "latest": {"max_length": Row("3", "blocks")},
    "auto": {
        "max_length": Row("3", "blocks", COUNTED),
        "candidates": Row("[popular]", "steps", COUNTED),
    },
    "itemknn": {
        "max_length": Row("3", "blocks"),
        "neighbours": Row("4", "start"),
        "shrinkage": Row("1.0", "steps"),
        "counted": Row("2", "steps"),
        "half_life": Row("9.0", "measured"),
        "popularity": Row("5.0", "measured"),
    },
    "graph": {
        "max_length": Row("1", "blocks"),
        "window": Row("1", "steps"),
        "distance_decay": Row("0.1", "steps"),
        "attribute_weight": Row("3.0", "steps", ITEM_KINDS),
        "edges": Row("2", "start"),
        "sources": Row("1", "measured"),
        "source_decay": Row("0.9", "measured"),
        "hops": Row("1", "measured"),
        "hop_decay": Row("0.9", "measured"),
        "branching": Row("1", "measured"),
        "popularity": Row("5.0", "measured"),
    },
    "ease": {
        "exact_items": Row("0", "steps"),
        "max_length": Row("3", "blocks"),
        "embed_dim": Row("4", "start"),
        "l2": Row("9.0", "steps"),
        "half_life": Row("2.0", "measured"),
        "scale": Row("2.0", "measured"),
    },
    "widedeep": {
        "activation": Row("dice", "start"),
        "wide_buckets": Row("7", "start"),
        "wide_events": Row("1", "steps"),
    },
    "bst": {
        "max_length": Row("3", "start"),
        "mlp_dropout": Row("0.6", "steps"),
        "blocks": Row("2", "start"),
        "block_activation": Row("gelu", "steps"),
        "norm": Row("pre", "start"),
        "positions": Row("none", "start"),
        "time_buckets": Row("8", "start", ("model.positions=time",)),
        "read_out": Row("all", "start"),
        "activation": Row("dice", "start"),
    },
    "dien": {
        "hidden": Row("null", "start"),
        "attention": Row("unit", "start"),
        "unit": Row("[9]", "start", ("model.attention=unit",)),
        "unit_activation": Row("dice", "start", ("model.attention=unit",)),
        "evolution": Row("agru", "steps"),
        "auxiliary": Row("0.5", "steps"),
        "auxiliary_negatives": Row("popularity", "rows"),
        "auxiliary_mlp": Row("[9]", "start"),
        "pooled": Row("sum", "start"),
    },
    "din": {
        "score": Row("dot", "start"),
        "unit_activation": Row("dice", "start"),
        "softmax": Row("true", "steps"),
        "search_attribute": Row("kind", "steps"),
        "search_events": Row("1", "steps", ("model.search_attribute=kind",)),
    },
    "dsin": {
        "session_gap": Row("3", "steps"),
        "sessions": Row("1", "start"),
        "session_events": Row("1", "start"),
    },
}

OF_WINDOWS = {
    "window": Row("last", "rows"),
    "stride": Row("2", "rows"),
    "smoothing": Row("0.3", "steps"),
    "chunk_mb": Row("1", "way"),
    "horizon": Row("2", "steps"),
}
OF_NEGATIVES = {
    "negatives": Row("3", "steps"),
    "shared": Row("sequence", "steps"),
    "sampling": Row("uniform", "steps"),
    "uniform_share": Row("0.25", "steps", ("objective.sampling=mixed", "objective.negatives=8")),
    "log_q": Row("false", "steps"),
}
UNSEEN = {
    "negatives": Row("3", "rows"),
    "shared": Row("sequence", "rows"),
    "sampling": Row("uniform", "rows"),
}

OBJECTIVES: dict[str, dict[str, Row]] = {
    "bce": UNSEEN,
    "bpr": UNSEEN,
    "gbce": {
        "shared": Row("position", "steps"),
        "sampling": Row("unseen", "rows"),
        "uniform_share": Row("0.25", "refused"),
        "t": Row("0.1", "steps", ("objective.negatives=4",)),
    },
    "next_item": {"negatives": Row("3", "way")},
    "cloze": {
        "negatives": Row("3", "way"),
        "mask": Row("0.6", "rows"),
        "random": Row("0.9", "rows"),
        "keep": Row("0.9", "rows"),
        "last": Row("0.9", "rows"),
    },
    "click": {
        "negatives": Row("3", "rows"),
        "redraw": Row("true", "rows", ("protocol=positions", "protocol.click_negatives=1")),
        "positions": Row("false", "rows"),
        "smoothing": Row("0.3", "steps"),
        "positive_weight": Row("2.0", "steps"),
    },
}

# Settings that change no number of a run on purpose, or that this table cannot show, with the reason.
OTHERWISE = {
    "start_from": "tests/commands/test_warm_start.py: a run's vectors in a larger log's model",
    "auto": "filled in by the program: tests/config/test_auto_rule.py",
    "data_dir": "the folder of data: every run of this table has its own",
    "run_dir": "the run's folder: every run of this table has its own",
    "resume": "tests/training/test_loop.py and tests/commands/test_end_to_end.py: a resumed run has the same bits",
    "trainer.minutes": "tests/training/test_loop.py: a run ends by the clock, which no run of this table can wait for",
    **{f"auto-model.{name}": "tests/commands/test_portfolio_run.py" for name in ("requests", "members", "weights")},
    "trainer.seeds": "tests/commands/test_seeds.py: a run a seed",
    "hardware.table": "tests/commands/test_sharded_run.py: two processes have the numbers of one",
    "hardware.device": "another device is needed: tests/training/test_cuda.py",
    "hardware.processes": "tests/commands/test_processes_run.py: a run by two processes is that of one",
    "hardware.restarts": "tests/commands/test_processes_run.py: it reaches the launcher",
    "hardware.timeout_minutes": "tests/commands/test_processes_run.py: it reaches the group",
    "hardware.log": "the same on a CPU: tests/rehearsal/test_log_place.py",
    "dataset.name": "a label",
    "dataset.engine": "the same bytes by another way: tests/data/test_large_log.py",
    "dataset.memory": "the same bytes in less memory: tests/data/test_large_ways.py",
    "dataset.source": "which reader; every dataset here has its own",
    "csv-dataset.quoted": "tests/data: text with quotes in it, which the small file has not",
    "csv-dataset.missing": "tests/data: empty ids and times, which the small file has not",
    "sequences-dataset.numeric_columns": "as of csv",
    "synthetic-dataset.duplicates": "what is generated holds none",
    "dataset.url": "of the download: tests/data/test_download.py",
    "dataset.checksum": "of the download: tests/data/test_download.py",
    "dataset.title_column": "names for people: tests/data/test_beside.py",
    "dataset.publisher": "of the download: tests/data/test_amazon.py",
}
