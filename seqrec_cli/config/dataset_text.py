"""How a dataset's delimited text is written: settings of every source whose files may be such text."""

import codecs
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from seqrec_cli.config.dataset_files import FilesConfig

DELIMITERS = {"tab": "\t", "whitespace": "space", "comma": ",", "semicolon": ";", "pipe": "|"}  # by their names
WORDS = ("auto", "space")


def _delimiter(text: str) -> str:
    """The characters themselves: of a name, of an escape such as \\t or \\x01."""
    text = DELIMITERS.get(text, text)
    if text in WORDS:
        return text
    if text.startswith("\\") and len(text) > 1:
        try:
            text = codecs.decode(text, "unicode_escape")
        except UnicodeDecodeError:
            raise ValueError(f"{text} is no character; write \\t, \\x01, tab or the character itself") from None
    if any(character.isalnum() or character in '"\r\n\0\x1f' for character in text):
        names = ", ".join([*WORDS, *DELIMITERS])
        raise ValueError(f"{text!r}: no letters, digits, quotes or line ends may be in it (names: {names})")
    return text


def _encoding(text: str) -> str:
    if text == "auto":
        return text
    try:
        "".encode(text)  # refuses what is no encoding of text, such as base64
        name = codecs.lookup(text).name
    except (LookupError, ValueError, UnicodeError):
        raise ValueError(
            f"{text} is no encoding; there are utf-8, utf-16, latin-1, cp1252, cp1251, gb18030, ..."
        ) from None
    return "utf-8" if name == "utf-8-sig" else name


class TextConfig(FilesConfig):
    """What is recognised where it is `auto` (and printed), and always as told where it is told."""

    as_before: ClassVar[dict[str, Any]] = FilesConfig.as_before | {
        "encoding": "utf-8",
        "quoted": True,
        "missing": "keep",
    }

    delimiter: Annotated[str, Field(min_length=1, max_length=10), AfterValidator(_delimiter)] = Field(
        description="what stands between fields: one character or several, tab, or space (any run of blanks); auto: "
        "recognised by the first lines, and printed (not for Parquet)"
    )
    encoding: Annotated[str, AfterValidator(_encoding)] = Field(
        description="encoding of the text: latin-1, cp1251, gb18030, ...; auto: UTF-8, or UTF-16 with a byte-order mark"
    )
    header: bool | Literal["auto"] = Field(
        description="whether the first line holds the columns' names; auto: recognised (not for Parquet)"
    )
    quoted: bool = Field(
        description='whether a field in "double quotes" may hold the delimiter; false: quotes are text'
    )
    columns: tuple[str, ...] | None = Field(description="names for the columns of a file without header")
    missing: Literal["error", "drop", "keep"] = Field(
        description="rows whose user, item, time or rating is empty or a word for that (NA, NaN, null, None, ...): "
        "refuse them, drop them, or keep the words of ids as ids"
    )

    @model_validator(mode="after")
    def _one_naming(self) -> Self:
        if self.header is True and self.columns is not None:
            raise ValueError("dataset.columns names the columns of a file without header; set dataset.header=false")
        return self
