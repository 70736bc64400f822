"""`dataset.item_text`: vectors of titles and attributes, by TF-IDF or a model, kept with the prepared data."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from dataset_helpers import dataset

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data import item_texts
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare

TITLES = {"a": "The Red House", "b": "Red house, blue door", "c": "Space war", "d": "War in space", "e": ""}
LOG = "user,item,time\n" + "".join(f"{u},{'abcde'[(u + n) % 5]},{n}\n" for u in range(4) for n in range(4))
ITEMS = "item,name,kind\n" + "".join(
    f'{item},"{title}",{"" if item == "e" else "tale|old" if item in "ab" else "film"}\n'
    for item, title in TITLES.items()
)


def read(folder: Path, by: str | None, said: list[str] | None = None, **values: Any) -> PackedLog:
    (folder / "log.csv").write_text(LOG, encoding="utf-8")
    (folder / "items.csv").write_text(ITEMS, encoding="utf-8")
    cfg = dataset(
        "csv",
        archive=folder / "log.csv",
        item_text=by,
        **{"item_file": folder / "items.csv", "title_column": "name", "item_attribute_columns": ["kind"]}
        | {"value_separator": "|", "missing": "keep"}
        | values,
    )
    return prepare(cfg, folder / "data", (lambda line: None) if said is None else said.append)


class Encoder:
    """In the place of a model of sentence-transformers: counts letters; its folder's file says how many it tells."""

    asked: list[list[str]]

    def __init__(self, name: str, device: str) -> None:
        if name == "no/such-model":
            raise OSError("cannot be reached\nand more")
        self.letters = int((Path(name) / "config.json").read_text(encoding="utf-8"))

    def encode(self, texts: list[str], normalize_embeddings: bool, show_progress_bar: bool) -> np.ndarray:
        Encoder.asked = [texts]
        counts = np.array([[text.count(chr(97 + k)) + 0.1 for k in range(self.letters)] for text in texts])
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    module = ModuleType("sentence_transformers")
    module.SentenceTransformer = Encoder  # type: ignore[attr-defined]
    module.__spec__ = sys.__spec__
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    folder = tmp_path / "models" / "letters"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("8", encoding="utf-8")
    return folder


def vectors(log: PackedLog) -> np.ndarray:
    assert log.catalog.item_vectors is not None
    return log.catalog.item_vectors


def test_a_text_is_a_title_and_its_attributes(tmp_path: Path, encoder: Path) -> None:
    read(tmp_path, str(encoder))
    assert Encoder.asked[0] == [
        "The Red House. kind: tale, old",
        "Red house, blue door. kind: tale, old",
        "Space war. kind: film",
        "War in space. kind: film",
    ]
    read(tmp_path, str(encoder), text_fields=["title"])
    assert Encoder.asked[0][2:] == ["Space war", "War in space"]


def test_tfidf_tells_what_texts_share(tmp_path: Path) -> None:
    said: list[str] = []
    log = read(tmp_path, "tfidf", said, text_width=2)
    found = vectors(log)
    assert found.shape == (6, 2)
    assert np.isnan(found[[0, 5]]).all()  # padding, and an item that nothing is said of
    np.testing.assert_allclose(np.linalg.norm(found[1:5], axis=1), 1, rtol=1e-5)
    alike = found[1:5] @ found[1:5].T
    assert alike[0, 1] > 0.9
    assert alike[2, 3] > 0.9
    assert abs(alike[:2, 2:]).max() < 0.3
    (line,) = (line for line in said if line.startswith("texts"))
    assert line.startswith("texts (title, kind): 4 of 5 items have a vector of 2 numbers, TF-IDF of ")
    assert line in log.manifest["notes"]
    wide = vectors(read(tmp_path, "tfidf"))
    assert wide.shape[1] == 8  # red, house, space, war, kind, old, tale, film: words of one text alone say nothing
    np.testing.assert_allclose(np.linalg.norm(wide[1:5], axis=1), 1, rtol=1e-5)


def test_wider_vectors_of_a_model_are_projected(tmp_path: Path, encoder: Path) -> None:
    whole, cut = vectors(read(tmp_path, str(encoder), text_width=3)), vectors(read(tmp_path, str(encoder)))
    assert (whole.shape[1], cut.shape[1]) == (3, 8)
    gaps = [np.linalg.norm(each[1:5, None] - each[None, 1:5], axis=-1) for each in (whole, cut)]
    np.testing.assert_allclose(gaps[0], gaps[1], atol=1e-5)  # four points span three dimensions


def test_what_makes_the_vectors_is_in_the_fingerprint_and_nothing_is_without(tmp_path: Path, encoder: Path) -> None:
    plain = read(tmp_path, None)
    assert not {"item_text", "text_fields", "text_width"} & plain.manifest["settings"].keys()
    several = [
        read(tmp_path, "tfidf"),
        read(tmp_path, "tfidf", text_width=2),
        read(tmp_path, "tfidf", text_fields=["title"]),
        read(tmp_path, str(encoder)),
    ]
    assert len({plain.fingerprint, *(log.fingerprint for log in several)}) == 5
    (encoder / "config.json").write_text("9", encoding="utf-8")
    assert read(tmp_path, str(encoder)).fingerprint != several[-1].fingerprint
    assert vectors(read(tmp_path, str(encoder))).shape[1] == 9


def test_prepared_data_need_no_model(tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(tmp_path, str(encoder))
    (encoder / "config.json").unlink()
    encoder.rmdir()
    monkeypatch.setattr(item_texts, "_needs", lambda module, by: pytest.fail("asked for"))
    said: list[str] = []
    after = read(tmp_path, str(encoder), said)
    assert after.fingerprint == before.fingerprint
    np.testing.assert_array_equal(vectors(after), vectors(before))
    assert any("nothing to do" in line for line in said)
    known = json.loads((tmp_path / "data" / item_texts.KNOWN_MODELS).read_text(encoding="utf-8"))
    assert list(known) == [str(encoder)]


def refused(folder: Path, by: str, **values: Any) -> str:
    with pytest.raises(SeqrecError) as caught:
        read(folder, by, **values)
    assert "\n" not in str(caught.value)
    assert not list((folder / "data").glob("csv-*/manifest.json"))
    return str(caught.value)


def test_what_cannot_be_made_is_refused_in_a_line(tmp_path: Path, encoder: Path) -> None:
    assert "the items have no 'titel'; did you mean 'title'? (have: title, kind)" in refused(
        tmp_path, "tfidf", text_fields=["titel"]
    )
    bare = {"item_file": None, "title_column": None, "item_attribute_columns": [], "value_separator": None}
    assert "neither titles nor attributes to read; set dataset.title_column" in refused(tmp_path, "tfidf", **bare)
    assert "cannot be reached; give tfidf, a folder" in refused(tmp_path, "no/such-model")
    with pytest.raises(Exception, match="item_text and item_vectors both give items their vectors"):
        read(tmp_path, "tfidf", item_vectors="x.npz")


def test_a_missing_library_is_told_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "needs sklearn, which is missing: pip install 'seqrec[text]'" in refused(tmp_path, "tfidf")


def test_texts_without_a_common_word_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match="no word stands in the texts of 2 items"):
        item_texts.tfidf_vectors(["one", "two", "three"], 8, "tfidf")


def test_a_real_model_of_sentence_transformers(tmp_path: Path) -> None:
    """Made here from scratch, so that nothing is fetched: it is loaded from its folder and gives unit vectors."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    transformers = pytest.importorskip("transformers")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "red",
        "house",
        "space",
        "war",
        "kind",
        "film",
        "old",
        "tale",
    ]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    bert = tmp_path / "bert"
    transformers.BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt")).save_pretrained(bert)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=32, **sizes)
    transformers.BertModel(config).save_pretrained(bert)
    sentence_transformers.SentenceTransformer(str(bert), device="cpu").save(str(tmp_path / "model"))
    found = vectors(read(tmp_path, str(tmp_path / "model")))
    assert found.shape == (6, 8)
    np.testing.assert_allclose(np.linalg.norm(found[1:5], axis=1), 1, rtol=1e-4)
    again = vectors(read(tmp_path, str(tmp_path / "model")))
    np.testing.assert_array_equal(found, again)
