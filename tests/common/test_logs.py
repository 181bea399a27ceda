"""Logs: one event one line, in text and in JSON, and no secrets in either."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from common import logs
from common.settings import SettingError, secrets, setting

SECRET = "s3cret-token"
Logged = Callable[..., list[str]]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Logged]:
    """Logs by a set-up of its own; the lines that came."""
    root, before = logging.getLogger(), list(logging.getLogger().handlers)

    def run(form: str, *messages: object, error: BaseException | None = None, worker: str | None = None) -> list[str]:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        logs.set_up("INFO", form, [SECRET], worker)
        for message in messages:
            logging.getLogger("taskmill.test").warning("%s", message, exc_info=error)
        return stream.getvalue().splitlines()

    yield run
    root.handlers[:] = before


def raised(text: str) -> ValueError:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_json_lines_say_when_what_and_who(logged: Logged) -> None:
    (line,) = logged("json", "hello ünï\nsecond line", worker="lab-1")
    told = json.loads(line)
    assert told["message"] == "hello ünï\nsecond line"
    assert (told["level"], told["logger"], told["worker"]) == ("WARNING", "taskmill.test", "lab-1")
    assert told["time"].endswith("Z")
    assert told.keys() == {"time", "level", "logger", "message", "worker"}


@pytest.mark.parametrize("form", logs.FORMATS)
def test_an_event_is_one_line_whatever_it_contains(logged: Logged, form: str) -> None:
    odd = "a\nb\rc\x1b[31m\x85\u2028d"
    lines = logged(form, odd, "next", error=raised(odd))
    assert len(lines) == 2
    assert "Traceback" in lines[0]
    assert "\x1b" not in lines[0]


@pytest.mark.parametrize("form", logs.FORMATS)
def test_secrets_are_masked_in_messages_and_tracebacks(logged: Logged, form: str) -> None:
    (line,) = logged(form, f"asked with Bearer {SECRET}", error=raised(f"postgresql://me:{SECRET}@db/x"))
    assert SECRET not in line
    assert line.count(logs.MASK) >= 2
    assert "Bearer" in line


def test_a_percent_sign_in_a_name_is_no_format(logged: Logged) -> None:
    (line,) = logged("text", "hello", worker="100%s")
    assert line.endswith("WARNING 100%s: hello")


def test_what_is_secret_of_settings() -> None:
    @dataclass(frozen=True)
    class Settings:
        url: str = setting("", secret=True)
        token: str = setting("", secret=True)
        open: str = setting("shown")

    told = secrets(Settings("postgresql://me:p%40ss@db:5432/x", "t0ken", "shown"))
    assert set(told) == {"postgresql://me:p%40ss@db:5432/x", "t0ken", "p%40ss", "p@ss"}
    assert secrets(Settings("http://[x", "", "shown")) == ["http://[x"]


@pytest.mark.parametrize(("level", "form", "name"), [("LOUD", "text", "LOG_LEVEL"), ("INFO", "xml", "LOG_FORMAT")])
def test_a_level_or_form_that_there_is_not_is_refused(level: str, form: str, name: str) -> None:
    with pytest.raises(SettingError, match=name):
        logs.check(level, form)
    logs.check("debug", "JSON")
