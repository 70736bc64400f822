"""What answers where the model has nothing to read: on logs whose tastes are planted, and by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.catalog import Attribute, Catalog
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import leave_last, training_counts
from seqrec_cli.data.vocabulary import write_vocabulary
from seqrec_cli.serving.attribute_values import Value
from seqrec_cli.serving.cold_start import Priors
from seqrec_cli.serving.recommending import Recommending
from tests.serving.test_recommending import CPU, WINDOW, Encoder, request

ITEMS, GENRES, GROUPS = 60, ("comedy", "crime", "drama"), ("old", "young")


def planted(folder: Path, users: int = 300, *, told: float = 0.9, seed: int = 0) -> PackedLog:
    """Items of three genres, users of two groups and of an age; a share `told` of a user's events are of the genre of
    their group (young: comedy, old: crime), the rest by popularity; drama is what is most popular."""
    rng = np.random.default_rng(seed)
    genre_V = np.arange(ITEMS) % 3
    popularity_V = np.where(genre_V == 2, 3.0, 1.0) / (1 + np.arange(ITEMS) // 3)
    group_U = rng.integers(0, 2, users)
    lengths_U = rng.integers(8, 20, users)
    histories = []
    for user in range(users):
        of_taste = popularity_V * (genre_V == 1 - group_U[user])
        weights = told * of_taste / of_taste.sum() + (1 - told) * popularity_V / popularity_V.sum()
        histories.append(rng.choice(ITEMS, lengths_U[user], p=weights) + 1)
    offsets_U1 = np.concatenate([[0], np.cumsum(lengths_U)]).astype(np.int64)
    ages_U1 = np.concatenate([[np.nan], np.where(group_U == 1, 20, 60) + rng.integers(0, 9, users)])
    catalog = Catalog(
        users,
        ITEMS,
        (Attribute("genre", 4, 1),),
        (Attribute("group", 3, 1),),
        {"genre": np.concatenate([[[0]], genre_V[:, None] + 1]).astype(np.int32)},
        {"group": np.concatenate([[[0]], group_U[:, None] + 1]).astype(np.int32)},
        user_numbers={"age": ages_U1},
    )
    texts = {"item_attribute_values": {"genre": list(GENRES)}, "user_attribute_values": {"group": list(GROUPS)}}
    log = PackedLog(
        offsets_U1,
        np.concatenate(histories).astype(np.int32),
        None,
        None,
        catalog,
        {"fingerprint": "planted", **texts},
        view=leave_last(offsets_U1),
    )
    folder.mkdir()
    log.save(folder)
    write_vocabulary(folder, "items", np.arange(100, 100 + ITEMS))
    write_vocabulary(folder, "users", np.arange(users))
    return replace(log, folder=folder)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PackedLog:
    return planted(tmp_path_factory.mktemp("planted") / "log")


@pytest.fixture(scope="module")
def recommending(log: PackedLog) -> Recommending:
    return Recommending(Encoder(log), log, name="mine", max_length=WINDOW, precision=CPU)


def ndcg(items: list[Any], wanted: set[int]) -> float:
    gains = [1 / np.log2(2 + nth) for nth, item in enumerate(items) if int(item) - 99 in wanted]
    return sum(gains) / sum(1 / np.log2(2 + nth) for nth in range(min(len(wanted), len(items))))


@pytest.mark.parametrize("what", ["attributes", "profile", "category"])
def test_evidence_beats_popularity_on_users_that_the_log_does_not_have(
    recommending: Recommending, tmp_path: Path, what: str
) -> None:
    others = planted(tmp_path / "others", 100, seed=1)
    by_evidence, by_popularity = [], []
    for row in range(others.num_users):
        group = int(others.catalog.user_values["group"][row + 1, 0])
        liked = GENRES[2 - group]
        told: dict[str, Any] = {
            "attributes": {"history": [], "attributes": {"genre": [liked]}},
            "profile": {"user": "new", "attributes": {"group": GROUPS[group - 1]}},
            "category": {"history": ["x"], "item_attributes": {"x": {"genre": liked}}},
        }[what]
        wanted = set(others.items_N[others.offsets_U1[row] : others.offsets_U1[row + 1]].tolist())
        found = recommending.answer(request(**told, top=10))
        assert found.answered_by == ("attributes" if what == "profile" else what)
        by_evidence.append(ndcg(found.items, wanted))
        by_popularity.append(ndcg(recommending.answer(request(history=[], top=10)).items, wanted))
    gain = np.array(by_evidence) - np.array(by_popularity)
    assert gain.mean() > 0.2
    assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5


def test_the_best_evidence_answers_and_is_named(recommending: Recommending) -> None:
    young, told = {"genre": "comedy"}, {"x": {"genre": "crime"}}
    for asked, by in (
        ({"user": 3, "attributes": young}, "model"),
        ({"history": [100, "x"], "attributes": young, "item_attributes": told}, "model"),
        ({"user": 3, "history": [], "attributes": young, "item_attributes": told}, "attributes"),
        ({"attributes": young}, "attributes"),
        ({"user": 3, "history": ["x"], "item_attributes": told}, "profile"),
        ({"user": 3, "history": []}, "profile"),
        ({"user": "nobody", "history": ["x"], "item_attributes": told}, "category"),
        ({"history": ["y"], "item_attributes": told}, "popularity"),
        ({"user": "nobody"}, "popularity"),
        ({"history": [], "attributes": {}}, "popularity"),
    ):
        found = recommending.answer(request(**asked))
        assert found.answered_by == by, asked
        assert found.scores == sorted(found.scores, reverse=True)
        assert len(set(found.items)) == 5
    user = next(u for u in range(300) if recommending.log.catalog.user_values["group"][u + 1, 0] == 2)
    profile = recommending.answer(request(user=user, history=[]))
    assert all((int(item) - 100) % 3 == 0 for item in profile.items)  # young: comedy


def test_scores_are_those_of_the_formula(recommending: Recommending, log: PackedLog) -> None:
    priors, counts_V = recommending.priors, training_counts(log).astype(float)
    p_V = counts_V + 1 / ITEMS
    p_V[0] = 0
    p_V /= p_V.sum()
    genre_V, group_U = log.catalog.item_values["genre"][:, 0], log.catalog.user_values["group"][1:, 0]
    shares = np.array([counts_V[genre_V == genre].sum() for genre in range(4)]) / counts_V.sum()
    of_young_V, of_fans_V, had_V = np.zeros((3, ITEMS + 1))
    for row in range(log.num_users):
        events = log.items_N[log.offsets_U1[row] : log.offsets_U1[row + 1] - 2]  # the rest is held out
        own_V = np.bincount(events, minlength=ITEMS + 1)
        own_shares = np.array([own_V[genre_V == genre].sum() for genre in range(4)]) / len(events)
        of_young_V += own_V * (group_U[row] == 2)
        of_fans_V += own_V * ((own_shares - shares)[1:].argmax() == 0)
        had_V += own_V * own_shares[1]
    lifts = priors._lifts("genre")
    g = (lifts[0, 1] * shares[1]) / (1 - lifts[0, 1])  # of lifts[0] = g / (share + g)
    content_V = (np.where(genre_V == 1, counts_V / counts_V.sum(), 0) + g * p_V) / (shares[1] + g)
    assert content_V.sum() == pytest.approx(1)

    def log_given(counts: np.ndarray, prior_V: np.ndarray, mu: float) -> np.ndarray:
        given_V = (counts + mu * prior_V) / (counts.sum() + mu)
        return np.log(given_V[1:] / p_V[1:])

    of_genre, of_group = priors.strength("item", "genre"), priors.strength("user", "group")
    comedy = log_given(of_fans_V, content_V, of_genre)
    young = log_given(of_young_V, p_V, of_group)
    had = log_given(had_V, p_V, of_genre)
    for asked, lift_V in (
        ({"attributes": {"genre": ["comedy"], "group": "young"}}, comedy + young),
        ({"item_attributes": {"x": {"genre": "comedy"}}}, had),
    ):
        found = recommending.answer(request(history=["x"], **asked, top=ITEMS))
        scores = dict(zip(found.items, found.scores, strict=True))
        expected = np.log(p_V[1:]) + lift_V
        assert [scores[100 + v] for v in range(ITEMS)] == pytest.approx(expected.tolist(), rel=2e-3)


def test_values_of_one_attribute_are_averaged(recommending: Recommending) -> None:
    priors = recommending.priors
    popular_V = np.log(priors._popularity_V)
    comedy_V, crime_V = (priors.scores([Value("item", "genre", code)]) - popular_V for code in (1, 2))
    both_V = priors.scores([Value("item", "genre", 1), Value("item", "genre", 2)]) - popular_V
    assert both_V[1:] == pytest.approx(((comedy_V + crime_V) / 2)[1:], abs=1e-4)


def test_an_attribute_that_says_nothing_moves_little(log: PackedLog, tmp_path: Path) -> None:
    mute = planted(tmp_path / "mute", told=0.0)
    for side, name in (("item", "genre"), ("user", "group"), ("user", "age")):
        assert Priors(mute).strength(side, name) > 20 * Priors(log).strength(side, name)  # type: ignore[arg-type]


def test_a_number_is_read_as_its_group(recommending: Recommending) -> None:
    for age, genre in ((22, 0), ("64", 1)):
        found = recommending.answer(request(history=[], attributes={"age": age}, top=5))
        assert [(int(item) - 100) % 3 for item in found.items] == [genre] * 5
    assert recommending.answer(request(history=[], attributes={"age": "NA"})).answered_by == "popularity"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            {"attributes": {"genres": "comedy"}},
            "attributes.genres: the data have no such attribute; did you mean 'genre'",
        ),
        ({"attributes": {"genre": "comdy"}}, "attributes.genre=comdy: no such value; did you mean 'comedy'"),
        ({"attributes": {"user.genre": "comedy"}}, "attributes.user.genre: the data's users have no such attribute"),
        ({"attributes": {"age": "young"}}, "attributes.age: 'young' is no number"),
        ({"attributes": {"age": [1, 2]}}, "attributes.age: a number is one value, 2 are given"),
        (
            {"item_attributes": {"x": {"group": "old"}}},
            "item_attributes.x.group: the data's items have no such attribute",
        ),
        ({"item_attributes": {"x": {"genre": ["no"]}}}, "item_attributes.x.genre=no: no such value"),
    ],
)
def test_what_the_data_do_not_know_is_refused(recommending: Recommending, asked: dict[str, Any], says: str) -> None:
    with pytest.raises(SeqrecError) as refused:
        recommending.answer(request(history=[100], **asked))  # also where the model answers
    assert says in str(refused.value)


def test_a_name_of_both_sides_is_told_apart(log: PackedLog) -> None:
    values = {"genre": log.catalog.user_values["group"]}
    catalog = replace(log.catalog, user_attributes=(Attribute("genre", 3, 1),), user_values=values)
    texts = log.manifest | {"user_attribute_values": {"genre": list(GROUPS)}}
    priors = Priors(replace(log, catalog=catalog, manifest=texts))
    with pytest.raises(SeqrecError, match=r"items and users have it; say item\.genre or user\.genre"):
        priors.read({"genre": "comedy"})
    assert priors.read({"user.genre": "old", "item.genre": ["crime"]}) == [
        Value("user", "genre", 1),
        Value("item", "genre", 2),
    ]


def test_what_is_never_recommended_is_left_out(log: PackedLog) -> None:
    left_out = np.array([1, 4, 7])
    some = Recommending(Encoder(log), log, name="mine", max_length=WINDOW, precision=CPU, left_out=left_out)
    for asked in ({}, {"attributes": {"genre": "comedy"}}):
        found = some.answer(request(history=[], top=100, **asked))
        assert len(found.items) == ITEMS - 3
        assert not {100, 103, 106} & set(found.items)


def test_the_service_takes_and_refuses_attributes(recommending: Recommending) -> None:
    pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
    pytest.importorskip("prometheus_client", reason="the development extras bring it")
    from tests.serving.served import Served

    served = Served(recommending)
    asked = {"user_history": ["x"], "attributes": {"genre": ["comedy", "crime"], "age": 23.5}}
    ((status, answer),) = served.post("/recommend", {**asked, "top_k": 3})
    alone = recommending.answer(request(history=["x"], attributes=asked["attributes"], top=3))
    assert (status, answer["answered_by"]) == (200, "attributes")
    assert [each["item_id"] for each in answer["recommendations"]] == alone.items
    assert [each["score"] for each in answer["recommendations"]] == pytest.approx(alone.scores)
    scored = {"user_history": ["x"], "item_attributes": {"x": {"genre": "crime"}}, "candidates": [100, 101]}
    ((status, answer),) = served.post("/score", scored)
    assert (status, answer["answered_by"]) == (200, "category")
    comedy, crime = (each["score"] for each in answer["scores"])
    assert crime > comedy
    for body, says in (
        ({"attributes": {"genre": "x"}}, "attributes.genre=x: no such value"),
        ({"attributes": {"genre": None}}, "attributes.genre"),
        ({"attributes": {"genre": ["comedy"] * 101}}, "attributes.genre"),
        ({"attributes": {str(n): 1 for n in range(101)}}, "attributes: 101 are given, at most 100"),
        ({"item_attributes": {str(n): {} for n in range(101)}}, "item_attributes: 101 are given, at most 100"),
    ):
        ((status, said),) = served.post("/recommend", {"user_history": [], **body})
        assert (status, says in said["detail"]) == (422, True), said
    assert 'seqrec_answers_total{answered_by="category"} 1.0' in served.get("/metrics")[1]
    served.batcher.close()
