"""What logs of people's own files have in common: where the files are, and what describes items and users."""

from typing import ClassVar, Self

from pydantic import Field, model_validator

from seqrec_cli.config.dataset import DatasetConfig

OTHER_FILES = ("valid_file", "test_file", "item_file", "user_file")


class FilesConfig(DatasetConfig):
    """Files beside the log, and their columns. A column is a name, or a position from 0."""

    in_parts: ClassVar[bool] = True
    not_in_fingerprint: ClassVar[frozenset[str]] = DatasetConfig.not_in_fingerprint | frozenset(OTHER_FILES)
    came_later: ClassVar[frozenset[str]] = frozenset(
        {"item_file_id", "user_file_id", "title_column", "numeric_columns", *OTHER_FILES}
    )

    valid_file: str | None = Field(description="a file of the events that validate, beside the archive, which trains")
    test_file: str | None = Field(description="a file of the events that test")
    item_file: str | None = Field(description="a file with a row an item, for its attributes and titles")
    item_file_id: str | int | None = Field(description="its column of item ids; null: called as in the log")
    user_file: str | None = Field(description="a file with a row a user, for its attributes")
    user_file_id: str | int | None = Field(description="its column of user ids; null: called as in the log")
    item_attribute_columns: tuple[str | int, ...] = Field(description="categorical columns of the item")
    user_attribute_columns: tuple[str | int, ...] = Field(description="categorical columns of the user")
    numeric_columns: tuple[str | int, ...] = Field(
        description="those of the columns of items, users and context whose values are numbers (price, age)"
    )
    title_column: str | int | None = Field(description="column of the items' names, for people; null for none")
    value_separator: str | None = Field(
        min_length=1, description="text between several values in one attribute field; null: one value a field"
    )

    @property
    def features(self) -> tuple[str | int, ...]:
        return (*self.item_attribute_columns, *self.user_attribute_columns)

    @property
    def other_files(self) -> dict[str, str]:
        """Files beside the archive that are part of the raw data, by their settings."""
        found = {name: getattr(self, name) for name in OTHER_FILES}
        return {name: file for name, file in found.items() if file is not None}

    @model_validator(mode="after")
    def _numbers_of_something(self) -> Self:
        for column in self.numeric_columns:
            if column not in self.features:
                raise ValueError(
                    f"dataset.numeric_columns: {column} is in none of item_attribute_columns, user_attribute_columns "
                    "and context_columns; add it to the one that says whose number it is"
                )
        return self

    @model_validator(mode="after")
    def _files_are_read(self) -> Self:
        if self.item_file is not None and not self.item_attribute_columns and self.title_column is None:
            raise ValueError(
                "dataset.item_file: nothing of it is read; name columns of it in dataset.item_attribute_columns or "
                "dataset.title_column"
            )
        if self.user_file is not None and not self.user_attribute_columns:
            raise ValueError(
                "dataset.user_file: nothing of it is read; name columns of it in dataset.user_attribute_columns"
            )
        for kind, file in (("item", self.item_file), ("user", self.user_file)):
            if file is None and getattr(self, f"{kind}_file_id") is not None:
                raise ValueError(f"dataset.{kind}_file_id is a column of dataset.{kind}_file, which is not set")
        return self
