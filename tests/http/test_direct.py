"""What is answered before Flask (routes/direct.py) is answered as Flask would: the same replies, gate and counts."""

from collections.abc import Callable
from typing import Any

import pytest
from http_helpers import Api, Reply
from werkzeug.test import EnvironBuilder

from dispatcher.config import BODY_LIMIT
from dispatcher.routes import direct

PATHS = ["/submit-task", "/submit-tasks", "/get-tasks", "/submit-results", "/heartbeat", "/wait-tasks"]
LONG_WAY = {"Sec-Fetch-Site": "same-origin"}  # as a page of ours sends it
BODIES: list[Any] = [
    {},
    "",
    "[]",
    "{",
    {"nobody": "knows"},
    {"task_ids": "1"},
    "\x00",
    "\ud800".encode("utf-8", "surrogatepass"),
]
TOKEN, READ_TOKEN = "may-do-everything", "may-look"


@pytest.fixture
def guarded(make_api: Callable[..., Api]) -> Api:
    return make_api(token=TOKEN, read_token=READ_TOKEN, host="0.0.0.0")


def told(reply: Reply) -> tuple[int, bytes, dict[str, str]]:
    return reply.status, reply.body, {name.lower(): value for name, value in reply.headers.items()}


def both(api: Api, path: str, body: Any, **headers: str) -> tuple[Reply, Reply]:
    """Before Flask, and through it."""
    return api.ask("POST", path, body, headers=headers), api.ask("POST", path, body, headers=headers | LONG_WAY)


def test_these_are_all_that_are(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    flask_saw = []
    api.app.before_request_funcs[None].insert(0, lambda: flask_saw.append(1))
    for path in PATHS:
        both(api, path, {})
    assert len(flask_saw) == len(PATHS)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", BODIES, ids=repr)
def test_both_ways_refuse_alike(api: Api, path: str, body: Any) -> None:
    here, there = both(api, path, body)
    assert here.status == 400
    assert told(here) == told(there)


def test_both_ways_take_alike(api: Api) -> None:
    here, there = both(api, "/submit-task", {"task_type": "noop", "idempotency_key": "the-same"})
    assert here.status == there.status == 201
    assert told(here) == told(there)
    here, there = both(api, "/wait-tasks", {"task_ids": [1, 2], "wait_seconds": 0})
    assert here.status == 200
    assert told(here) == told(there)


@pytest.mark.parametrize("token", ["", "wrong", READ_TOKEN, "naïve", "\udcff"])
@pytest.mark.parametrize("scheme", ["Bearer ", "Basic ", "bearer"])
def test_both_ways_have_the_same_gate(guarded: Api, scheme: str, token: str) -> None:
    given = (scheme + token).encode("utf-8", "surrogateescape").decode("latin-1")
    here, there = both(guarded, "/submit-task", {"task_type": "noop"}, Authorization=given)
    assert here.status == (403 if (scheme, token) == ("Bearer ", READ_TOKEN) else 401)
    assert told(here) == told(there)
    assert guarded.ask("POST", "/submit-task", {"task_type": "noop"}, headers=guarded.headers).data["task_id"] == 1


def test_both_ways_let_readers_wait(guarded: Api) -> None:
    here, there = both(guarded, "/wait-tasks", {"task_ids": [1]}, Authorization=f"Bearer {READ_TOKEN}")
    assert here.status == 200
    assert told(here) == told(there)


def test_wrong_tokens_are_counted_on_both_ways(guarded: Api) -> None:
    replies = [both(guarded, "/submit-task", {}, Authorization="Bearer wrong") for _ in range(16)]
    assert [reply.status for pair in replies for reply in pair].count(401) == 30
    here, there = replies[-1]
    assert here.status == there.status == 429
    assert told(here) == told(there)
    assert here.headers["Retry-After"]


@pytest.mark.parametrize("host", ["rebound.example", ""])  # none: granian's way to tell of HTTP/1.0 without a Host
def test_another_name_for_this_machine_is_refused_on_both_ways(api: Api, host: str) -> None:
    here, there = (
        api.ask("POST", "/heartbeat", {}, headers=headers, environ_overrides={"HTTP_HOST": host, "SERVER_NAME": "0"})
        for headers in ({}, LONG_WAY)
    )
    assert here.status == 403
    assert told(here) == told(there)


@pytest.mark.parametrize("length", ["", "-1", "1e3", "٣", "9" * 5_000])
def test_a_length_that_is_none_goes_the_long_way(api: Api, length: str) -> None:
    environ = {"REQUEST_METHOD": "POST", "HTTP_HOST": "localhost", "CONTENT_LENGTH": length}
    assert not direct._is_usual(environ)
    assert direct._is_usual({**environ, "CONTENT_LENGTH": "3"})


def test_a_body_too_large_is_refused_before_it_is_read(api: Api) -> None:
    overrides = {"CONTENT_LENGTH": str(BODY_LIMIT + 1)}
    here = api.ask("POST", "/submit-task", b"{}", environ_overrides=overrides)
    there = api.ask("POST", "/submit-task", b"{}", headers=LONG_WAY, environ_overrides=overrides)
    assert here.status == 413
    assert told(here) == told(there)


def test_a_body_cut_short_is_refused(api: Api) -> None:
    cut = api.ask("POST", "/submit-task", b'{"task_type": "noop"}', environ_overrides={"CONTENT_LENGTH": "100"})
    assert cut.status == 400
    assert "ended early" in cut.json["message"]


def test_granian_sends_an_answer_in_one_piece(api: Api) -> None:
    environ = EnvironBuilder(path="/heartbeat", method="POST", data="{}").get_environ()
    assert isinstance(api.app.wsgi_app(environ, lambda *_: None), list)  # type: ignore[arg-type,return-value]


def test_what_fails_unexpectedly_says_nothing_of_our_insides(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("insides")

    monkeypatch.setattr(api.queue, "submitted", broken)
    for reply in both(api, "/submit-task", {"task_type": "noop"}):
        assert reply.status == 500
        assert b"insides" not in reply.body
    assert caplog.text.count("RuntimeError: insides") == 2


def test_both_ways_are_counted(api: Api) -> None:
    both(api, "/submit-task", {"task_type": "noop"})
    both(api, "/submit-task", {})
    text = api.get("/metrics").body.decode()
    for status in ("2xx", "4xx"):
        assert f'method="POST",route="/submit-task",status="{status}"}} 2.0' in text
