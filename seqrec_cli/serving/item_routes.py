"""PUT, GET and DELETE of /items/{id}: how the items of a running service change."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.serving import bodies
from seqrec_cli.serving.bodies import Attributes, Body, Most, NotUnderstoodError, RawId, RawIds, printable, read
from seqrec_cli.serving.gate import ITEMS
from seqrec_cli.serving.item_index import ItemIndex
from seqrec_cli.serving.item_lines import FROM, Change

JSON = "application/json"
LONGEST_ID = 256  # characters
NO_STATE = "this service takes no changes of its items; start it with state=FOLDER (seqrec serve state=...)"
Numbers = Annotated[list[float], Field(fail_fast=True)]


class PutItem(Body):
    """The body of PUT /items/{id}: what its vector is, in one of five ways."""

    vector: Numbers | None = Field(None, description="the numbers themselves, as wide as the model's")
    attributes: Attributes | None = Field(None, description="the item's attributes, from which it is estimated")
    text_vector: Numbers | None = Field(None, description="the item's text vector, from which it is estimated")
    like: RawIds | None = Field(None, min_length=1, description="raw ids of items whose mean it is")
    trained: bool | None = Field(None, description="true: the vector that was trained, of a changed or removed item")
    bias: float | None = Field(None, description="beside `vector`, where the model has biases; null: the mean")
    title: str | None = Field(None, max_length=500, description="for people")


class Quality(BaseModel):
    """What estimates are worth: trained items, each estimated from all others."""

    items: int
    r2: float = Field(description="share of the vectors' variance that is explained")
    recall10: float | None = Field(description="of validation targets among the ten best, with estimated vectors")
    recall10_trained: float | None = Field(description="the same with trained vectors")
    shown10: float | None = Field(description="share of validation lists of ten in which an estimated item would stand")
    shown10_trained: float | None = Field(description="the same of a trained one; estimates are held to it")


NO_UTF8 = "\N{REPLACEMENT CHARACTER}"  # in place of bytes of an address that are none


class ItemPut(BaseModel):
    """What PUT /items/{id} answers."""

    item_id: str | int
    status: str = Field(description="`added`, `changed`, or `trained`")
    by: str
    quality: Quality | None = Field(description="of an estimated vector")
    warning: str | None = Field(None, description="where the estimate is worth nothing")


class ItemGot(BaseModel):
    """What GET /items/{id} answers."""

    item_id: str | int
    status: str
    by: str
    recommended: bool
    vector: list[float]
    bias: float | None = None
    title: str | None = None


class ItemRemoved(BaseModel):
    """What DELETE /items/{id} answers."""

    item_id: str | int
    status: str


NOTHING = (
    "r2 is not above 0: what was told says nothing of an item's vector, so the item gets the mean of all, and stands "
    "in next to no list; give like=[items] or a vector"
)


class NoItemError(Exception):
    """Status 404, in a line."""


def add_item_routes(
    service: FastAPI, items: Callable[[], ItemIndex | None], most: Most, *, refusals: dict[int | str, Any]
) -> None:
    """The three routes of an item; `items` are those of the model that is loaded at the moment."""

    async def put(text: str, body: bytes) -> dict[str, Any]:
        """Add an item, or change its vector."""
        index = _index(items)
        raw, said = _id(index, text), read(PutItem, body, most)
        told = {name: getattr(said, name) for name in FROM if getattr(said, name) not in (None, False)}
        if len(told) != 1:
            raise NotUnderstoodError(f"give one of {', '.join(FROM)} ({len(told)} are given)")
        if said.bias is not None and said.vector is None:
            raise NotUnderstoodError("bias: goes with vector alone")
        if said.like is not None and len(said.like) > most.candidates:
            raise NotUnderstoodError(f"like: {len(said.like):,} are given, at most {most.candidates:,} are read")
        change: Change = {"op": "put", "item": raw, **told}
        change |= {name: value for name in ("bias", "title") if (value := getattr(said, name)) is not None}
        index.now()
        index.check(change)
        await asyncio.to_thread(index.append, change)
        index.now()
        (by,) = told
        about = index.about(raw) or {"item_id": raw, "status": "removed"}  # by somebody else, in between
        quality = index.qualities.get(by)
        found = {**_some(about, "item_id", "status"), "by": by, "quality": quality and asdict(quality)}
        return {**found, "warning": NOTHING} if quality is not None and quality.r2 <= 0 else found

    async def delete(text: str, body: bytes) -> dict[str, Any]:
        """Remove an item: it is recommended no more. Histories that hold it are read as before."""
        index = _index(items)
        raw = _id(index, text)
        index.now()
        index.check_whole()
        if index.about(raw) is None:
            raise NoItemError(f"there is no item {text}")
        await asyncio.to_thread(index.append, {"op": "delete", "item": raw})
        index.now()
        return {"item_id": raw, "status": "removed"}

    async def get(text: str, body: bytes) -> dict[str, Any]:
        """What is known of an item."""
        index = _index(items, changing=False)
        index.now()
        about = index.about(index.raw_of(text))
        if about is None:
            raise NoItemError(f"there is no item {text}")
        return about

    missing: dict[int | str, Any] = {
        404: {"model": bodies.Complaint, "description": "There is no such item, or it was removed."}
    }
    schema = {"content": {JSON: {"schema": PutItem.model_json_schema()}}, "required": True}
    for method, answer, answered, extra in (
        ("PUT", put, ItemPut, {"requestBody": schema}),
        ("DELETE", delete, ItemRemoved, None),
        ("GET", get, ItemGot, None),
    ):
        service.add_api_route(
            ITEMS,
            _route(answer),
            methods=[method],
            name=f"{method.lower()} item",
            description=answer.__doc__,
            response_model=answered,
            responses=refusals if method == "PUT" else refusals | missing,
            openapi_extra=extra,
        )


def _route(answer: Callable[[str, bytes], Awaitable[dict[str, Any]]]) -> Callable[..., Awaitable[Response]]:
    async def route(item: str, request: Request) -> Response:
        body = await request.body() if request.method == "PUT" else b""
        try:
            found = await answer(item, body)
        except NoItemError as error:
            return _said(str(error), 404)
        except (SeqrecError, NotUnderstoodError) as error:
            return _said(str(error), 422)
        except OSError as error:
            return _said(f"nothing was changed: {error.strerror or 'a fault of the disk'}", 503)
        return Response(to_json(found), media_type=JSON)

    return route


def _said(why: str, status: int) -> Response:
    headers = {"retry-after": "1"} if status == 503 else None
    return Response(to_json({"detail": printable(why)}), status, headers, media_type=JSON)


def _index(items: Callable[[], ItemIndex | None], changing: bool = True) -> ItemIndex:
    index = items()
    if index is None or (changing and not index.keeps):
        raise SeqrecError(NO_STATE)
    return index


def _id(index: ItemIndex, text: str) -> RawId:
    if not text.strip() or len(text) > LONGEST_ID or not text.isprintable() or NO_UTF8 in text:
        raise NotUnderstoodError(f"an item's id has 1 to {LONGEST_ID} printable characters, as UTF-8")
    return index.raw_of(text)


def _some(about: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: about[name] for name in names}
