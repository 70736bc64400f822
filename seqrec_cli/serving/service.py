"""The recommend service: a trained model behind HTTP, as JSON (FastAPI)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel
from pydantic_core import to_json

from seqrec_cli import __version__
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.histories import Histories
from seqrec_cli.serving import bodies
from seqrec_cli.serving.alike import ItemVectors
from seqrec_cli.serving.attribution.methods import events_read
from seqrec_cli.serving.batching import Batcher
from seqrec_cli.serving.bodies import Body, Most, NotUnderstoodError, printable, read
from seqrec_cli.serving.catalogue import Catalogue
from seqrec_cli.serving.cold_start import AnsweredBy
from seqrec_cli.serving.item_filters import filters_of, hidden_items
from seqrec_cli.serving.item_index import ItemIndex
from seqrec_cli.serving.item_routes import add_item_routes
from seqrec_cli.serving.leaving_out import contributions
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import RawId, Recommended
from seqrec_cli.serving.requests import Request as Asked
from seqrec_cli.serving.scoring import Scoring
from seqrec_cli.serving.telemetry import Meters

DESCRIPTION = "Recommendations from a trained model. What is refused has a line that says why, as `detail`."
JSON = "application/json"
REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": bodies.Complaint, "description": "The service has a token, and this is not it."},
    408: {"model": bodies.Complaint, "description": "The body did not arrive in time."},
    413: {"model": bodies.Complaint, "description": "The body is too large."},
    422: {"model": bodies.Complaint, "description": "The request is not understood."},
    503: {"model": bodies.Complaint, "description": "Too much waits already; ask again after Retry-After seconds."},
}


@dataclass(frozen=True)
class Loaded:
    """A trained model and what /health says of it; a newer one takes its place as a whole."""

    scoring: Scoring
    vectors: ItemVectors | None  # of a model that makes them
    facts: Mapping[str, Any]
    catalogue: Catalogue
    items: ItemIndex | None = None  # where items may change

    def recommending(self) -> Recommending:
        """With the items as they are now."""
        return self.scoring.recommending if self.items is None else self.items.now()


class Beside:
    """A second trained model, which answers who asks for run B."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded


class UnavailableError(Exception):
    """What cannot be done now, in a line: status 503."""


class Answering:
    """Answers the service's questions with the model that is loaded at the moment."""

    def __init__(
        self,
        loaded: Loaded,
        batcher: Batcher,
        *,
        top: int,
        most: Most,
        meters: Meters,
        beside: Beside | None = None,
    ) -> None:
        self.loaded, self._batcher, self._top, self.most, self._meters = loaded, batcher, top, most, meters
        self._beside = beside

    def runs(self) -> dict[str, Loaded]:
        """What answers at the moment, by the name that a request's `run` takes; the first where it names none."""
        return {"A": self.loaded} if self._beside is None else {"A": self.loaded, "B": self._beside.loaded}

    def run(self, name: str | None) -> Loaded:
        """One of these. Raises SeqrecError for a name that none has."""
        runs = self.runs()
        if name is not None and name not in runs:
            raise SeqrecError(f"run={name}: no such run (have: {', '.join(runs)})")
        return self.loaded if name is None else runs[name]

    def health(self) -> dict[str, Any]:
        """What GET /health answers."""
        return {"status": "ok", **self.loaded.facts, **self.counts()}

    async def recommend(self, body: bytes) -> dict[str, Any]:
        """What POST /recommend answers."""
        said = read(bodies.AskedToRecommend, body, self.most)
        loaded = self.run(said.run)
        recommending = loaded.recommending()
        top = self._top if said.top_k is None else said.top_k
        request = _asked(said, top=top, repeats=said.repeats)
        hidden_V1, unknown_listed = hidden_items(recommending, filters_of(said.allow, said.deny, said.where))
        asked, unknown = recommending.known(request)
        by: AnsweredBy = "model"
        if asked is None:
            by, scores_V = recommending.cold(request)
            items_K, scores_K = recommending.best_of(scores_V, top, hidden_V1)
        else:
            question = loaded.scoring.question(recommending, request, asked, top=top, hidden_V1=hidden_V1)
            items_K, scores_K = await self._batcher.answer(loaded.scoring, question)
        told = recommending.told(request, asked, unknown, items_K=items_K, scores_K=scores_K, by=by)
        listed = {} if said.allow is None and said.deny is None else {"unknown_listed": unknown_listed}
        return {"recommendations": _items(told.items, told.titles, told.scores), **self._facts(loaded, told), **listed}

    async def score(self, body: bytes) -> dict[str, Any]:
        """What POST /score answers."""
        said = read(bodies.AskedToScore, body, self.most)
        loaded = self.run(said.run)
        recommending = loaded.recommending()
        request = _asked(said, top=0, repeats=True)
        asked, unknown = recommending.known(request)
        items_C, unknown_candidates = recommending.known_indices(said.candidates)
        by: AnsweredBy = "model"
        if asked is None:
            by, scores_V = recommending.cold(request)
            scores_C = scores_V[items_C]
        elif len(items_C):
            question = loaded.scoring.question(recommending, request, asked, candidates_C=items_C)
            items_C, scores_C = await self._batcher.answer(loaded.scoring, question)
        else:
            scores_C = np.empty(0, np.float32)
        told = recommending.told(request, asked, unknown, items_K=items_C, scores_K=scores_C, by=by)
        return {
            "scores": _items(told.items, told.titles, told.scores),
            "unknown_candidates": unknown_candidates,
            **self._facts(loaded, told),
        }

    async def similar(self, body: bytes) -> dict[str, Any]:
        """What POST /similar answers."""
        said = read(bodies.AskedForSimilar, body, self.most)
        loaded = self.run(said.run)
        if loaded.vectors is None:
            raise SeqrecError(f"model={loaded.facts['model']} makes no item vectors; take an encoder (sasrec)")
        recommending = loaded.recommending()
        (item,) = recommending.indices([said.item]).tolist()
        question = loaded.vectors.question(recommending, item, self._top if said.top_k is None else said.top_k)
        items_K, cosines_K = await self._batcher.answer(loaded.vectors, question)
        named = recommending.named(items_K)
        return {"similar": _items(*named, cosines_K.tolist()), "model_version": str(loaded.facts["model_version"])}

    def counts(self) -> dict[str, int | str]:
        """How many items have changed."""
        return {} if self.loaded.items is None else self.loaded.items.counts()

    async def explain(self, body: bytes) -> dict[str, Any]:
        """What POST /explain answers."""
        said = read(bodies.AskedToExplain, body, self.most)
        if not self.most.left_out:
            raise SeqrecError("this service explains nothing (most_left_out=0)")
        loaded = self.run(said.run)
        recommending = loaded.recommending()
        request = _asked(said, top=0, repeats=True)
        asked, unknown = recommending.known(request)
        items_C, unknown_candidates = recommending.known_indices(said.candidates)
        by: AnsweredBy = "model"
        scores_C, events = np.empty(0, np.float32), [list[dict[str, Any]]() for _ in items_C]
        if asked is None:
            by, scores_V = recommending.cold(request)
            scores_C = scores_V[items_C]
        elif len(items_C):
            shortened = replace(request, history=())  # what lacks an event is nobody's log

            # One question a history: they are scored together, and others' between them, who wait no longer for it.
            async def score(history: Histories) -> np.ndarray:
                question = loaded.scoring.question(recommending, shortened, history, candidates_C=items_C)
                return (await self._batcher.answer(loaded.scoring, replace(question, exact=True)))[1]

            found = await contributions(asked, score, read=events_read(recommending), most=self.most.left_out)
            scores_C, events = found.scores_C, found.by_item(recommending, request.history)
        told = recommending.told(request, asked, unknown, items_K=items_C, scores_K=scores_C, by=by)
        items = _items(told.items, told.titles, told.scores)
        return {
            "explained": [{**item, "events": each} for item, each in zip(items, events, strict=True)],
            "unknown_candidates": unknown_candidates,
            **self._facts(loaded, told),
        }

    def _facts(self, loaded: Loaded, told: Recommended) -> dict[str, Any]:
        self._meters.answered(told.answered_by)
        return {
            "model_version": str(loaded.facts["model_version"]),
            "num_input_items": told.events_read,
            "unknown_items": told.unknown_items,
            "known_user": told.known_user,
            "answered_by": told.answered_by,
        }


def build_service(
    answering: Answering, meters: Meters, feedback: Callable[[bytes], Awaitable[dict[str, Any]]] | None = None
) -> FastAPI:
    """Its routes; a request that cannot be answered gets status 422 and one line that says why. `feedback` answers
    POST /feedback, where it is taken."""
    service = FastAPI(title="seqrec", description=DESCRIPTION, version=__version__)

    @service.get("/health")
    async def health() -> dict[str, Any]:
        """Whether the service answers, and with what."""
        return answering.health()

    @service.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        content, kind = meters.page()
        return Response(content, media_type=kind)

    _post(service, "/recommend", answering.recommend, asked=bodies.AskedToRecommend, answered=bodies.Recommendations)
    _post(service, "/score", answering.score, asked=bodies.AskedToScore, answered=bodies.Scores)
    _post(service, "/similar", answering.similar, asked=bodies.AskedForSimilar, answered=bodies.Similar)
    _post(service, "/explain", answering.explain, asked=bodies.AskedToExplain, answered=bodies.Explanations)
    add_item_routes(service, lambda: answering.loaded.items, answering.most, refusals=REFUSALS)
    if feedback is not None:
        _post(service, "/feedback", feedback, asked=bodies.AskedToRecord, answered=bodies.Recorded)
    return service


def _post(
    service: FastAPI,
    path: str,
    answer: Callable[[bytes], Awaitable[dict[str, Any]]],
    *,
    asked: type[Body],
    answered: type[BaseModel],
) -> None:
    """A route that reads and writes its JSON itself, for FastAPI takes longer over both than a model over its answer;
    the schema tells of it all the same."""

    async def route(request: Request) -> Response:
        try:
            found = await answer(await request.body())
        except (SeqrecError, NotUnderstoodError) as error:
            return Response(to_json({"detail": printable(str(error))}), 422, media_type=JSON)
        except UnavailableError as error:
            return Response(to_json({"detail": str(error)}), 503, {"retry-after": "1"}, media_type=JSON)
        return Response(to_json(found), media_type=JSON)

    schema = {"content": {JSON: {"schema": asked.model_json_schema()}}, "required": True}
    service.add_api_route(
        path,
        route,
        methods=["POST"],
        name=path[1:],
        description=answer.__doc__,
        response_model=answered,
        responses=REFUSALS,
        openapi_extra={"requestBody": schema},
    )


def _asked(said: bodies.Whom, *, top: int, repeats: bool | None) -> Asked:
    context = {name: str(value) for name, value in said.context.items()}
    history, times, asked_at = said.user_history, said.times, said.asked_at
    return Asked(said.user, history, times, asked_at, context, top, repeats, said.attributes, said.item_attributes)


def _items(items: list[RawId], titles: list[str] | None, scores: list[float]) -> list[dict[str, Any]]:
    if titles is None:
        return [{"item_id": item, "score": score} for item, score in zip(items, scores, strict=True)]
    return [
        {"item_id": item, "score": score, "title": title}
        for item, score, title in zip(items, scores, titles, strict=True)
    ]
