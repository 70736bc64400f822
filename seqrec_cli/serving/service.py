"""The recommend service: a trained model behind HTTP, as JSON (FastAPI)."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import MOST_SERVED
from seqrec_cli.serving.recommending import Recommending, Request

if TYPE_CHECKING:
    from fastapi import FastAPI

RawId = Annotated[str | int, Field(union_mode="left_to_right")]


class Asked(BaseModel):
    """The body of POST /recommend."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user_history: list[RawId] | None = Field(
        None, description="raw item ids, the latest last; null: the user's own log"
    )
    top_k: int | None = Field(None, ge=1, le=MOST_SERVED, description="how many items; null: the service's `top`")
    user: RawId | None = Field(None, description="raw user id, for models that know users")
    times: list[int] | None = Field(None, description="when the events happened, in seconds since 1970")
    asked_at: int | None = Field(None, description="when the answer is for; null: at the latest event's time")
    context: dict[str, str | int | float] = Field({}, description="the request's context, by attribute")
    repeats: bool | None = Field(
        None, description="items of the history may come back; null: as they were ranked when the run was measured"
    )


class Item(BaseModel):
    """One recommendation."""

    item_id: str | int
    score: float
    title: str | None = None


class Answer(BaseModel):
    """What POST /recommend answers."""

    recommendations: list[Item]
    model_version: str
    num_input_items: int = Field(description="events the model read: the latest known ones, up to its max_length")
    unknown_items: list[str | int] = Field(description="of the history, which the model was not trained with")
    known_user: bool


def build_service(recommending: Recommending, top: int, facts: dict[str, Any]) -> "FastAPI":
    """GET /health and POST /recommend; a request that cannot be answered gets status 422 and one line that says why.

    `facts` are what /health answers besides its status; `model_version` is one of them.
    """
    from fastapi import FastAPI, HTTPException

    service = FastAPI(title="seqrec", description="Recommendations from a trained model.")
    one_at_a_time = threading.Lock()  # a model's step uses every core

    @service.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok", **facts}

    @service.post("/recommend", response_model_exclude_none=True)
    def recommend(asked: Asked) -> Answer:
        wanted = Request(
            asked.user,
            asked.user_history,
            asked.times,
            asked.asked_at,
            {name: str(value) for name, value in asked.context.items()},
            top if asked.top_k is None else asked.top_k,
            asked.repeats,
        )
        try:
            with one_at_a_time:
                answer = recommending.answer(wanted)
        except SeqrecError as error:
            raise HTTPException(422, str(error)) from error
        named: Sequence[str | None] = answer.titles or [None] * len(answer.items)
        return Answer(
            recommendations=[
                Item(item_id=item, score=score, title=title)
                for item, score, title in zip(answer.items, answer.scores, named, strict=True)
            ],
            model_version=str(facts["model_version"]),
            num_input_items=answer.events_read,
            unknown_items=answer.unknown_items,
            known_user=answer.known_user,
        )

    return service
