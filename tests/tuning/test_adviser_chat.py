"""The question by HTTP: answers that are none become one line, and the key is in none of it."""

import pickle
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from stub_endpoint import KEY, VARIABLE, Endpoint, Reply, adviser_config, chat

from seqrec_cli.config.adviser import AdviserConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.tuning.chat import LONGEST_ANSWER, LONGEST_LINE, Chat, NoAnswerError

ASKED = [{"role": "user", "content": "what next?"}]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)


def refusal(play: Callable[[Any], Any], **changes: Any) -> tuple[NoAnswerError, Endpoint]:
    with Endpoint(play) as endpoint:
        with pytest.raises(NoAnswerError) as caught:
            Chat(adviser_config(endpoint.url, **changes)).ask(ASKED)
        said = str(caught.value)
        assert KEY not in said
        assert "\n" not in said
        assert len(said) <= LONGEST_LINE
        return caught.value, endpoint


def test_a_question_has_model_messages_and_the_key_in_its_header() -> None:
    with Endpoint(lambda _: "try this") as endpoint:
        assert Chat(adviser_config(endpoint.url)).ask(ASKED) == "try this"
        (asked,) = endpoint.asked
        assert asked["path"] == "/v1/chat/completions"
        assert (asked["model"], asked["messages"]) == ("stub", ASKED)
        assert endpoint.keys == [f"Bearer {KEY}"]


def test_a_full_address_is_taken_as_it_is_and_no_key_sends_no_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    with Endpoint(lambda _: "yes") as endpoint:
        Chat(adviser_config(endpoint.url + "/chat/completions")).ask(ASKED)
        assert [asked["path"] for asked in endpoint.asked] == ["/v1/chat/completions"]
        assert endpoint.keys == [None]


def test_a_server_that_knows_no_response_format_is_asked_without() -> None:
    replies = [Reply(400, b'{"error": {"message": "response_format: unknown"}}'), Reply(body=chat("one")), "two"]
    with Endpoint(lambda _: replies.pop(0)) as endpoint:
        asker = Chat(adviser_config(endpoint.url))
        assert [asker.ask(ASKED), asker.ask(ASKED)] == ["one", "two"]
        assert ["response_format" in asked for asked in endpoint.asked] == [True, False, False]


def test_an_answer_in_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "reasoning", "x": 1}, {"type": "text", "text": "b"}]
    with Endpoint(lambda _: Reply(body=chat(parts))) as endpoint:
        assert Chat(adviser_config(endpoint.url)).ask(ASKED) == "ab"


@pytest.mark.parametrize(
    ("reply", "said", "lasting"),
    [
        (
            Reply(401, b'{"error": {"message": "Incorrect API key provided"}}'),
            "401: it refuses the key; Incorrect",
            True,
        ),
        (Reply(403, b"<html>no</html>"), "answered 403: it refuses the key", True),
        (Reply(404, b'{"error": "model stub not found"}'), "404: it knows no such address or model; model stub", True),
        (Reply(500, b"<html><body>Internal</body></html>"), "answered 500", False),
        (Reply(429, b'{"error": {"message": "slow\\ndown"}}'), "answered 429: slow down", False),
        (Reply(400, b'{"error": {"message": "too long"}}'), "answered 400: too long", False),
        (Reply(200, b"<html>hello</html>"), "does not answer as /chat/completions does, but: <html>", False),
        (Reply(200, b""), "but: nothing", False),
        (Reply(200, b"[" * 100_000), "does not answer as", False),
        (Reply(200, b'{"choices": []}'), "does not answer as", False),
        (Reply(200, chat(None)), "answered without a text", False),
        (Reply(200, chat("  ")), "answered without a text", False),
        (Reply(200, b"x" * (LONGEST_ANSWER + 2)), "more than 1,048,576 bytes", False),
    ],
)
def test_what_is_no_answer(reply: Reply, said: str, lasting: bool) -> None:
    error, _ = refusal(lambda _: reply)
    assert said in str(error)
    assert error.lasting is lasting


def test_a_missing_key_is_named_where_one_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    error, _ = refusal(lambda _: Reply(401))
    assert f"it wants a key, and {VARIABLE} is not set" in str(error)


@pytest.mark.parametrize("reply", [Reply(seconds=2), Reply(body=chat("a" * 100), seconds=0.05, drips=True)])
def test_silence_and_drops_end_with_the_timeout(reply: Reply) -> None:
    began = time.monotonic()
    error, _ = refusal(lambda _: reply, timeout=0.3)
    assert "did not answer within 0.3 s" in str(error)
    assert time.monotonic() - began < 1.5


def test_nobody_at_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NoAnswerError, match="cannot be reached"):
        Chat(adviser_config(f"http://127.0.0.1:{port}/v1")).ask(ASKED)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_does_not_follow_a_redirect(status: int) -> None:
    with Endpoint(lambda _: "here") as other:
        error, _ = refusal(lambda _: Reply(status, headers={"Location": other.url + "?token=" + KEY}))
        assert f"it redirects to {other.url}, and the key goes to no other address" in str(error)
        assert error.lasting
        assert other.asked == []


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("before", [0, LONGEST_LINE - 60])
def test_a_server_that_repeats_the_key(status: int, before: int) -> None:
    error, _ = refusal(lambda _: Reply(status, b"x" * before + f" Bearer {KEY} ".encode()))
    assert KEY[:12] not in str(error)
    with Endpoint(lambda _: f"your key is {KEY}") as endpoint:
        assert Chat(adviser_config(endpoint.url)).ask(ASKED) == "your key is ***"


def test_a_chat_holds_no_key() -> None:
    asker = Chat(adviser_config("http://127.0.0.1:1/v1"))
    assert KEY.encode() not in pickle.dumps(asker)
    assert KEY not in repr(vars(asker))


def test_an_open_line_to_another_machine_gets_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = adviser_config("http://gpu.example:8000/v1")
    with pytest.raises(SeqrecError, match="is not encrypted, and SEQREC_ADVISER_KEY would be sent"):
        Chat(cfg)
    monkeypatch.delenv(VARIABLE)
    Chat(cfg)


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with Endpoint(lambda _: "proxy") as proxy, Endpoint(lambda _: "direct") as endpoint:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        assert Chat(adviser_config(endpoint.url)).ask(ASKED) == "direct"
        assert proxy.keys == []


@pytest.mark.parametrize("wrong", ["sk-a b", "sk-ü", "sk-a\nX-Other: 1", "sk-\x00a"])
def test_a_key_that_no_header_takes_is_refused_without_being_told(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setattr("os.environ", {VARIABLE: wrong})
    with pytest.raises(SeqrecError) as caught:
        Chat(adviser_config("http://localhost:1/v1"))
    assert "holds spaces or marks that no key has" in str(caught.value)
    assert wrong not in str(caught.value)


@pytest.mark.parametrize("missing", ["endpoint", "model"])
def test_what_has_to_be_given(missing: str) -> None:
    cfg = adviser_config("http://localhost:1/v1").model_copy(update={missing: None})
    with pytest.raises(SeqrecError, match=f"set adviser.{missing}"):
        Chat(cfg)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("endpoint", "localhost:11434", "endpoint: no address"),
        ("endpoint", "ftp://host/v1", "endpoint: no address"),
        ("endpoint", "https://", "endpoint: no address"),
        ("endpoint", "https://host:99999/v1", "endpoint: no address"),
        ("endpoint", f"https://me:{KEY}@host/v1", "no user, password or query"),
        ("endpoint", f"https://host/v1?api_key={KEY}", "no user, password or query"),
        ("key_variable", KEY, "key_variable: this is the NAME of an environment variable"),
    ],
)
def test_settings_that_would_store_a_key_or_reach_nobody(setting: str, value: str, said: str) -> None:
    from pydantic import ValidationError

    from seqrec_cli.config.describe import errors_in_words

    plain = adviser_config(None).model_dump() | {setting: value}
    with pytest.raises(ValidationError) as caught:
        AdviserConfig.from_plain(plain)
    (line,) = errors_in_words(caught.value, AdviserConfig, plain)
    assert said in line
    assert KEY not in line
