"""Item sequences beside natural language, on corpora whose numbers are known or worked out by hand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toylog import packed

import seqrec_cli
from seqrec_cli.evaluation.audit.language import Corpus, counted, help_texts, language, perplexity, repeated
from seqrec_cli.evaluation.audit.language import texts_as_documents as from_texts
from seqrec_cli.evaluation.audit.subject import Subject


def corpus(*documents: list[int]) -> Corpus:
    return Corpus(
        np.concatenate([np.array(each, np.int64) for each in documents]),
        np.repeat(np.arange(len(documents)), [len(each) for each in documents]),
    )


def held(of: Corpus, document: int) -> np.ndarray:
    return np.asarray(of.documents_N == document)


def test_kneser_ney_by_hand() -> None:
    """Trained on 1 2 3 and 1 2 2, asked 1 2: counts by hand, 0 before a document's first token."""
    of = corpus([1, 2, 3], [1, 2, 2], [1, 2])
    asked = held(of, 2)
    # Alone: 1 twice, 2 three times, 3 once; n1 = 1, n2 = 1, so D = 1/3; three types of six tokens give 1/6 to chance.
    alone = [(2 - 1 / 3) / 6 + 1 / 6 / 3, (3 - 1 / 3) / 6 + 1 / 6 / 3]
    assert perplexity(of, asked, 1) == pytest.approx(math.exp(-np.log(alone).mean()))
    # Pairs 01 x2, 12 x2, 23, 22. Continuations: 1 after {0}, 2 after {1, 2}, 3 after {2}; n1 = 2, n2 = 1, D = 1/2.
    mixed = 0.5 * 3 / 4 / 3
    one, two = 0.5 / 4 + mixed, 1.5 / 4 + mixed
    # n1 = 2, n2 = 2: D = 1/3. After 0: 1 twice, one kind; after 1: 2 twice, one kind.
    discount = 2 / 6
    pairs = [(2 - discount) / 2 + discount / 2 * one, (2 - discount) / 2 + discount / 2 * two]
    assert perplexity(of, asked, 2) == pytest.approx(math.exp(-np.log(pairs).mean()))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("before", [[], [1], [2, 1], [9, 9]])
def test_probabilities_of_all_tokens_sum_to_one(n: int, before: list[int]) -> None:
    rng = np.random.default_rng(0)
    trained = [rng.integers(1, 9, 12).tolist() for _ in range(20)]
    total = 0.0
    for token in range(1, 10):  # 9 is never trained
        of = corpus(*trained, [*before, token])
        of = replace(of, tokens_N=np.append(of.tokens_N, 9), documents_N=np.append(of.documents_N, 99))  # V = 9
        asked = np.zeros(len(of.tokens_N), bool)
        asked[-2] = True  # the token
        untrained = held(of, 20) | held(of, 99)
        total += 1 / _perplexity_of(of, untrained, asked, n)
    assert total == pytest.approx(1)


def _perplexity_of(of: Corpus, untrained: np.ndarray, asked: np.ndarray, n: int) -> float:
    """Of one token, from the product over all that are not trained on: with it and without it."""
    every = perplexity(of, untrained, n) ** int(untrained.sum())
    others = replace(of, tokens_N=of.tokens_N[~asked], documents_N=of.documents_N[~asked])
    left = untrained[~asked]
    return every / (perplexity(others, left, n) ** int(left.sum()) if left.any() else 1)


def test_a_cycle_is_all_order_and_draws_have_none() -> None:
    rng = np.random.default_rng(0)
    cycle = [[(start + nth) % 50 + 1 for nth in range(40)] for start in rng.integers(0, 50, 100).tolist()]
    ordered = counted(corpus(*cycle), seed=0)
    assert ordered.perplexity_2 < 1.5
    assert ordered.perplexity_1 == pytest.approx(50, rel=0.05)
    assert ordered.entropy_bits == pytest.approx(math.log2(50), abs=0.02)
    assert ordered.bits_of_order > 3
    assert ordered.known_pairs == 1
    drawn = counted(corpus(*rng.integers(1, 51, (100, 40)).tolist()), seed=0)
    assert abs(drawn.bits_of_order) < 0.3
    assert drawn.perplexity_3 > 40
    assert drawn.pairs_a_token > 5 * ordered.pairs_a_token


def test_repetitions_are_of_one_document_and_near() -> None:
    assert repeated(corpus([1, 2, 1], [1, 2])) == pytest.approx(1 / 5)
    far = [1, *range(2, 102), 1]  # 101 tokens apart
    near = [1, *range(2, 101), 1]  # 100 apart
    assert repeated(corpus(far)) == 0
    assert repeated(corpus(near)) == pytest.approx(1 / len(near))


def test_words_are_small_letters_and_numbered() -> None:
    of = from_texts(["The cat, the CAT's hat", "..."], tokens=100, seed=0)
    assert of.tokens_N.tolist() == [1, 2, 1, 3, 4]
    assert of.documents_N.tolist() == [0] * 5


def test_english_is_ordered() -> None:
    found = counted(from_texts(help_texts(), tokens=20_000, seed=0), seed=0)
    assert found.tokens == 20_000
    assert found.perplexity_3 < found.perplexity_2 < found.perplexity_1 < found.types
    assert found.bits_of_order > 1
    assert 0.8 < (found.zipf_exponent or 0) < 1.2


def test_only_training_events_are_read_and_as_many_of_both(tmp_path: Path) -> None:
    """Held-out events are items that training never has: none of them may be counted."""
    rng = np.random.default_rng(0)
    histories = [[*rng.integers(1, 31, 20).tolist(), 31, 32] for _ in range(150)]
    log = packed(histories, 32)
    pq.write_table(pa.table({"title": [f"word{nth} of many words" for nth in range(400)]}), tmp_path / "items.parquet")
    found = language(Subject(replace(log, folder=tmp_path), "test"), tokens=2_500, seed=0)
    assert found.verdict == "ok"  # so few items leave fewer choices than English
    assert found.numbers["events"]["types"] == 30
    assert found.numbers["events"]["tokens"] == found.numbers["help_texts"]["tokens"] == 2_500
    assert found.numbers["titles"]["tokens"] == 1_600
    assert "titles" not in language(Subject(log, "test"), tokens=2_500, seed=0).numbers
    many = packed(rng.integers(1, 2_001, (150, 22)).tolist(), 2_000)
    assert language(Subject(many, "test"), tokens=2_500, seed=0).verdict == "look"
    assert language(Subject(packed(histories[:10], 32), "test"), tokens=2_500, seed=0).verdict == "unknown"


def test_the_verb_prints_a_column_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset=synthetic", "dataset.users=150", "dataset.items=40", f"data_dir={tmp_path}", "repetitions=1"]
    found = seqrec_cli.run("audit", [*words, "tokens=1000"])
    printed = capsys.readouterr().out
    assert found["findings"]["language"]["numbers"]["events"]["tokens"] == 1000
    assert "help texts" in printed
    assert "bits of the order" in printed
    assert "language" not in seqrec_cli.run("audit", [*words, "tokens=null"])["findings"]
