"""What the service is asked and what it answers, as JSON."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from seqrec_cli.config.errors import nearest
from seqrec_cli.config.records import MOST_SERVED

RawId = Annotated[str | int, Field(union_mode="left_to_right")]
RawIds = Annotated[list[RawId], Field(fail_fast=True)]  # of a million wrong ones the first is enough
MOST_CONTEXT = 100  # attributes
Plain = str | int | float
Attributes = dict[str, Plain | Annotated[list[Plain], Field(fail_fast=True, max_length=MOST_CONTEXT)]]
LONGEST = 300  # characters of a complaint
B = TypeVar("B", bound="Body")


class Body(BaseModel):
    """Of a request: no unknown field, no silent conversion, no number that is none."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Whom(Body):
    """For whom, knowing what."""

    user_history: RawIds | None = Field(None, description="raw item ids, the latest last; null: the user's own log")
    user: RawId | None = Field(None, description="raw user id, for models that know users")
    times: Annotated[list[int], Field(fail_fast=True)] | None = Field(
        None, description="when the events happened, in seconds since 1970"
    )
    asked_at: int | None = Field(None, description="when the answer is for; null: at the latest event's time")
    context: dict[str, str | int | float] = Field({}, description="the request's context, by attribute")
    attributes: Attributes = Field(
        {}, description="what is known of a user whose history is not: attributes of liked items, and the user's own"
    )
    item_attributes: dict[str, Attributes] = Field(
        {}, description="attributes of items of the history that the data do not have, by raw id"
    )
    run: str | None = Field(None, description="`A` or `B` of a service with two runs (`beside`); null: the first")


class AskedToRecommend(Whom):
    """The body of POST /recommend."""

    top_k: int | None = Field(None, ge=1, le=MOST_SERVED, description="how many items; null: the service's `top`")
    repeats: bool | None = Field(
        None, description="items of the history may come back; null: as they were ranked when the run was measured"
    )
    allow: RawIds | None = Field(None, description="recommend these items alone: raw ids; null: every item")
    deny: RawIds | None = Field(None, description="never recommend these items: raw ids")
    where: dict[str, RawId | RawIds] | None = Field(
        None, description="recommend items with one of these values of each attribute: {'genres': ['Comedy', 'Drama']}"
    )


class AskedToScore(Whom):
    """The body of POST /score."""

    candidates: RawIds = Field(min_length=1, description="raw ids of the items to score")


class AskedToExplain(Whom):
    """The body of POST /explain."""

    candidates: RawIds = Field(min_length=1, max_length=MOST_SERVED, description="raw ids of the items to explain")


class AskedForSimilar(Body):
    """The body of POST /similar."""

    item: RawId = Field(description="raw id of an item")
    top_k: int | None = Field(None, ge=1, le=MOST_SERVED, description="how many items; null: the service's `top`")
    run: str | None = Field(None, description="as of POST /recommend")


class AskedToRecord(Body):
    """The body of POST /feedback."""

    exposure_id: str | None = Field(None, max_length=64, description="of the answer that showed the item")
    user: RawId | None = Field(
        None, description="raw user id, where the exposure's is not known: the latest that showed the item is meant"
    )
    item: RawId = Field(description="raw id of the item")
    event: str = Field(
        pattern=r"^[A-Za-z0-9_.:-]{1,64}$", description="what happened: click, purchase, or any name of your own"
    )
    value: float | None = Field(None, ge=-1e15, le=1e15, description="what it is worth, where that can be added up")


class Recorded(BaseModel):
    """What POST /feedback answers."""

    recorded: bool


class Item(BaseModel):
    """One item of an answer."""

    item_id: str | int
    score: float
    title: str | None = None


class Answered(BaseModel):
    """What every answer about a history says beside its items."""

    model_version: str
    num_input_items: int = Field(description="events the model read: the latest known ones, up to its max_length")
    unknown_items: list[str | int] = Field(description="of the history, which the model was not trained with")
    known_user: bool
    answered_by: str = Field(
        description="`model`; where nothing is known that the model could read, `attributes` of the request, the "
        "user's `profile` in the data, the `category` of unknown items, or `popularity`"
    )
    arm: str | None = Field(None, description="of an online experiment: the run that answered")


class Recommendations(Answered):
    """What POST /recommend answers."""

    recommendations: list[Item] = Field(description="the best first")
    unknown_listed: list[str | int] = Field(
        [], description="of `allow` and `deny`, which the data do not have; there where the request has such a list"
    )
    exposure_id: str | None = Field(
        None, description="of an online experiment: to be sent with feedback; null where it could not be logged"
    )


class Scores(Answered):
    """What POST /score answers."""

    scores: list[Item] = Field(description="the known candidates, in the order they were asked for")
    unknown_candidates: list[str | int]


class Contribution(BaseModel):
    """What one past event does to an item's score."""

    position: int = Field(description="of the event in the history, from 0")
    item_id: str | int
    contribution: float = Field(description="the score less that without the event; above 0, the event speaks for it")


class Explained(Item):
    """One item, and the events that its score rests on."""

    events: list[Contribution] = Field(description="those left out in turn, the heaviest first, whatever their sign")


class Explanations(Answered):
    """What POST /explain answers."""

    explained: list[Explained] = Field(description="the known candidates, in the order they were asked for")
    unknown_candidates: list[str | int]


class Similar(BaseModel):
    """What POST /similar answers."""

    similar: list[Item] = Field(description="the likest first; a score is the cosine of two item vectors")
    model_version: str


class Complaint(BaseModel):
    """What every answer but 200 holds."""

    detail: str = Field(description="one line: what is wrong")


class NotUnderstoodError(ValueError):
    """A body that is none of ours, with a line that says why."""


@dataclass(frozen=True)
class Most:
    """What a body may hold; what is within the limit of bytes can still be much work."""

    events: int
    candidates: int
    left_out: int  # events of a history, by POST /explain

    def check(self, plain: dict[str, Any]) -> None:
        """Raises NotUnderstoodError where there is more."""
        for name, most in (
            ("user_history", self.events),
            ("times", self.events),
            ("candidates", self.candidates),
            ("context", MOST_CONTEXT),
            ("allow", self.events),
            ("deny", self.events),
            ("where", MOST_CONTEXT),
            ("attributes", MOST_CONTEXT),
            ("item_attributes", MOST_CONTEXT),
        ):
            value = plain.get(name)
            if isinstance(value, list | dict) and len(value) > most:
                raise NotUnderstoodError(f"{name}: {len(value):,} are given, at most {most:,} are read")
            if name == "where" and isinstance(value, dict):
                values = sum(len(each) for each in value.values() if isinstance(each, list))
                if values > self.events:
                    raise NotUnderstoodError(f"where: {values:,} values are given, at most {self.events:,} are read")


def read(kind: type[B], body: bytes, most: Most) -> B:
    """A body of that kind. Raises NotUnderstoodError, soon whatever the body holds: errors are not collected by the
    thousand."""
    try:
        plain = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise NotUnderstoodError(printable(f"invalid JSON: {error}")) from None
    if not isinstance(plain, dict):
        raise NotUnderstoodError("give a JSON object")
    known = kind.model_fields
    for name in plain:
        if name not in known:
            near = nearest(name, known) if len(name) < LONGEST else ""
            raise NotUnderstoodError(printable(f"{name}: no such field{near}") + f" (have: {', '.join(known)})")
    most.check(plain)
    if body.count(b":") != _names(plain):  # or colons stand in texts
        _refuse_repeated(body)
    try:
        return kind.model_validate(plain)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise NotUnderstoodError(in_a_line(first)) from None


def _names(plain: Any) -> int:
    """How many names the objects of a JSON value have; no text that says one twice has as few colons."""
    if isinstance(plain, dict):
        return len(plain) + sum(_names(each) for each in plain.values() if isinstance(each, dict | list))
    return sum(_names(each) for each in plain if isinstance(each, dict | list))


def _refuse_repeated(body: bytes) -> None:
    """Raises NotUnderstoodError where an object has two values of one name: readers differ in which they take."""

    def unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
            raise NotUnderstoodError(printable(f"{twice}: given twice in one object; give it once"))
        return found

    json.loads(body.decode(), object_pairs_hook=unrepeated, parse_int=float)  # an int of many digits takes long


def in_a_line(first: Mapping[str, Any]) -> str:
    """What pydantic says of one fault."""
    where = ".".join(str(part) for part in first["loc"] if part not in ("str", "int", "float", "query"))
    return printable(f"{where}: {first['msg']}" if where else str(first["msg"]))


def printable(text: str) -> str:
    """A complaint may repeat what was sent: shortened, and without what no encoding has."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
