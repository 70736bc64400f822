"""Loose lines become the JSON of the same value, and chunks change nothing."""

import io
import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data import json_lines
from seqrec_cli.data.json_lines import loose_to_json, read_lines

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["None", "it's", '"', "\\", "u'"]
)
VALUE = st.recursive(
    TEXT | st.integers(-5, 5) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(TEXT, VALUE, max_size=4))
def test_a_literal_is_the_json_of_its_value(value: dict[str, object]) -> None:
    assert json.loads(loose_to_json(repr(value))) == value


@pytest.mark.parametrize("line", ["{'a': 'b}", "{'a': \"b}", "{'a': 'b\\'}", "{'a': None, 'b': open('x')}"])
def test_what_is_no_literal_is_refused(line: str) -> None:
    with pytest.raises((ValueError, SyntaxError)):
        json.loads(loose_to_json(line))


@pytest.mark.parametrize("written", [json.dumps, repr])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_chunks_change_nothing(written, chunk, monkeypatch) -> None:
    rows = [{"id": f"i{k}", "other": 'it\'s "x" ' * k, "n": k} for k in range(30)]
    data = "\n".join(written(row) for row in rows).encode()  # no newline at the end
    monkeypatch.setattr(json_lines, "CHUNK", chunk)
    monkeypatch.setattr(json_lines, "BLOCK", 64)
    schema = pa.schema({"id": pa.string(), "n": pa.int64(), "absent": pa.string()})
    found = pa.concat_tables(read_lines(io.BytesIO(data), "f", schema)).to_pylist()
    assert found == [{"id": row["id"], "n": row["n"], "absent": None} for row in rows]


def test_the_line_of_an_error_counts_from_the_start_of_the_file(monkeypatch) -> None:
    monkeypatch.setattr(json_lines, "CHUNK", 16)
    data = b'{"id": "a"}\n{"id": "b"}\n\n{"id": \n{"id": "c"}\n'
    with pytest.raises(SeqrecError, match="f: line 4 is no JSON"):
        list(read_lines(io.BytesIO(data), "f", pa.schema({"id": pa.string()})))


def test_lines_of_other_ids_may_be_left_out() -> None:
    data = b"{'id': 'a', 'n': 1}\n{'id': 'b', 'n': 2}\n{'n': 3, 'id': 'a'}\n"
    schema = pa.schema({"id": pa.string(), "n": pa.int64()})
    found = pa.concat_tables(read_lines(io.BytesIO(data), "f", schema, ids={"b"})).to_pylist()
    assert {"id": "b", "n": 2} in found
    assert {"id": "a", "n": 1} not in found
