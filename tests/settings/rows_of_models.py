"""The table of `test_every_setting.py`, continued: models; `rows.py` says what a row is."""

from tests.settings.rows import Row

ITEM_KINDS = ("dataset.item_attribute_columns=[kind]",)
USER_PLANS = ("dataset.user_attribute_columns=[plan]",)
PLACES = ("dataset.context_columns=[place]",)
TEXTS = ("dataset.item_vectors={vectors}", "model.items=text")

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
