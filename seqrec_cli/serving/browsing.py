"""What the page asks beside recommendations: items by what is typed, a user's history, and the runs that answer."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import MOST_SERVED
from seqrec_cli.serving.bodies import Most, in_a_line, printable
from seqrec_cli.serving.service import JSON, REFUSALS, Answering, Loaded

LONGEST_QUERY = 200  # characters of a title or an id


class AskedForItems(BaseModel):
    """The query of GET /items."""

    model_config = ConfigDict(extra="forbid")
    q: str = Field("", max_length=LONGEST_QUERY, description="part of a title or an id; empty: the most popular items")
    limit: int = Field(10, ge=1, le=MOST_SERVED, description="how many items at most")
    id: list[str] = Field([], max_length=MOST_SERVED, description="raw ids to describe, instead of a search")


class AskedForHistory(BaseModel):
    """The query of GET /history."""

    model_config = ConfigDict(extra="forbid")
    user: str = Field(max_length=LONGEST_QUERY, description="raw user id")
    limit: int | None = Field(None, ge=1, description="the latest events, at most; null: as many as a request may hold")


class DescribedItem(BaseModel):
    """An item, and what the data know of it."""

    item_id: str | int
    title: str | None
    attributes: dict[str, list[str]]


class Items(BaseModel):
    """What GET /items answers."""

    items: list[DescribedItem] = Field(description="the best match first, popular ones before others; or as asked for")


class PastItem(DescribedItem):
    """An event of a user."""

    time: int | None = Field(description="seconds since 1970")


class History(BaseModel):
    """What GET /history answers."""

    history: list[PastItem] = Field(description="the latest last")
    num_events: int = Field(description="of the user in all")


class Run(BaseModel):
    """A trained model that answers."""

    model: str
    model_version: str
    max_length: int = Field(description="events that it reads, the latest")
    reads_times: bool = Field(description="a history of a request's own has to say when its events happened")


class Runs(BaseModel):
    """What GET /runs answers."""

    runs: dict[str, Run] = Field(description="by the name that a request's `run` takes")
    top: int = Field(description="items of an answer where a request does not say")
    most_events: int = Field(description="of a request's history")
    most_candidates: int = Field(description="of a request")
    most_left_out: int = Field(description="events of a history that POST /explain leaves out in turn, the latest")


class Browsing:
    """Answers what the page asks of the runs that are loaded at the moment."""

    def __init__(self, answering: Answering, *, top: int, most: Most) -> None:
        self._answering, self._top, self._most = answering, top, most

    async def prepare(self) -> None:
        """What a search needs, where nobody has searched yet."""
        catalogue = self._answering.run(None).catalogue
        if not catalogue.prepared:
            await asyncio.to_thread(catalogue.prepare)

    def items(self, said: AskedForItems) -> dict[str, Any]:
        """Items by a part of their title or id, whatever its case and accents; or what is known of some."""
        loaded = self._answering.run(None)
        at = loaded.recommending()
        found = at.known_indices(said.id)[0].tolist() if said.id else loaded.catalogue.found(said.q, said.limit, at)
        return {"items": loaded.catalogue.described(found, at)}

    def history(self, said: AskedForHistory) -> dict[str, Any]:
        """A user's events in the data."""
        loaded = self._answering.run(None)
        catalogue, at = loaded.catalogue, loaded.recommending()
        events = catalogue.events(said.user, at)
        latest = events[-min(said.limit or self._most.events, self._most.events) :]
        described = catalogue.described((event.item for event in latest), at)
        past = [{**item, "time": event.time} for item, event in zip(described, latest, strict=True)]
        return {"history": past, "num_events": len(events)}

    def runs(self) -> dict[str, Any]:
        """The trained models that answer, and what a request may ask of them."""
        return {
            "runs": {name: _facts(loaded) for name, loaded in self._answering.runs().items()},
            "top": self._top,
            "most_events": self._most.events,
            "most_candidates": self._most.candidates,
            "most_left_out": self._most.left_out,
        }


def add_browsing(service: FastAPI, browsing: Browsing) -> None:
    """Its routes; a query that is not understood gets status 422 and one line, as a body does."""

    async def not_understood(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _refusal(in_a_line(error.errors()[0]))

    service.add_exception_handler(RequestValidationError, not_understood)

    def answer(found: Callable[[], dict[str, Any]]) -> Response:
        try:
            return Response(to_json(found()), media_type=JSON)
        except SeqrecError as error:
            return _refusal(printable(str(error)))

    @service.get("/items", response_model=Items, responses=REFUSALS, description=Browsing.items.__doc__)
    async def items(said: Annotated[AskedForItems, Query()]) -> Response:
        if not said.id:
            await browsing.prepare()
        return answer(lambda: browsing.items(said))

    @service.get("/history", response_model=History, responses=REFUSALS, description=Browsing.history.__doc__)
    async def history(said: Annotated[AskedForHistory, Query()]) -> Response:
        return answer(lambda: browsing.history(said))

    @service.get("/runs", response_model=Runs, responses=REFUSALS, description=Browsing.runs.__doc__)
    async def runs() -> Response:
        return answer(browsing.runs)


def _refusal(why: str) -> Response:
    return Response(to_json({"detail": why}), 422, media_type=JSON)


def _facts(loaded: Loaded) -> dict[str, Any]:
    recommending = loaded.scoring.recommending
    return {
        "model": str(loaded.facts["model"]),
        "model_version": str(loaded.facts["model_version"]),
        "max_length": recommending.max_length,
        "reads_times": recommending.reads_times,
    }
