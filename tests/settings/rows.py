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
TEXTS = ("dataset.item_vectors={vectors}", "model.items=text")

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
    "items": Row("both", "start", TEXTS[:1]),
    "experts": Row("2", "start", TEXTS),
    "text_dropout": Row("0.6", "steps", TEXTS),
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

BY_RQVAE = ("model.quantiser=rqvae", "model.rqvae_steps=40")
COUNTED = ("model.candidates=[popular, markov]",)

OF_PERSONS = {
    "user_input": Row("concat", "start", ("model.user_dim=4",)),
    "user_output": Row("film", "start", ("model.user_dim=4",)),
    "user_swap": Row("0.9", "steps", ("model.user_dim=4",)),
    "item_swap": Row("0.9", "steps"),
    "steps_ahead": Row("3", "start", ("objective=multi_step", "model.steps_ahead=2")),
}
FORM = {
    "attention_form": Row("linear", "steps", ("model.attention_dropout=0.0",)),
    "attention_window": Row("2", "steps", ("model.attention_form=local",)),
}

MODELS: dict[str, dict[str, Row | None]] = {
    "sasrec": {
        **TABLE,
        **FORM,
        **PADDED,
        **OF_PERSONS,
        "norm": Row("published", "start"),
        "agreement": Row("pooling", "start"),
    },
    "esasrec": {**TABLE, **FORM, **PADDED},
    "recdenoiser": {
        **TABLE,
        "mask_open": Row("0.6", "start"),
        "sparsity": Row("0.5", "steps"),
        "smoothness": Row("0.5", "steps"),
    },
    "fmlprec": {**TABLE, "filter": Row("causal", "steps"), "filter_std": Row("0.5", "start")},
    "bert4rec": {
        **TABLE,
        **OF_PERSONS,
        "steps_ahead": Row("2", "refused"),
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
    "semantic": {
        "items": Row("text", "refused", TEXTS[:1]),
        "experts": None,
        "text_dropout": None,
        **TABLE,
        "vectors": Row("random", "steps"),
        "levels": Row("2", "start"),
        "codes": Row("9", "start"),
        "rqvae_hidden": Row("5", "steps", BY_RQVAE),
        "rqvae_latent": Row("3", "steps", BY_RQVAE),
        "rqvae_steps": Row("9", "steps", BY_RQVAE),
        "commitment": Row("3.0", "steps", BY_RQVAE),
        "decoder_blocks": Row("2", "start"),
        "normalise": Row("all", "steps"),
    },
    "ensemble": {
        "max_length": Row("3", "start"),
        "members": Row("{sasrec: {embed_dim: 16}}", "start"),
        "trained": Row("together", "start"),
    },
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
    "known": Row("running", "steps"),
    "known_decay": Row("0.1", "steps", ("objective.known=running",)),
    "known_sharpness": Row("-2.0", "steps", ("objective.known=leave_one_out",)),
}
OF_NEGATIVES = {
    "negatives": Row("3", "steps"),
    "shared": Row("sequence", "steps"),
    "sampling": Row("uniform", "steps"),
    "uniform_share": Row("0.25", "steps", ("objective.sampling=mixed", "objective.negatives=8")),
    "log_q": Row("false", "steps"),
    "pool": Row("2", "rows", ("objective.sampling=hard", "objective.shared=sequence", "objective.log_q=false")),
    "memory": Row("3", "steps", ("objective.sampling=cross_batch", "objective.shared=batch")),
}
UNSEEN = {
    "negatives": Row("3", "rows"),
    "shared": Row("sequence", "rows"),
    "sampling": Row("uniform", "rows"),
    "pool": Row("2", "rows", ("objective.sampling=hard",)),
}

OWN_ANSWERS = {
    "scheduled_sampling": Row("exponential", "steps"),
    "scheduled_epochs": Row("0.5", "steps", ("objective.scheduled_sampling=exponential",)),
    "scheduled_least": Row("0.99", "steps", ("objective.scheduled_sampling=exponential",)),
}

OBJECTIVES: dict[str, dict[str, Row]] = {
    "bce": UNSEEN | OWN_ANSWERS,
    "all_action": {"discount": Row("0.5", "steps")},
    "multi_step": {"discount": Row("0.5", "steps")},
    "bpr": UNSEEN,
    "gbce": {
        "shared": Row("position", "steps"),
        "sampling": Row("unseen", "rows"),
        "uniform_share": Row("0.25", "refused"),
        "pool": Row("2", "refused"),
        "memory": Row("3", "refused"),
        "t": Row("0.1", "steps", ("objective.negatives=4",)),
    },
    "next_item": {
        "negatives": Row("3", "way"),
        "owner_weight": Row("0.5", "steps", ("dataset.owner_column=maker",)),
        **OWN_ANSWERS,
    },
    "distil": {
        "teacher": Row("{another}", "rows"),
        "top": Row("3", "rows"),
        "alpha": Row("0.9", "steps"),
        "temperature": Row("2.0", "rows"),
        "teacher_scale": Row("2.0", "rows"),
        "soft_targets": Row("ranks", "rows"),
        "rank_decay": Row("2.0", "rows", ("objective.soft_targets=ranks",)),
        "next_item": Row("leave_out", "steps"),
        "teacher_stride": Row("1", "rows"),
        "scheduled_sampling": Row("linear", "refused"),
    },
    "dual": {
        "consistency": Row("0", "steps"),
        "consistency_form": Row("cosine", "steps"),
        "consistency_moves": Row("items", "steps"),
        "consistency_temperature": Row("0.5", "steps"),
    },
    "codes": {"scheduled_sampling": Row("linear", "refused")},
    "cloze": {
        "scheduled_sampling": Row("linear", "refused"),
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
    "unbiased_click": {
        "negatives": Row("3", "refused"),
        "redraw": Row("true", "refused"),
        "smoothing": Row("0.3", "steps"),
        "positive_weight": Row("2.0", "steps"),
        "propensities": Row("[1, 0.2]", "rows", ("objective.propensities=[1, 0.9]",)),
        "clip": Row("1.5", "rows", ("objective.propensities=[1, 0.2]",)),
    },
}

# Settings that change no number of a run on purpose, or that this table cannot show, with the reason.
OTHERWISE = {
    **{
        f"{name}-model.{key}": "as of sasrec, in code that is theirs too"
        for name in (
            "bsarec",
            "esasrec",
            "gru4rec",
            "hstu",
            "lrurec",
            "nextitnet",
            "semantic",
            "fmlprec",
            "recdenoiser",
        )
        for key in ("user_input", "user_output", "user_swap", "item_swap", "steps_ahead")
    },
    **{
        f"{name}-objective.{key}": "as of next_item, in code that is theirs too"
        for name in ("bpr", "gbce", "sampled_softmax", "all_action", "sampled_all_action", "multi_step", "dual")
        for key in ("scheduled_sampling", "scheduled_epochs", "scheduled_least")
    },
    **{
        f"{name}-objective.scheduled_{key}": "refused with it"
        for name in ("cloze", "codes", "distil")
        for key in ("epochs", "least")
    },
    "unbiased_click-objective.outcome": "tests/commands/test_counterfactual.py: a run that labels are made of",
    "unbiased_click-objective.positions": "a request is a row of its own; the setting is of protocols that draw",
    "start_from": "tests/commands/test_warm_start.py: a run's vectors in a larger log's model",
    "auto": "filled in by the program: tests/config/test_auto_rule.py",
    "data_dir": "the folder of data: every run of this table has its own",
    "run_dir": "the run's folder: every run of this table has its own",
    "resume": "tests/training/test_loop.py and tests/commands/test_end_to_end.py: a resumed run has the same bits",
    "trainer.minutes": "tests/training/test_loop.py: a run ends by the clock, which no run of this table can wait for",
    **{f"auto-model.{name}": "tests/commands/test_portfolio_run.py" for name in ("requests", "members", "weights")},
    "semantic-model.quantiser": "tests/models/test_semantic.py: kmeans leaves the steps that make the other brief idle",
    **{f"semantic-model.{key}": "of model.items=text, which it refuses" for key in ("experts", "text_dropout")},
    "semantic-model.beam": "tests/models/test_semantic.py: of lists, not of what training measures",
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
    "trivago-dataset.text_fields": "its items have no texts",
    "trivago-dataset.text_width": "its items have no texts",
    "dataset.publisher": "of the download: tests/data/test_amazon.py",
}
