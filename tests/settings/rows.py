"""The table of `test_every_setting.py`: a line a setting, with another value and the first part of a run it acts on.

Here are the trainer, hardware, evaluation and objectives; `rows_of_models.py` has models, `rows_of_data.py` has
protocols and datasets.

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
    "log_q": Row("none", "steps"),
    "pool": Row("2", "rows", ("objective.sampling=hard", "objective.shared=sequence", "objective.log_q=none")),
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
