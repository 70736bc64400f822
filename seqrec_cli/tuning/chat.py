"""One question to a language model behind an OpenAI-compatible API, by HTTP, and its answer as text.

`POST ENDPOINT/chat/completions` with `model` and `messages`, which OpenAI, vLLM, llama.cpp, Ollama and others take.
The key is read from the environment at every question and goes nowhere but into the request's header: never over plain
HTTP to another machine, never after a redirect, and whatever comes back is searched for it before anyone reads it.
"""

import json
import os
from http.client import HTTPException
from typing import IO, Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from seqrec_cli.config.adviser import AdviserConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.download import within

LONGEST_ANSWER = 1 << 20  # bytes
LONGEST_LINE = 300  # characters of what is said of a server, with its own words in it
SHORTEST_KEY = 4  # shorter ones are no secret, and to blot them out would spoil every text
LOOPBACK = ("localhost", "127.0.0.1", "::1")
UNKNOWN_FIELD = (400, 422)  # some servers refuse a request that names `response_format`
REFUSED = {401: "it refuses the key", 403: "it refuses the key", 404: "it knows no such address or model"}

Message = dict[str, str]  # {"role": ..., "content": ...}


def printable_line(text: str) -> str:
    """Any text on one line, without marks that a terminal would obey."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())


class NoAnswerError(Exception):
    """Nothing that can be read came back; `lasting` where to ask again would be in vain."""

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting


class Chat:
    """Where the language model is. Holds no key: its object may be printed, pickled and stored."""

    def __init__(self, cfg: AdviserConfig) -> None:
        """Raises SeqrecError where it cannot be asked at all: no address or model, a key that may not be sent."""
        if cfg.endpoint is None or cfg.model is None:
            missing = "endpoint" if cfg.endpoint is None else "model"
            raise SeqrecError(f"sampler=adviser asks a language model: set adviser.{missing}")
        self._cfg = cfg
        self._url = cfg.endpoint.removesuffix("/chat/completions") + "/chat/completions"
        self._as_json = True
        parts = urlsplit(self._url)
        if self._key() and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise SeqrecError(
                f"adviser.endpoint={cfg.endpoint} is not encrypted, and {cfg.key_variable} would be sent to it: use "
                "https, a tunnel to localhost, or, if it needs no key, unset the variable"
            )

    def ask(self, messages: list[Message]) -> str:
        """The answer's text. Raises NoAnswerError with a reason that fits on a line and holds no key."""
        try:
            answer = self._post(messages)
            if answer.status in UNKNOWN_FIELD and self._as_json:
                self._as_json = False  # from now on; the question itself asks for JSON too
                answer = self._post(messages)
        except URLError as error:
            raise NoAnswerError(self.line(f"{self._host} cannot be reached: {error.reason}")) from None
        except TimeoutError:
            raise NoAnswerError(f"{self._host} did not answer within {self._cfg.timeout:g} s") from None
        except (OSError, HTTPException) as error:
            raise NoAnswerError(self.line(f"{self._host} broke off ({type(error).__name__} {error})")) from None
        if len(answer.body) > LONGEST_ANSWER:
            raise NoAnswerError(f"{self._host} answered with more than {LONGEST_ANSWER:,} bytes")
        if not 200 <= answer.status < 300:
            raise self._refused(answer)
        return self._text(answer.body)

    def masked(self, text: str) -> str:
        """The text without the key, should it be in it."""
        key = self._key()
        return text.replace(key, "***") if len(key) >= SHORTEST_KEY else text

    def line(self, text: str) -> str:
        """What is said of a server, with its own words in it: short, on one line, without the key."""
        return printable_line(self.masked(text))[:LONGEST_LINE]

    @property
    def _host(self) -> str:
        return urlsplit(self._url).netloc

    def _key(self) -> str:
        name = self._cfg.key_variable
        key = os.environ.get(name, "").strip()
        if any(not "!" <= mark <= "~" for mark in key):  # the error of whoever sends it would repeat it
            raise SeqrecError(f"the environment variable {name} holds spaces or marks that no key has; set it anew")
        return key

    def _post(self, messages: list[Message]) -> "_Answer":
        asked: dict[str, Any] = {"model": self._cfg.model, "messages": messages}
        if self._as_json:
            asked["response_format"] = {"type": "json_object"}
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "seqrec"}
        if key := self._key():
            headers["Authorization"] = f"Bearer {key}"
        request = Request(self._url, data=json.dumps(asked).encode(), headers=headers, method="POST")
        handlers: list[Any] = [NoRedirect()]
        if urlsplit(self._url).hostname in LOOPBACK:
            handlers.append(ProxyHandler({}))  # a proxy is another machine

        def answer() -> _Answer:
            try:
                response = build_opener(*handlers).open(request, timeout=self._cfg.timeout)
            except HTTPError as error:
                response = error
            with response:
                return _Answer(response.status, response.headers, response.read(LONGEST_ANSWER + 1))

        # A socket's timeout counts from the last byte: an answer that drips would take for ever.
        return within(self._cfg.timeout, answer)

    def _text(self, body: bytes) -> str:
        try:
            content = json.loads(body)["choices"][0]["message"]["content"]
            if isinstance(content, list):  # in parts
                content = "".join(part["text"] for part in content if part.get("type") == "text")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            shown = body.decode("utf-8", "replace") or "nothing"
            raise NoAnswerError(
                self.line(f"{self._host} does not answer as /chat/completions does, but: {shown}")
            ) from None
        if not isinstance(content, str) or not content.strip():
            raise NoAnswerError(f"{self._host} answered without a text")
        return self.masked(content)

    def _refused(self, answer: "_Answer") -> NoAnswerError:
        said, why = _own_words(answer.body), REFUSED.get(answer.status, "")
        if answer.status == 401 and not self._key():
            why = f"it wants a key, and {self._cfg.key_variable} is not set"
        if 300 <= answer.status < 400:
            target = urlsplit(answer.headers.get("Location", ""))._replace(query="", fragment="").geturl()
            said, why = "", f"it redirects to {target}, and the key goes to no other address; set adviser.endpoint"
        told = "; ".join(filter(None, (why, said)))
        line = self.line(f"{self._host} answered {answer.status}" + (f": {told}" if told else ""))
        return NoAnswerError(line, lasting=bool(why))


class _Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes


class NoRedirect(HTTPRedirectHandler):
    """urllib would carry the headers, and so the key, wherever a server points."""

    def redirect_request(self, req: Request, fp: IO[bytes], *_: Any) -> None:
        """None: the redirect stays an HTTPError."""


def _own_words(body: bytes) -> str:
    """What a server says of its refusal: the message of its JSON, else its text; nothing where that is a web page."""
    text = body.decode("utf-8", "replace").strip()
    try:
        told = json.loads(text)["error"]
        text = str(told["message"] if isinstance(told, dict) else told)
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    return "" if text.startswith("<") else text
