"""Vectors of items' texts (`dataset.item_text`): made once, when a log is prepared, and kept with it.

A text is an item's title and its attributes' values. `tfidf`: TF-IDF of its words, brought to `text_width` numbers by
SVD (latent semantic analysis, Deerwester et al. 1990), of length 1. Anything else names a model of
sentence-transformers (Reimers & Gurevych 2019, arXiv 1908.10084), which stays as it is: its vectors of length 1 and,
where they have more than `text_width` numbers, their projection onto as many principal components. No event of the
log has a part in either, so an item without training events has a vector like any other.

Legend: V items (row 0 is padding), T items with a text, W width.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_cli.config.dataset import TFIDF, DatasetConfig
from seqrec_cli.config.errors import SeqrecError, first_line, nearest
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.files import write_atomically
from seqrec_cli.saying import Say

TITLE = "title"
KNOWN_MODELS = "text-models.json"  # in the data's folder: of models' folders, the hash of their files
LEAST_ITEMS = 2  # whose texts hold a word that counts
Hashes = Callable[[Sequence[Path]], Mapping[Any, str]]  # SHA-256 of files


def text_identity(cfg: DatasetConfig, data_dir: Path, hashes: Hashes) -> dict[str, Any] | None:
    """What vectors of texts are made by, for a log's fingerprint; None where there are none.

    A model's folder counts by its files' bytes. They are remembered, so that data which are prepared (and a run on
    them) need the folder no more; a name that is no folder counts as it is.
    """
    if cfg.item_text is None:
        return None
    made = {"by": cfg.item_text, "fields": list(cfg.text_fields), "width": cfg.text_width}
    if cfg.item_text == TFIDF:
        return made
    folder, notes = Path(cfg.item_text).expanduser(), data_dir / KNOWN_MODELS
    known = json.loads(notes.read_text(encoding="utf-8")) if notes.is_file() else {}
    if folder.is_dir():
        files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        of_file = hashes(files)
        text = json.dumps([[path.relative_to(folder).as_posix(), of_file[path]] for path in files])
        digest = hashlib.sha256(text.encode()).hexdigest()
        if known.get(cfg.item_text) != digest:
            data_dir.mkdir(parents=True, exist_ok=True)
            write_atomically(notes, json.dumps(known | {cfg.item_text: digest}, indent=2))
        return made | {"by": digest}
    return made | {"by": known.get(cfg.item_text, cfg.item_text)}


def with_text_vectors(log: PackedLog, cfg: DatasetConfig, items: Any, *, titles: Any, say: Say) -> PackedLog:
    """The log, vectors of its items' texts in the catalog; `items` are the raw ids in order, `titles` as a source has
    them. Says what was made. Raises SeqrecError where there are no texts, or no such model."""
    assert cfg.item_text is not None
    texts, fields = texts_of(log, cfg.text_fields, items, titles=titles)
    which_T = np.array([nth for nth, text in enumerate(texts) if text], np.int64)
    if not len(which_T):
        raise SeqrecError(f"dataset.item_text={cfg.item_text}: no item has a text ({', '.join(fields)})")
    written = [texts[nth] for nth in which_T]
    make = tfidf_vectors if cfg.item_text == TFIDF else model_vectors
    vectors_TW, how = make(written, cfg.text_width, cfg.item_text)
    known_T = vectors_TW.any(axis=1)
    vectors_VW = np.full((len(texts) + 1, vectors_TW.shape[1]), np.nan, np.float32)
    vectors_VW[which_T[known_T] + 1] = vectors_TW[known_T]
    note = (
        f"texts ({', '.join(fields)}): {int(known_T.sum()):,} of {len(texts):,} items have a vector of "
        f"{vectors_TW.shape[1]} numbers, {how}"
    )
    say(note)
    manifest = {**log.manifest, "notes": [*log.manifest.get("notes", ()), note]}
    return replace(log, catalog=replace(log.catalog, item_vectors=vectors_VW), manifest=manifest)


def texts_of(log: PackedLog, fields: Sequence[str], items: Any, *, titles: Any) -> tuple[list[str], tuple[str, ...]]:
    """Each item's text, from index 1 on, and what it is made of. Raises SeqrecError on a field that the data lack."""
    values, of_values = log.catalog.item_values, log.manifest.get("item_attribute_values", {})
    have = [*([TITLE] if titles is not None else []), *(name for name in values if name in of_values)]
    for name in fields:
        if name not in have:
            raise SeqrecError(
                f"dataset.text_fields: the items have no '{name}'{nearest(name, have)} (have: "
                f"{', '.join(have) or 'neither titles nor attributes'})"
            )
    used = tuple(fields or have)
    if not used:
        raise SeqrecError(
            "dataset.item_text: the items have neither titles nor attributes to read; set dataset.title_column or "
            "dataset.item_attribute_columns, or give dataset.item_vectors=FILE"
        )
    parts: list[list[str]] = [[] for _ in range(len(items))]
    for name in used:
        if name == TITLE:
            for part, title in zip(parts, _titles(items, titles), strict=True):
                part += [title] if title else []
            continue
        for part, codes_W in zip(parts, values[name][1:].tolist(), strict=True):
            told = [of_values[name][code - 1] for code in codes_W if code]
            part += [f"{name}: {', '.join(told)}"] if told else []
    return [". ".join(part) for part in parts], used


def _titles(items: Any, titles: Any) -> list[str]:
    if hasattr(titles, "to_pylist"):  # Arrow's, of a log that was prepared on disk
        return [text or "" for text in titles.to_pylist()]
    by_id = dict(zip(titles.ids.tolist(), titles.values, strict=True))
    return [" ".join(by_id.get(raw, ())) for raw in items.tolist()]


def tfidf_vectors(texts: Sequence[str], width: int, by: str) -> tuple[np.ndarray, str]:
    """[T, W] of length 1 (zero where no word counts), and how they were made."""
    _needs("sklearn", by)
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    words = TfidfVectorizer(
        sublinear_tf=True, strip_accents="unicode", token_pattern=r"(?u)\b\w+\b", min_df=LEAST_ITEMS
    )
    try:
        weights_TF = words.fit_transform(texts)
    except ValueError:
        raise SeqrecError(f"dataset.item_text={by}: no word stands in the texts of {LEAST_ITEMS} items") from None
    T, F = weights_TF.shape
    if width >= min(T, F):
        return weights_TF.toarray().astype(np.float32), f"TF-IDF of {F:,} words"
    svd = TruncatedSVD(width, n_iter=7, random_state=0)
    vectors_TW = normalize(svd.fit_transform(weights_TF))
    share = svd.explained_variance_ratio_.sum()
    return vectors_TW.astype(np.float32), f"TF-IDF of {F:,} words, whose SVD keeps {share:.0%} of the variance"


def model_vectors(texts: Sequence[str], width: int, by: str) -> tuple[np.ndarray, str]:
    """[T, W] by a model of sentence-transformers, and how they were made. Raises SeqrecError where it cannot be had."""
    _needs("sentence_transformers", by)
    from sentence_transformers import SentenceTransformer

    folder = Path(by).expanduser()
    try:
        model = SentenceTransformer(str(folder) if folder.is_dir() else by, device="cpu")
        encoded = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    except Exception as error:  # a folder from outside, or a hub that is not reached: a dozen kinds
        raise SeqrecError(
            f"dataset.item_text={by}: no model of sentence-transformers can be loaded: {first_line(error)}; give "
            "tfidf, a folder, or a name of its hub that can be reached"
        ) from None
    vectors_TW = np.asarray(encoded, np.float32)
    if width >= min(vectors_TW.shape):
        return vectors_TW, f"by {folder.name}"
    from sklearn.decomposition import PCA

    pca = PCA(width, svd_solver="full")
    projected_TW = pca.fit_transform(vectors_TW.astype(np.float64))
    share = pca.explained_variance_ratio_.sum()
    return projected_TW.astype(np.float32), f"by {folder.name}, whose components keep {share:.0%} of the variance"


def _needs(module: str, by: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise SeqrecError(f"dataset.item_text={by} needs {module}, which is missing: pip install 'seqrec[text]'")
