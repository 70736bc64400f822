"""What `recommend` may be told of the lists it makes, and of files of requests and answers."""

from typing import Annotated

from pydantic import Field

from seqrec_cli.config.settings import Settings

Ids = tuple[str | int, ...] | str
Value = str | int | float | bool
Values = Annotated[tuple[Value, ...], Field(min_length=1)] | Value


class ListSettings(Settings):
    """Which items a list may hold, and how they differ."""

    length: int | None = Field(
        ge=1,
        description="events that the model reads at most, the latest, which serve and export call history; null: as "
        "many as it was trained on",
    )
    allow: Ids | None = Field(
        description="recommend these items alone: raw ids, or a file of them (one a line, or a column `item` of CSV or "
        "Parquet); null: every item"
    )
    deny: Ids | None = Field(description="never recommend these items: raw ids, or a file as for allow; null: none")
    where: dict[str, Values] | None = Field(
        description="recommend items with one of these values of each attribute: '{genres: [Comedy, Drama]}'"
    )
    mmr: float | None = Field(
        ge=0,
        le=1,
        description="lambda of maximal marginal relevance: 1 is the order of the scores, 0 lets the items of a list "
        "differ most; null: no re-ranking",
    )
    mmr_pool: int = Field(ge=1, description="of so many of the best items such a list is made")
    mmr_by: str | None = Field(
        description="how items are compared: vectors (of an encoder), or an attribute of theirs; null: vectors where "
        "the model has them, else all attributes"
    )


class FileSettings(Settings):
    """Many requests at once."""

    input: str | None = Field(
        description="a file of requests (.parquet, .csv, .jsonl; columns user, history, times, asked_at and context), "
        "or `users`: every user of the data; null: the one request of the command"
    )
    output: str | None = Field(description="the file of their answers (.parquet, .csv, .jsonl)")
    replace: bool = Field(description="an output that is there already is replaced; false: refused")
    sequence_separator: str = Field(min_length=1, description="what joins the items of a history that is text")
    explain: bool = Field(
        description="a column `because`: the event of the history that weighed most (of models with attention)"
    )
    chunk: int = Field(ge=1, description="requests whose answers are written at once: as many a killed command repeats")
    batch: int | None = Field(ge=1, description="requests that are scored at once; null: as the run was evaluated")
