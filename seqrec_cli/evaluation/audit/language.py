"""Item sequences beside natural language: how random, how repetitive and how sparse they are, at the same length.

Models of item sequences were taken over from models of language, whose tokens are few, frequent and follow each other
by rules. How far a log is from that is counted here on equal numbers of tokens, as every one of these numbers grows or
shrinks with the size of a corpus: training events of users drawn at random; the help texts of Python's standard library
(`pydoc_data.topics`, documents of a paragraph); the items' titles, where the catalog has them.

Perplexity is of held-out documents by interpolated Kneser-Ney (Ney, Essen & Kneser 1994; Chen & Goodman 1999,
equations 23 to 25, one discount a length, n1 / (n1 + 2 n2)), whose shortest distribution is mixed with the uniform one
over all types, so that nothing has probability 0. Shuffled is the same with the tokens of every document in random
order: what is lost by it is what the order tells.

Legend: N tokens, V types, G distinct n-grams.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from seqrec_cli.data.interactions import ragged_ranges
from seqrec_cli.data.vocabulary import titles
from seqrec_cli.evaluation.audit.distributions import zipf_exponent
from seqrec_cli.evaluation.audit.finding import Finding, percent
from seqrec_cli.evaluation.audit.subject import Subject

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
HELD_OUT = 0.1  # of the documents
NEAR = 100  # a token is a repetition if the document had it among so many tokens before
LEAST = 1000  # tokens: of fewer nothing is said
MORE_RANDOM = 2.0  # times the choices that language leaves after two tokens


@dataclass(frozen=True)
class Corpus:
    """Documents laid end to end."""

    tokens_N: np.ndarray  # int64, 1 .. types
    documents_N: np.ndarray  # int64, ascending: the document of each token

    @property
    def types(self) -> int:
        return int(self.tokens_N.max(initial=0))

    def first(self, tokens: int) -> "Corpus":
        """Of the first so many tokens, types numbered anew."""
        kept_N, documents_N = self.tokens_N[:tokens], self.documents_N[:tokens]
        return Corpus(np.unique(kept_N, return_inverse=True)[1] + 1, documents_N)


@dataclass(frozen=True)
class Language:
    """What is counted of a corpus; perplexities in equally likely types."""

    tokens: int
    types: int
    tokens_a_type: float
    seen_once: float  # share of the types
    zipf_exponent: float | None
    entropy_bits: float  # of a token's own distribution
    perplexity_1: float
    perplexity_2: float
    perplexity_3: float
    shuffled_3: float
    bits_of_order: float  # log2(shuffled_3 / perplexity_3)
    repeated: float  # share of the tokens that the same document had shortly before
    pairs_a_token: float  # distinct pairs of neighbours
    known_pairs: float  # share of the held-out pairs that training has


def language(subject: Subject, *, tokens: int, seed: int) -> Finding:
    """The finding of this file: a row of `Language` a corpus in its numbers."""
    question = "beside natural language"
    events = users_as_documents(subject, tokens=tokens, seed=seed)
    if len(events.tokens_N) < LEAST:
        return Finding("language", question, "unknown", f"fewer than {LEAST:,} training events")
    corpora = {"events": events, "help texts": texts_as_documents(help_texts(), tokens=tokens, seed=seed)}
    shared = min(len(corpus.tokens_N) for corpus in corpora.values())
    folder = subject.log.folder
    if folder is not None and (named := titles(folder)) is not None:
        words = texts_as_documents((title or "" for title in named), tokens=tokens, seed=seed)
        corpora |= {"titles": words} if len(words.tokens_N) >= LEAST else {}
    found = {name: counted(corpus.first(shared), seed=seed) for name, corpus in corpora.items()}
    log, text = found["events"], found["help texts"]
    numbers: dict[str, Any] = {name.replace(" ", "_"): asdict(each) for name, each in found.items()}
    answer = (
        f"of {shared:,} tokens: after two of them one of {log.perplexity_3:,.0f} equally likely items, one of "
        f"{text.perplexity_3:,.0f} words; the order tells {log.bits_of_order:.2f} bits an item, "
        f"{text.bits_of_order:.2f} a word; {percent(log.known_pairs)} of held-out pairs are known, "
        f"{percent(text.known_pairs)} of words; {percent(log.repeated)} repeat, {percent(text.repeated)} of words"
    )
    random = log.perplexity_3 > MORE_RANDOM * text.perplexity_3
    advice = "what is known of language models' scaling need not hold here: measure it" if random else ""
    return Finding("language", question, "look" if random else "ok", answer, advice, numbers)


def users_as_documents(subject: Subject, *, tokens: int, seed: int) -> Corpus:
    """Training events of users drawn at random, until there are so many."""
    starts_U = np.asarray(subject.log.offsets_U1)[:-1]
    lengths_U = np.asarray(subject.train_U) - starts_U
    drawn_U = np.random.default_rng([seed, 4]).permutation(len(starts_U))
    drawn_U = drawn_U[: int(np.searchsorted(np.cumsum(lengths_U[drawn_U]), tokens)) + 1]
    positions_N = ragged_ranges(starts_U[drawn_U], lengths_U[drawn_U])[:tokens]
    documents_N = np.repeat(np.arange(len(drawn_U)), lengths_U[drawn_U])
    return Corpus(np.asarray(subject.log.items_N[positions_N], np.int64), documents_N).first(tokens)


def texts_as_documents(texts: Iterable[str], *, tokens: int, seed: int) -> Corpus:
    """Words in small letters, of texts in random order, until there are so many."""
    documents = [words for text in texts if (words := WORD.findall(text.lower()))]
    order = np.random.default_rng([seed, 5]).permutation(len(documents))
    numbers: dict[str, int] = {}
    pieces, count = [], 0
    for nth in order.tolist():
        pieces.append(np.array([numbers.setdefault(word, len(numbers) + 1) for word in documents[nth]], np.int64))
        count += len(pieces[-1])
        if count >= tokens:
            break
    return _corpus(pieces).first(tokens)


def help_texts() -> list[str]:
    """Paragraphs of the help of Python's standard library: some 66,000 words of English, wherever Python is."""
    from pydoc_data.topics import topics  # half a megabyte of text

    return [paragraph for text in topics.values() for paragraph in text.split("\n\n")]


def _corpus(pieces: list[np.ndarray]) -> Corpus:
    if not pieces:
        return Corpus(np.zeros(0, np.int64), np.zeros(0, np.int64))
    return Corpus(
        np.concatenate(pieces).astype(np.int64), np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
    )


def counted(corpus: Corpus, *, seed: int) -> Language:
    """Everything of a corpus whose types are 1 .. V, each of which occurs."""
    counts_V = np.bincount(corpus.tokens_N)[1:]
    shares_V = counts_V / counts_V.sum()
    held_N = _held_out(corpus, seed)
    orders = {n: perplexity(corpus, held_N, n) for n in (1, 2, 3)}
    shuffled = perplexity(_shuffled(corpus, seed), held_N, 3)
    pairs_N, has_N = _grams(corpus, 2)
    known, asked = np.unique(pairs_N[has_N & ~held_N]), pairs_N[has_N & held_N]
    return Language(
        tokens=len(corpus.tokens_N),
        types=corpus.types,
        tokens_a_type=len(corpus.tokens_N) / corpus.types,
        seen_once=float((counts_V == 1).mean()),
        zipf_exponent=zipf_exponent(counts_V),
        entropy_bits=float(-(shares_V * np.log2(shares_V)).sum()),
        perplexity_1=orders[1],
        perplexity_2=orders[2],
        perplexity_3=orders[3],
        shuffled_3=shuffled,
        bits_of_order=math.log2(shuffled / orders[3]),
        repeated=repeated(corpus),
        pairs_a_token=len(np.unique(pairs_N[has_N])) / max(int(has_N.sum()), 1),
        known_pairs=float(np.isin(asked, known).mean()) if len(asked) else 0.0,
    )


def repeated(corpus: Corpus) -> float:
    """The share of tokens that occurred among the `NEAR` tokens before, in the same document."""
    order_N = np.lexsort((np.arange(len(corpus.tokens_N)), corpus.tokens_N, corpus.documents_N))
    same_N = (np.diff(corpus.tokens_N[order_N]) == 0) & (np.diff(corpus.documents_N[order_N]) == 0)
    return float((same_N & (np.diff(order_N) <= NEAR)).sum() / max(len(order_N), 1))


def perplexity(corpus: Corpus, held_N: np.ndarray, n: int) -> float:
    """Of the held-out tokens by an interpolated Kneser-Ney model of n-grams, counted on the others."""
    base = corpus.types + 1  # 0 stands before a document's first token
    likely_N = np.full(int(held_N.sum()), 1 / corpus.types)
    for length in range(1, n + 1):
        keys_N, _ = _grams(corpus, length)
        trained, counts_G = np.unique(keys_N[~held_N], return_counts=True)
        if length < n:  # in how many contexts, instead of how often: the continuation counts of equation 23
            longer, _ = _grams(corpus, length + 1)
            ends = np.unique(longer[~held_N]) % base**length
            trained, counts_G = np.unique(ends, return_counts=True)
        likely_N = _interpolated(trained, counts_G, keys_N[held_N], base=base, shorter_N=likely_N)
    return float(np.exp(-np.log(likely_N).mean()))


def _interpolated(
    keys_G: np.ndarray, counts_G: np.ndarray, asked_N: np.ndarray, *, base: int, shorter_N: np.ndarray
) -> np.ndarray:
    """max(c - D, 0) / c(context) + D * types(context) / c(context) * the shorter one's probability."""
    once, twice = int((counts_G == 1).sum()), int((counts_G == 2).sum())
    discount = once / (once + 2 * twice) if once else 0.5
    contexts, inverse = np.unique(keys_G // base, return_inverse=True)
    totals_C, kinds_C = np.bincount(inverse, counts_G), np.bincount(inverse)
    place_N = np.minimum(np.searchsorted(contexts, asked_N // base), len(contexts) - 1)
    known_N = contexts[place_N] == asked_N // base
    gram_N = np.minimum(np.searchsorted(keys_G, asked_N), len(keys_G) - 1)
    own_N = np.where(keys_G[gram_N] == asked_N, np.maximum(counts_G[gram_N] - discount, 0), 0.0)
    mixed_N = (own_N + discount * kinds_C[place_N] * shorter_N) / totals_C[place_N]
    return np.where(known_N, mixed_N, shorter_N)


def _grams(corpus: Corpus, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Each token and the n - 1 before it as one number, and whether all of them are in the document; 0 fills up."""
    base = corpus.types + 1
    if base**n >= 2**63:
        raise OverflowError(f"{corpus.types:,} types are too many for {n}-grams")
    keys_N = np.zeros(len(corpus.tokens_N), np.int64)
    whole_N = np.ones(len(keys_N), bool)
    for back in range(n - 1, -1, -1):
        here_N, same_N = np.zeros_like(keys_N), np.zeros(len(keys_N), bool)
        stop = len(keys_N) - back
        same_N[back:] = corpus.documents_N[back:] == corpus.documents_N[: max(stop, 0)]
        here_N[back:] = np.where(same_N[back:], corpus.tokens_N[: max(stop, 0)], 0)
        keys_N, whole_N = keys_N * base + here_N, whole_N & same_N
    return keys_N, whole_N


def _held_out(corpus: Corpus, seed: int) -> np.ndarray:
    """Which tokens are in documents that are asked."""
    documents = int(corpus.documents_N[-1]) + 1
    if documents == 1:
        return np.arange(len(corpus.tokens_N)) >= (1 - HELD_OUT) * len(corpus.tokens_N)
    held_D = np.zeros(documents, bool)
    held_D[np.random.default_rng([seed, 6]).permutation(documents)[: max(1, round(HELD_OUT * documents))]] = True
    return held_D[corpus.documents_N]


def _shuffled(corpus: Corpus, seed: int) -> Corpus:
    order_N = np.lexsort((np.random.default_rng([seed, 7]).random(len(corpus.tokens_N)), corpus.documents_N))
    return Corpus(corpus.tokens_N[order_N], corpus.documents_N)
