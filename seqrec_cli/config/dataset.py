"""What every dataset has: where its raw data are, and what of them stays."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, model_validator

from seqrec_cli.config.settings import Option

TFIDF = "tfidf"  # the one way to make vectors of texts that is no model's name
# What is of a user's request or an item alone, so that a log with it is not turned around (`predict`).
NOT_TURNED = {
    "item_vectors": "are of items, and users are predicted",
    "item_text": "is of items, and users are predicted",
    "owner_column": "is of items, and users are predicted",
    "owners": "is of items, and users are predicted",
    "session_column": "parts a user's history",
    "split_column": "parts a user's history",
    "valid_file": "parts a user's history",
    "test_file": "parts a user's history",
    "context_columns": "are of a user's request",
    "context": "is of a user's request",
}
TIME_CONTEXT = ("hour", "weekday")  # context that is read off the time a request is asked at


def _name(text: str) -> str:
    """A folder's name on every system."""
    if re.fullmatch(r"[\w.+-]+", text):
        return text
    other = re.sub(r"[^\w.+-]+", "-", text).strip("-") or "mine"
    raise ValueError(f"dataset.name={text}: a name is made of letters, digits and . _ + -, as in dataset.name={other}")


class DatasetConfig(Option):
    """What every dataset has: where it comes from and which filters shape it."""

    group: ClassVar[str] = "dataset"
    raw_is_generated: ClassVar[bool] = False  # a source that needs no file sets this
    several_files: ClassVar[bool] = False  # the raw data are a folder, a zip archive, or the downloads of all `urls`
    in_parts: ClassVar[bool] = False  # the archive may be a folder, a glob or a zip archive of a table's parts
    # What does not change the packed log: where its raw bytes are, and what is worked out when it is read.
    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset(
        {"archive", "url", "checksum", "time_context", "item_vectors"}  # the vectors count by their file's bytes
        | {"engine", "memory"}  # which make the same bytes
        | {"item_text", "text_fields", "text_width"}  # which count where texts are read
    )
    # Settings newer than the first logs, which are in the fingerprint where they are set: older ones keep theirs.
    came_later: ClassVar[frozenset[str]] = frozenset()
    # The same, of settings that say in another way that all is as it was: their value then.
    as_before: ClassVar[dict[str, Any]] = {"predict": "items"}

    name: Annotated[str, AfterValidator(_name)] = Field(description="the dataset's name, in folders and tables")
    source: str = Field(description="the reader of its raw format (a file of data/sources)")
    archive: str | None = Field(description="a local file (path or file://) used instead of downloading")
    url: str | None = Field(description="where `download` fetches the publisher's file")
    checksum: str | None = Field(
        description="the publisher's checksum, as md5:HEX or sha256:HEX", pattern=r"^(md5|sha256):[0-9a-f]+$"
    )
    min_rating: float | None = Field(description="drop events rated lower than this")
    user_core: int = Field(ge=0, description="iterative k-core: keep users with at least this many events")
    item_core: int = Field(ge=0, description="iterative k-core: keep items with at least this many events")
    duplicates: Literal["error", "keep", "drop"] = Field(
        description="rows that repeat an earlier row (same user, item and time): refuse, keep or drop them"
    )
    time_context: tuple[Literal["hour", "weekday"], ...] = Field(
        description="context of a request by its own, the target's, time (UTC): a protocol of its own"
    )
    engine: Literal["auto", "memory", "duckdb", "spark"] = Field(
        description="what preprocesses the log: all in memory, DuckDB on disk (the extra `large`), or Spark on a "
        "cluster (the extra `spark`), with the same bytes; auto: in memory or by DuckDB, by its size"
    )
    memory: Annotated[str, Field(pattern=r"^\d+(\.\d+)? ?[KMGT]i?B$")] | None = Field(
        description="memory that preprocessing may take, as 8GiB; null: a share of what is left"
    )
    item_vectors: str | None = Field(
        description="a file of pre-trained item vectors: Parquet or CSV (the id, then a list or the numbers), or .npz "
        "with `ids` and `vectors`"
    )
    item_text: str | None = Field(
        min_length=1,
        description="what makes item vectors of the items' texts when the log is prepared (the extra `text`): tfidf "
        "(TF-IDF and SVD), or a model of sentence-transformers by its folder or name; null: nothing",
    )
    text_fields: tuple[str, ...] = Field(
        description="what an item's text is made of: title, and attributes by name; []: all that the data have"
    )
    text_width: int = Field(ge=1, description="numbers of a text's vector at most: of its SVD, or principal components")
    predict: Literal["items", "users"] = Field(
        description="items: a user's next item; users: the log is turned around, each item is the sequence of its "
        "users in time, and its next user is predicted (whom to show an item)"
    )

    @property
    def features(self) -> tuple[str | int, ...]:
        """Columns of attributes and context that the settings name."""
        return ()

    @property
    def idle(self) -> dict[str, str]:
        found = super().idle
        if self.item_text is None:
            found |= dict.fromkeys(("text_fields", "text_width"), "dataset.item_text=null")
        return found

    @model_validator(mode="after")
    def _vectors_are_of_one_kind(self) -> Self:
        if self.item_text is not None and self.item_vectors is not None:
            raise ValueError("dataset.item_text and item_vectors both give items their vectors; set one of them")
        return self

    @model_validator(mode="after")
    def _log_can_be_turned(self) -> Self:
        if self.predict != "users":
            return self
        if self.logs_impressions:
            raise ValueError(
                "dataset.predict=users: this log's requests show items to users, and have no users to choose from; use "
                "dataset.predict=items"
            )
        for name, why in NOT_TURNED.items():
            if getattr(self, name, None):
                raise ValueError(f"dataset.predict=users: dataset.{name} {why}; leave it out, or use predict=items")
        return self

    @model_validator(mode="after")
    def _memory_is_kept_to(self) -> Self:
        if self.memory is not None and self.engine == "memory":
            raise ValueError("dataset.memory is what dataset.engine=duckdb keeps to; set that engine, or auto")
        return self

    @property
    def memory_bytes(self) -> int:
        """`memory` as a number; 0 where it is not set."""
        number, unit = re.fullmatch(r"([\d.]+) ?(\w+)", self.memory or "0KiB").groups()  # type: ignore[union-attr]
        power = "KMGT".index(unit[0]) + 1
        return int(float(number) * (1024 if "i" in unit else 1000) ** power)

    @property
    def places(self) -> frozenset[str]:
        """Settings that say where raw data lie, on this machine; what lies there is in the fingerprint."""
        return frozenset({"archive", "url", "checksum", "item_vectors", *self.other_files})

    @property
    def other_files(self) -> dict[str, str]:
        """Files beside the archive that are part of the raw data, by their settings."""
        return {}

    @property
    def logs_impressions(self) -> bool:
        """Whether its raw data tell which items were shown."""
        return False

    @property
    def weighs_events(self) -> bool:
        """Whether training targets count differently."""
        return False

    @property
    def urls(self) -> tuple[str, ...]:
        """What `download` fetches."""
        return () if self.url is None else (self.url,)


AnyDataset = Annotated[SerializeAsAny[DatasetConfig], BeforeValidator(DatasetConfig.chosen)]
