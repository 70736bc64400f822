"""The recommend service: a trained model behind HTTP, as JSON (FastAPI)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel
from pydantic_core import to_json

from seqrec_cli import __version__
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.serving import bodies
from seqrec_cli.serving.alike import ItemVectors, LikeItem
from seqrec_cli.serving.batching import Batcher
from seqrec_cli.serving.bodies import Body, Most, NotUnderstoodError, printable, read
from seqrec_cli.serving.recommending import RawId, Recommended
from seqrec_cli.serving.recommending import Request as Asked
from seqrec_cli.serving.scoring import Question, Scoring
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


class UnavailableError(Exception):
    """What cannot be done now, in a line: status 503."""


class Answering:
    """Answers the service's questions with the model that is loaded at the moment."""

    def __init__(self, loaded: Loaded, batcher: Batcher, *, top: int, most: Most, meters: Meters) -> None:
        self.loaded, self._batcher, self._top, self._most, self._meters = loaded, batcher, top, most, meters

    def health(self) -> dict[str, Any]:
        """What GET /health answers."""
        return {"status": "ok", **self.loaded.facts}

    async def recommend(self, body: bytes) -> dict[str, Any]:
        """What POST /recommend answers."""
        loaded, said = self.loaded, read(bodies.AskedToRecommend, body, self._most)
        recommending = loaded.scoring.recommending
        top = self._top if said.top_k is None else said.top_k
        request = _asked(said, top=top, repeats=said.repeats)
        asked, unknown = recommending.known(request)
        if asked is None:
            items_K, scores_K = recommending.popular(top)
        else:
            question = Question(asked, top=top, repeats=said.repeats)
            items_K, scores_K = await self._batcher.answer(loaded.scoring, question)
        told = recommending.told(request, asked, unknown, items_K=items_K, scores_K=scores_K)
        return {"recommendations": _items(told.items, told.titles, told.scores), **self._facts(loaded, told)}

    async def score(self, body: bytes) -> dict[str, Any]:
        """What POST /score answers."""
        loaded, said = self.loaded, read(bodies.AskedToScore, body, self._most)
        recommending = loaded.scoring.recommending
        request = _asked(said, top=0, repeats=True)
        asked, unknown = recommending.known(request)
        items_C, unknown_candidates = recommending.known_indices(said.candidates)
        scores_C = recommending.popularity_V[items_C]
        if asked is not None and len(items_C):
            items_C, scores_C = await self._batcher.answer(loaded.scoring, Question(asked, items_C))
        told = recommending.told(request, asked, unknown, items_K=items_C, scores_K=scores_C)
        return {
            "scores": _items(told.items, told.titles, told.scores),
            "unknown_candidates": unknown_candidates,
            **self._facts(loaded, told),
        }

    async def similar(self, body: bytes) -> dict[str, Any]:
        """What POST /similar answers."""
        loaded, said = self.loaded, read(bodies.AskedForSimilar, body, self._most)
        if loaded.vectors is None:
            raise SeqrecError(f"model={loaded.facts['model']} makes no item vectors; take an encoder (sasrec)")
        recommending = loaded.scoring.recommending
        (item,) = recommending.indices([said.item]).tolist()
        question = LikeItem(item, self._top if said.top_k is None else said.top_k)
        items_K, cosines_K = await self._batcher.answer(loaded.vectors, question)
        named = recommending.named(items_K)
        return {"similar": _items(*named, cosines_K.tolist()), "model_version": str(loaded.facts["model_version"])}

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
    return Asked(said.user, said.user_history, said.times, said.asked_at, context, top, repeats)


def _items(items: list[RawId], titles: list[str] | None, scores: list[float]) -> list[dict[str, Any]]:
    if titles is None:
        return [{"item_id": item, "score": score} for item, score in zip(items, scores, strict=True)]
    return [
        {"item_id": item, "score": score, "title": title}
        for item, score, title in zip(items, scores, titles, strict=True)
    ]
