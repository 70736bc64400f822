"""The table of `test_every_setting.py`, continued from `rows.py`: protocols and datasets."""

from tests.settings.rows import Row

OF_PROTOCOLS = {
    "seen": Row("keep", "held"),
    "candidates": Row("uniform:5", "candidates"),
    "ties": Row("reversed", "log"),
    "click_negatives": Row("2", "candidates"),
    "seed": Row("1", "candidates"),
    "held_out_users": Row("0.4", "held"),
    "targets": Row("all", "held"),
    "cut": Row("0.6", "held"),
    "validation_cut": Row("0.5", "held"),
}
USERS = {"seed": Row("1", "held")}
ONE_NEGATIVE = {"click_negatives": Row("2", "refused")}

PROTOCOLS: dict[str, dict[str, Row]] = {
    "positions": ONE_NEGATIVE,
    "last": ONE_NEGATIVE | USERS,
    "impressions": ONE_NEGATIVE | {"seed": Row("1", "validated", ("protocol.candidates=uniform:5",))},
    "impressions_by_user": ONE_NEGATIVE | USERS,
    "new_users": USERS | {"fold_in": Row("0.5", "held"), "targets": Row("last", "held")},
    "last_k": {"k": Row("1", "held")},
    "given": {"validation": Row("last_train_event", "held")},
    "ratio": {"share": Row("0.4", "held"), "targets": Row("all", "held", ("protocol.share=0.3",))},
    "global_time": {
        "validation": Row("by_users", "held"),
        "held_out_users": Row("0.4", "held", ("protocol.validation=by_users",)),
    },
    "sessions": {
        "by": Row("column", "held", ("dataset.session_column=visit",)),
        "gap": Row("7", "held"),
        "targets": Row("last", "held"),
    },
}

TFIDF = ("dataset.item_text=tfidf",)
OF_DATASETS = {
    "archive": Row("{other}", "log"),
    "min_rating": Row("3", "log"),
    "user_core": Row("9", "log"),
    "item_core": Row("6", "log"),
    "duplicates": Row("drop", "log"),
    "time_context": Row("[hour]", "log", ("model=avgpool",)),
    "item_vectors": Row("{vectors}", "log"),
    "item_text": Row("tfidf", "log"),
    "text_fields": Row("[nothing]", "refused", TFIDF),
    "text_width": Row("2", "log", TFIDF),
    "predict": Row("users", "log", ("protocol.seen=keep",)),
}


def texts(*given: str) -> dict[str, Row | None]:
    """Rows of a dataset whose items have texts by other settings."""
    fields, width = ("[title]", "refused", (*TFIDF, *given)), ("2", "log", (*TFIDF, *given))
    return {"item_text": Row("tfidf", "log", given), "text_fields": Row(*fields), "text_width": Row(*width)}


UNRATED = {"min_rating": Row("3", "refused")}
ITEMS = ("dataset.item_file={items}", "dataset.item_attribute_columns=[tags]")
USER_FILE = ("dataset.user_file={users}", "dataset.user_attribute_columns=[town]")
BESIDE = {
    "valid_file": Row("{split}", "log", ("dataset.split_leaks=true", "protocol.seen=keep")),
    "test_file": Row("{split}", "log", ("dataset.split_leaks=true", "protocol.seen=keep")),
    "item_file": Row("{items}", "log", ("dataset.item_attribute_columns=[kind]",)),
    "item_file_id": Row("other", "log", ITEMS),
    "user_file": Row("{users}", "log", ("dataset.user_attribute_columns=[plan]",)),
    "user_file_id": Row("other", "log", USER_FILE),
}
HEADERLESS = ("dataset.archive={headerless}", "dataset.header=false")

DATASETS: dict[str, dict[str, Row | None]] = {
    "csv": texts("dataset.item_attribute_columns=[tags]")
    | {
        "user_column": Row("visit", "log"),
        "item_column": Row("maker", "log", ("protocol.seen=keep",)),
        "time_column": Row("visit", "log", ("dataset.time_unit=s",)),
        "time_unit": Row("ms", "log"),
        "order_columns": Row("[maker]", "log"),
        "label_column": Row("rating", "refused"),  # by a protocol that draws negatives
        "weight_column": Row("maker", "log"),
        "rating_column": Row("null", "log"),
        "delimiter": Row("';'", "refused"),
        "encoding": Row("utf-16", "refused"),
        "header": Row("false", "refused"),
        "quoted": Row("false", "refused", ("dataset.archive={odd}", "dataset.missing=drop")),
        "missing": Row("drop", "refused", ("dataset.archive={odd}",)),
        "columns": Row(
            "[visit,item,time,rating,kind,tags,plan,place,user,maker]",
            "log",
            (*HEADERLESS, "dataset.columns=[user,item,time,rating,kind,tags,plan,place,visit,maker]"),
        ),
        "item_attribute_columns": Row("[kind]", "log"),
        "numeric_columns": Row("[maker]", "log", ("dataset.item_attribute_columns=[maker]",)),
        "user_attribute_columns": Row("[plan]", "log"),
        "context_columns": Row("[place]", "log", ("model=avgpool",)),
        "owner_column": Row("maker", "log"),
        "session_column": Row("visit", "log"),
        "value_separator": Row("'|'", "log", ("dataset.item_attribute_columns=[tags]",)),
        "split_column": Row("part", "log", ("dataset.archive={split}",)),
        "split_leaks": Row("true", "refused", ("dataset.archive={split}", "dataset.split_column=drawn")),
        "sequence_separator": Row("'|'", "log", ("dataset.item_column=tags", "protocol.seen=keep")),
        **BESIDE,
    },
    "sequences": UNRATED
    | BESIDE
    | texts(*ITEMS)
    | {
        "predict": Row("users", "refused"),  # without times
        "time_context": Row("[hour]", "refused", ("model=avgpool",)),
        "valid_file": Row("{pairs}", "log", ("protocol.seen=keep",)),
        "test_file": Row("{pairs}", "log", ("protocol.seen=keep",)),
        "item_file": Row("{items}", "refused", ITEMS[1:]),
        "user_file": Row("{users}", "refused", USER_FILE[1:]),
        "item_attribute_columns": Row("[kind]", "log", ITEMS),
        "user_attribute_columns": Row("[plan]", "log", USER_FILE),
        "value_separator": Row("'|'", "log", ("dataset.item_file={items}", "dataset.item_attribute_columns=[tags]")),
        "title_column": Row("kind", "refused"),
    },
    "synthetic": UNRATED
    | {
        "archive": Row("/nowhere", "refused"),
        "url": Row("http://localhost/log", "refused"),
        "checksum": Row("md5:00", "refused"),
        "duplicates": None,
        "seed": Row("1", "log"),
        "users": Row("41", "log"),
        "items": Row("31", "log"),
        "categories": Row("4", "log"),
        "segments": Row("2", "log"),
        "min_events": Row("6", "log"),
        "max_events": Row("9", "log"),
        "predictability": Row("0.5", "log"),
        "lag_weights": Row("[1.0]", "log"),
        "successors": Row("3", "log"),
        "own_successors": Row("0.9", "log"),
        "successor_decay": Row("3.0", "log"),
        "linked": Row("0.1", "log"),
        "popularity_decay": Row("2.0", "log"),
        "affinity": Row("1.0", "log"),
        "session_events": Row("2.0", "log"),
        "session_gap": Row("10.0", "log"),
        "between_hours": Row("[1.0, 2.0]", "log"),
        "owners": Row("true", "log"),
    },
    "amazon": {
        "category": Row("Books", "log"),
        "edition": Row("2014", "log"),
        "attributes": Row("[brand]", "log"),
    },
    "taobao": UNRATED
    | {
        "behaviours": Row("[pv, buy]", "log"),
        "outliers": Row("keep", "log"),
        "first_time": Row("1511545000", "log"),
        "last_time": Row("1511545000", "log"),
    },
    "trivago": UNRATED
    | {
        "item_text": Row("tfidf", "refused"),
        "predict": Row("users", "refused"),
        "text_fields": None,
        "text_width": None,
        "user_core": Row("9", "log", ("protocol.seen=keep",)),
        "item_core": Row("6", "log", ("protocol.seen=keep",)),
        "actions": Row("['search for item']", "log"),
        "collapse": Row("false", "log"),
        "context": Row("[device]", "log"),
    },
}
