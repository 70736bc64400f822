"""Delimited text: forms that are recognised, forms that are told, and what is said of files that are neither."""

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from dataset_helpers import build, dataset
from pydantic import ValidationError

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.columns import Columns
from seqrec_cli.data.number_text import with_points
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.vocabulary import vocabulary

START = 1_700_000_000
NAMES = ("user", "item", "time")
ROWS = [(f"u{u}", f"i{(3 * u + k) % 9}", str(START + 100 * u + k)) for u in range(1, 5) for k in range(4)]
AUTO: dict[str, Any] = {"delimiter": "auto", "encoding": "auto", "header": "auto", "quoted": True}


def written(separator: str = ",", *, header: bool = True, rows: list[Any] = ROWS, end: str = "\n") -> str:
    return "".join(separator.join(row) + end for row in ([NAMES] * header + rows))


def with_line(number: int, line: str) -> str:
    """The plain file with another line (from 1)."""
    lines = written().splitlines()
    return "\n".join([*lines[: number - 1], line, *lines[number:]]) + "\n"


def parse(text: str | bytes, columns: tuple[Any, ...] = NAMES, **told: Any) -> Columns:
    data = text if isinstance(text, bytes) else text.encode()
    return Columns.parse(data, "log.csv", columns=columns, **(AUTO | told))


def rows_of(columns: Columns, names: tuple[Any, ...] = NAMES) -> list[tuple[str, ...]]:
    return [tuple(map(str, row)) for row in zip(*(columns.ids(name).tolist() for name in names), strict=True)]


@pytest.mark.parametrize(
    ("separator", "word"),
    [
        *((",", "comma"), ("\t", "tab"), (";", "semicolon"), ("|", "bar"), ("::", "'::'"), (" ", "space")),
        *(("   ", "space"), ("||", "'||'"), (",,", "',,'")),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_delimiter_is_recognised_and_told(separator: str, word: str, end: str) -> None:
    columns = parse(written(separator, end=end))
    assert rows_of(columns) == ROWS
    assert columns.notes == (f"read as {word}-separated, UTF-8, with a header",)


@pytest.mark.parametrize("separator", ["~", "||", "<>", "\x01", "¦"])
def test_a_delimiter_is_what_is_told(separator: str) -> None:
    assert rows_of(parse(written(separator), delimiter=separator)) == ROWS


def test_blanks_around_a_delimiter_are_not_the_delimiter() -> None:
    columns = parse(written(" | "))
    assert columns.notes == ("read as bar-separated, UTF-8, with a header",)
    assert [tuple(map(str.strip, row)) for row in rows_of(columns)] == ROWS  # trimmed, with a note, later


def test_wanted_columns_decide_between_delimiters() -> None:
    text = "user;x,item;x,time\n" + "".join(f"{u};1,{i};2,{t}\n" for u, i, t in ROWS)
    assert rows_of(parse(text, ("user;x", "item;x", "time")), ("user;x", "item;x", "time"))[0] == (
        "u1;1",
        "i3;2",
        ROWS[0][2],
    )


def test_a_quoted_field_keeps_a_long_delimiter() -> None:
    columns = parse(written("::", rows=[('"a::b"', "i1", str(START)), *ROWS]), delimiter="::")
    assert columns.ids("user")[0] == "a::b"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_tell_the_encoding(encoding: str) -> None:
    assert rows_of(parse(written(rows=[("é", "i1", str(START)), *ROWS]).encode(encoding)))[0][0] == "é"
    assert rows_of(parse(written(header=False).encode(encoding), (0, 1, 2)), (0, 1, 2)) == ROWS


def test_another_encoding_is_read_where_it_is_told() -> None:
    data = with_line(7, f"caf\u00e9,i1,{START}").encode("latin-1")
    assert parse(data, encoding="latin-1").ids("user")[5] == "café"


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("told", [True, False])
def test_a_header_is_seen_by_position_too(header: bool, told: bool) -> None:
    columns = parse(written(header=header), (0, 1, 2), header=header if told else "auto")
    assert rows_of(columns, (0, 1, 2)) == ROWS


def test_a_row_is_named_by_its_line_whatever_comes_before_it() -> None:
    lines = written(rows=[*ROWS, ("u9", "i9", "noon")]).splitlines()
    for before, line in (("", 18), ("\n\n", 20)):
        with pytest.raises(SeqrecError, match=f"time is 'noon' in line {line}, not a finite number"):
            parse(before + "\n".join(lines)).numbers("time")
    wrapped = ["user,item,time", f'"u\n1",i1,{START}', *lines[1:]]
    columns = parse("\n".join(wrapped))
    assert columns.notes[1] == "rows that run over several lines of the file, in quoted fields: 1"
    with pytest.raises(SeqrecError, match="time is 'noon' in line 20"):
        columns.numbers("time")
    with pytest.raises(SeqrecError, match="time is 'noon' in line 18"):
        parse("\n".join(lines)).where(parse("\n".join(lines)).coded("user")[0] > 0).numbers("time")


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
PACKED = gzip.compress(written(rows=ROWS * 99).encode())


@pytest.mark.parametrize(
    ("data", "told", "complaint"),
    [
        (written("~"), {}, r"no delimiter is found in its first lines \('user~item~time'\); set dataset\.delimiter"),
        (written(), {"delimiter": ";"}, r"the delimiter \(semicolon\) splits nothing in 'user,item,time'"),
        (with_line(7, f"caf\u00e9,i1,{START}").encode("latin-1"), {}, "line 7 is not UTF-8; set "
         "dataset.encoding=latin-1 if this should read 'café'"),
        (with_line(7, "x\x81,i1,1").encode("latin-1"), {"encoding": "cp1252"}, r"line 7 is not cp1252 \(byte 0x81\)"),
        (written().encode("utf-16-le"), {}, "UTF-16 without a byte-order mark; set dataset.encoding=utf-16-le"),
        (with_line(9, f"u\0x,i1,{START}"), {}, "line 9 holds a NUL byte"),
        (bytes(range(256)) * 9, {}, "is a binary file, not delimited text"),
        (PNG, {}, "is a PNG image, not delimited text"),
        (gzip.compress(PNG), {}, "is a PNG image"),
        (b"PK\x03\x04" + b"x" * 99, {}, "is a zip archive .*unpack it"),
        (b"PAR1" + b"x" * 99, {}, r"is a Parquet file, not delimited text; let its name end in \.parquet"),
        ('{"user": 1, "item": 2}\n', {}, r"is JSON, not delimited text; let its name end in \.jsonl"),
        ("<!DOCTYPE html><html>404</html>", {}, "is a web page or XML.*was the download refused"),
        (PACKED[: len(PACKED) // 2], {}, "cannot be read: it ends early or is damaged as a compressed file"),
        ("", {}, "is empty"),
        ("\n\n", {}, "holds blank lines alone"),
        ("user,item,time", {}, "holds no rows below its header"),
        ("x" * 2_000_000 + ",user,item,time\n1,2,3,4\n", {}, "its first line does not end within 1,048,576 bytes"),
        (written(header=False), {}, r"the first line looks like data \(u1, i3, 1700000100\), not column names; .* "
         r"dataset\.header=false and name its 3 columns: dataset\.columns=\[user,item,\.\.\.\]"),
        (written(), {"header": False}, r"looks like column names \(user, item, time\); set dataset\.header=true"),
        (written(), {"names": NAMES}, r"looks like column names .*; leave dataset\.columns out"),
        (written(header=False), {"names": NAMES[:2]}, "dataset.columns names 2 columns, its first line has 3"),
        (written(header=False), {"header": False}, r"without a header there is no column 'user'; give positions"),
        ("user,user,time\nu1,u2,3\n", {}, r"has more than one column 'user' \(has: user, user, time\)"),
        ("# exported today\n" + written(), {}, r"line 1 \('# exported today'\) is no row of 3 fields"),
        (written(rows=[(*row, "") for row in ROWS]), {}, "line 1 has 3 fields .* after it have 4; .*ends of lines"),
        (with_line(6, "u1,i2"), {}, "line 6 has 2 fields, not 3: 'u1,i2'"),
        (with_line(6, "u1,Rock, Paper,7"), {}, r"line 6 has 4 fields, not 3: .* \(comma\) must be in double quotes"),
        (written() + "(16 rows affected)\n", {}, r"line 18 has 1 field, not 3: '\(16 rows affected\)'"),
        (with_line(6, f'"u1,i2,{START}'), {}, "a quote in line 6 is never closed; .* dataset.quoted=false"),
        ('"' + written(), {}, "a quote in its first line is never closed"),
        ("sep=;\n" + written(";"), {}, r"line 1 \('sep=;'\) tells Excel the delimiter and is no row; remove it"),
        ("Sales of May,,\n" + written(), {}, r"first line \(Sales of May, , \) is not the one with the columns' names"),
        (written().replace("user,item,time", "'user','item','time'"), {}, "its fields are in single quotes"),
        ("1 5 3 8 2\n2 5 6 1 8\n", {}, "looks like data .*; lines of `user item item ...` .* are dataset=sequences"),
    ],
)  # fmt: skip
def test_what_is_no_such_text_is_named_in_a_line(data: str | bytes, told: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SeqrecError, match=complaint) as error:
        parse(data, **told)
    assert "\n" not in str(error.value)


def test_header_true_on_data_is_refused_by_position() -> None:
    with pytest.raises(SeqrecError, match=r"the first line looks like data \(u1, i3, 1700000100\)"):
        parse(written(header=False), (0, 1, 2), header=True)


def test_quotes_may_be_text() -> None:
    assert parse(with_line(6, f'"u1,i2,{START}'), quoted=False).ids("user")[4] == '"u1'


def test_a_quote_that_takes_in_half_of_a_large_file_is_found() -> None:
    text = written(rows=ROWS * 20_000) + f'"u1,i1,{START}\n' + written(header=False)
    with pytest.raises(SeqrecError, match="a quote in line 320002 is never closed"):
        parse(text)


def test_numbers_are_read_with_signs_and_blanks_and_no_commas() -> None:
    text = "user,item,stars\n" + "".join(f"u,i,{number}\n" for number in ("+1", " 2 ", "-.5", "1e2", "4."))
    assert parse(text, ("stars",), header=True).numbers("stars").tolist() == [1, 2, -0.5, 100, 4]
    for bad, advice in (("4,5", r" \(write a decimal point"), ("good", ""), ("inf", ""), ("1_000", "")):
        text = f"user;stars\nu;1\nu;{bad}\n"
        with pytest.raises(SeqrecError, match=f"stars is '{bad}' in line 3, not a finite number{advice}"):
            parse(text, ("user", "stars")).numbers("stars")


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["3,5", "4", "NA", ""], ["3.5", "4", "NA", ""]),
        (["0,125", "1,250"], ["0.125", "1.250"]),
        (["1,250", "2,000"], None),  # thousands, perhaps
        (["3,5", "4.5"], None),
        (["1,250,000", "3"], None),
        (["3", "4"], None),
    ],
)
def test_decimal_commas_are_points_where_they_can_be_nothing_else(texts: list[str], numbers: list[str] | None) -> None:
    found = with_points(pa.array(texts))
    assert (None if found is None else found.to_pylist()) == numbers


def test_decimal_commas_of_ratings_weights_and_times_are_read_and_said(tmp_path: Path) -> None:
    rows = [f"u{u};i{(u + k) % 7};{START + k},5;{k},5;1,{k}" for u in range(5) for k in range(1, 6)]
    (tmp_path / "log.csv").write_text("\n".join(["user;item;time;stars;worth", *rows]) + "\n")
    said: list[str] = []
    cfg = dataset("csv", archive=tmp_path / "log.csv", rating_column="stars", weight_column="worth", time_unit="auto")
    log = prepare(cfg, tmp_path / "data", said.append)
    assert log.ratings_N.tolist()[:5] == [1.5, 2.5, 3.5, 4.5, 5.5]
    for name in ("stars", "worth", "time"):
        assert f"{name}: decimal commas read as points" in said


MISSING = [("nan", "i1", str(START)), ("NULL", "i2", str(START + 1)), ("", "i3", str(START + 2)), ("u1", "i4", "N/A")]


def built(folder: Path, rows: list[Any], **values: Any) -> Any:
    path = folder / "log.csv"
    path.write_text(written(rows=rows))
    return build(dataset("csv", archive=path, **values), folder / "data")


def test_rows_that_lack_something_are_refused_dropped_or_kept(tmp_path: Path) -> None:
    with pytest.raises(SeqrecError) as error:
        built(tmp_path, [*ROWS, *MISSING])
    assert str(error.value) == (
        "log.csv: of 20 rows, 4 without one of user, item, time (user: 'nan' 1, 'NULL' 1, empty 1; time: 'N/A' 1), the "
        "first are line 18, line 19, line 20, line 21; remove these rows or mend them; or set dataset.missing=drop to "
        "leave them out, or dataset.missing=keep if such words are ids here"
    )
    log = built(tmp_path, [*ROWS, *MISSING], missing="drop")
    assert log.num_users == 4
    assert any(note.startswith("of 20 rows, 4 without") and "left out" in note for note in log.manifest["notes"])
    kept = built(tmp_path, [*ROWS, *MISSING[:2]], missing="keep")
    assert vocabulary(kept.folder, "users").tolist() == ["NULL", "nan", "u1", "u2", "u3", "u4"]
    for rows, lacking in ((MISSING[2], "user: empty 1"), (MISSING[3], "time: 'N/A' 1")):
        with pytest.raises(SeqrecError, match=lacking):
            built(tmp_path, [*ROWS, rows], missing="keep")
    with pytest.raises(SeqrecError, match=r"dataset\.missing=drop would leave none"):
        built(tmp_path, [("nan", *row[1:]) for row in ROWS], missing="drop")


def test_blanks_around_ids_are_left_out_and_counted(tmp_path: Path) -> None:
    log = built(tmp_path, [(" u1 ", "i1", str(START)), ("u2", " 7", str(START)), *ROWS])
    assert vocabulary(log.folder, "users").tolist() == ["u1", "u2", "u3", "u4"]
    assert "user: blanks around 1 distinct values left out, 1 of which are then another value" in log.manifest["notes"]


def test_a_repeated_row_is_named_by_its_line(tmp_path: Path) -> None:
    rows = [ROWS[0], ("nan", "i", str(START)), *ROWS[1:], ROWS[3]]
    with pytest.raises(SeqrecError, match=r"1 rows repeat an earlier row .*, the first is line 19"):
        built(tmp_path, rows, missing="drop")


def test_a_missing_column_names_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match=r"no column 'visitor' .*; give dataset\.user_column=user"):
        built(tmp_path, ROWS, user_column="visitor")


@pytest.mark.parametrize(
    ("told", "meant"),
    [("tab", "\t"), (r"\t", "\t"), (r"\x01", "\x01"), ("pipe", "|"), ("whitespace", "space"), ("\\", "\\")],
)
def test_names_and_escapes_of_delimiters(told: str, meant: str) -> None:
    assert dataset("csv", delimiter=told).delimiter == meant  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [({"delimiter": "ab"}, "no letters"), ({"delimiter": '"'}, "quotes"), ({"encoding": "base64"}, "is no encoding"),
     ({"encoding": "utf-99"}, "is no encoding"), ({"missing": "ignore"}, "missing"), ({"header": "yes"}, "header")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        dataset("csv", **values)


def test_what_was_done_before_there_was_a_choice_leaves_the_fingerprint(tmp_path: Path) -> None:
    old = {"delimiter": ",", "header": True, "encoding": "utf-8", "quoted": True, "missing": "keep"}
    log = built(tmp_path, ROWS, **old)
    assert not {"encoding", "quoted", "missing"} & set(log.manifest["settings"])
    assert built(tmp_path, ROWS).manifest["settings"]["missing"] == "error"
