"""What a file is by its first bytes, where it is not the delimited text that was expected."""

import re

# First bytes, what such a file is, and what to do with it.
_SIGNATURES = (
    (b"PAR1", "a Parquet file", "let its name end in .parquet"),
    (b"ARROW1", "an Arrow file", "write it as Parquet or CSV"),
    (b"PK\x03\x04", "a zip archive (or a workbook, .xlsx)", "unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Office file (.xls)", "save the sheet as CSV"),
    (b"SQLite format 3\0", "an SQLite database", "write its table as CSV"),
    (b"Obj\x01", "an Avro file", "write it as Parquet or CSV"),
    (b"ORC", "an ORC file", "write it as Parquet or CSV"),
    (b"\x89HDF", "an HDF5 file", "write it as Parquet or CSV"),
    (b"\x93NUMPY", "a NumPy array", "write it as Parquet or CSV"),
    (b"\xfd7zXZ\0", "an xz archive", "unpack it with `xz -d`"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"\x89PNG", "a PNG image", ""),
    (b"\xff\xd8\xff", "a JPEG image", ""),
    (b"GIF8", "a GIF image", ""),
    (b"%PDF", "a PDF document", ""),
    (b"\x7fELF", "a program", ""),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch it with `git lfs pull`"),
)
_COMPRESSED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bz2"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x04\x22\x4d\x18", "lz4"))
_PICKLE = re.compile(rb"\x80[\x02-\x05][\x95}\](cc]")
_PAGE = re.compile(rb"\s*<(!doctype|html|head|\?xml)", re.IGNORECASE)
_JSON = re.compile(rb"\s*(\[\s*)?\{\s*\"")
_NOT_TEXT = bytes({*range(32)} - {*b"\t\n\r\f\x01\x1c\x1d\x1e\x1f\x1b"})
_SAMPLE = 1 << 16


def compression(head: bytes) -> str | None:
    """How a file is compressed, in pyarrow's word."""
    return next((name for start, name in _COMPRESSED if head.startswith(start)), None)


def not_text(head: bytes) -> tuple[str, str] | None:
    """What these first bytes are, and what to do with such a file; None where they may be delimited text."""
    for start, what, remedy in _SIGNATURES:
        if head.startswith(start):
            return what, remedy
    if head[257:262] == b"ustar":
        return "a tar archive", "unpack it"
    if _PICKLE.match(head):
        return "a pickle", "write it as Parquet or CSV"
    if _JSON.match(head):
        return "JSON", "let its name end in .jsonl (an object a line)"
    if _PAGE.match(head):
        return "a web page or XML", "was the download refused?"
    return None


def looks_binary(head: bytes) -> bool:
    """Whether these bytes hold many control characters, NUL among them, which text does not."""
    sample = head[:_SAMPLE]
    controls = len(sample) - len(sample.translate(None, _NOT_TEXT))
    return controls * 20 > len(sample)


def utf16_without_mark(head: bytes) -> str | None:
    """The encoding of text whose every other byte is NUL."""
    sample = head[:_SAMPLE]
    for name, at in (("utf-16-le", 1), ("utf-16-be", 0)):
        high, low = sample[at::2], sample[1 - at :: 2]
        if high.count(0) * 10 > len(high) * 9 and low.count(0) == 0:
            return name
    return None
