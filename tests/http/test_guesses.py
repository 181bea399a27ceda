"""Wrong tokens: told in the log, held up where many come from one address, forgotten in the end."""

import logging
from collections.abc import Callable

import pytest
from http_helpers import Api, Reply

from dispatcher.errors import TooManyGuesses
from dispatcher.routes.guesses import LINES, MOST, PERIOD_S, SOURCES, Guesses, source

TOKEN = "may-do-everything"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Times:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Times:
    return Times()


@pytest.fixture
def guesses(clock: Times) -> Guesses:
    return Guesses(clock)


@pytest.fixture
def guarded(make_api: Callable[..., Api]) -> Api:
    return make_api(token=TOKEN, read_token="may-look", host="0.0.0.0")


def shows(api: Api, token: str, address: str, path: str = "/stats") -> Reply:
    headers = {"Authorization": f"Bearer {token}"}
    return api.ask("GET", path, headers=headers, environ_base={"REMOTE_ADDR": address})


def test_many_wrong_tokens_from_one_address_are_held_up(guarded: Api, caplog: pytest.LogCaptureFixture) -> None:
    for n in range(MOST):
        assert shows(guarded, f"secret-guess-{n}", "192.0.2.1").status == 401
    for token in ("secret-guess-again", TOKEN):
        held = shows(guarded, token, "192.0.2.1")
        assert (held.status, held.json["code"]) == (429, "wrong_tokens")
        assert 0 < int(held.headers["Retry-After"]) <= PERIOD_S
    login = guarded.ask("POST", "/ui/login", f"token={TOKEN}", headers=FORM, environ_base={"REMOTE_ADDR": "192.0.2.1"})
    assert (login.status, b"<form" in login.body, b"no token is looked at for" in login.body) == (429, True, True)
    assert shows(guarded, TOKEN, "192.0.2.2").status == 200, "others are not held up"
    assert shows(guarded, TOKEN, "192.0.2.1", "/health").json == {"status": "healthy", "service": "dispatcher"}
    said = [record.getMessage() for record in caplog.records if record.name == "taskmill.auth"]
    assert said == [
        "a wrong token came from 192.0.2.1",
        "many wrong tokens come from 192.0.2.1: for a while no token from there is looked at",
    ]


def test_wrong_logins_count_and_a_request_without_a_token_does_not(guarded: Api) -> None:
    for _ in range(2 * MOST):
        assert guarded.ask("GET", "/stats", headers={}).status == 401
    for _ in range(MOST):
        assert guarded.ask("POST", "/ui/login", "token=wrong", headers=FORM).status == 401
    assert guarded.ask("POST", "/ui/login", f"token={TOKEN}", headers=FORM).status == 429


@pytest.mark.parametrize("token", [TOKEN, "may-look"])
def test_an_address_that_has_shown_a_right_token_is_not_held_up(guarded: Api, token: str) -> None:
    assert shows(guarded, token, "192.0.2.1").status == 200
    for _ in range(2 * MOST):
        assert shows(guarded, "wrong", "192.0.2.1").status == 401
    assert shows(guarded, token, "192.0.2.1").status == 200


def test_it_is_over_after_a_minute(guesses: Guesses, clock: Times) -> None:
    for _ in range(MOST):
        guesses.let("192.0.2.1")
        guesses.was_wrong("192.0.2.1")
        clock.now += 1
    with pytest.raises(TooManyGuesses) as held:
        guesses.let("192.0.2.1")
    assert held.value.retry_after == PERIOD_S - MOST
    clock.now += PERIOD_S - MOST
    guesses.let("192.0.2.1")


def test_one_subnet_of_ipv6_is_one_source(guesses: Guesses) -> None:
    for n in range(MOST):
        guesses.was_wrong(f"2001:db8::{n:x}")
    with pytest.raises(TooManyGuesses):
        guesses.let("2001:db8::ffff:1")
    guesses.let("2001:db8:0:1::1")
    assert [source(text) for text in ("::ffff:192.0.2.1", "192.0.2.1", "?" * 99)] == ["192.0.2.1"] * 2 + ["?" * 64]


def test_what_is_remembered_and_logged_is_bounded(guesses: Guesses, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for n in range(SOURCES + 50):
        guesses.was_wrong(f"10.0.{n // 256}.{n % 256}")
        guesses.was_right(f"10.1.{n // 256}.{n % 256}")
    assert (len(guesses._wrong), len(guesses._right)) == (SOURCES, SOURCES)
    assert len(caplog.records) == LINES
