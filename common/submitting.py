"""The options of a submit, told once for all command lines: `add_task.py`, `taskmill schedule` and `taskmill edit`.

Each takes text and becomes a field of `POST /submit-task`. Lengths of time and amounts of memory carry a unit.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from common import json_profile
from common.durations import parse_duration
from common.paths import named
from common.sizes import parse_mib

NONE = "none"
UNFINISHED = "unfinished"
BACKOFF = {"first": "first_seconds", "factor": "factor", "max": "max_seconds", "jitter": "jitter"}


class BadOption(ValueError):
    """An option cannot mean anything; the message names it."""


@dataclass(frozen=True, slots=True)
class Option:
    """A flag on a command line, the field that it fills, and how its text is read (raising ValueError)."""

    flag: str
    field: str
    metavar: str
    help: str
    read: Callable[[str], Any] = str
    many: bool = False  # may be given several times
    clears: bool = False  # an edit may take the field back with `none`
    choices: tuple[str, ...] = ()


def read(options: Iterable[Option], given: Mapping[str, Any], *, none: bool = False) -> dict[str, Any]:
    """The fields that were given, by name; `none` lets those that can be taken back be None. Raises BadOption."""
    fields: dict[str, Any] = {}
    for option in options:
        text = given.get(option.field)
        if text is None or text in ([], ()):
            continue
        fields[option.field] = None if none and option.clears and text == NONE else _value(option, text)
    if "run_at" in fields and "delay_seconds" in fields:
        raise BadOption("--at: not together with --delay")
    if "unique_for" in fields and "unique_key" not in fields:
        raise BadOption("--unique-for: says how long a --unique-key counts, which is missing")
    return fields


def by_flags(message: str) -> str:
    """A dispatcher's refusal, with the option for the field that it names."""
    for option in SUBMIT:
        if re.match(rf"(tasks\[\d+\]\.|task\.)?{option.field}[^ :]*: ", message):
            return f"{option.flag}: {message}"
    return message


def _value(option: Option, text: Any) -> Any:
    try:
        return [option.read(one) for one in text] if option.many else option.read(text)
    except ValueError as error:
        raise BadOption(f"{option.flag}: {error}") from None


def whole(text: str) -> int:
    """A whole number; raises ValueError."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def positive(text: str) -> int:
    """A whole number from 1; raises ValueError."""
    number = whole(text)
    if number < 1:
        raise ValueError(f"{text} is below 1")
    return number


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00").replace("z", "+00:00"))
        if moment.tzinfo is None:
            raise ValueError(text)
        return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is not a time with a zone, like 2030-01-01T06:00:00Z or 2030-01-01T08:00:00+02:00"
        ) from None


def _unique_for(text: str) -> str | float:
    return UNFINISHED if text == UNFINISHED else parse_duration(text)


def _backoff(text: str) -> dict[str, float]:
    """`10s`, the first wait alone, or `first=10s,factor=2,max=15m,jitter=0.2`, each part at most once."""
    if "=" not in text:
        return {"first_seconds": parse_duration(text)}
    fields: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in BACKOFF or BACKOFF[name] in fields:
            raise ValueError(
                f"{part.strip()!r}: write each of first, factor, max and jitter at most once, like {_LIKE}"
            )
        fields[BACKOFF[name]] = parse_duration(value) if name in ("first", "max") else _number(value)
    return fields


_LIKE = "first=10s,factor=2,max=15m,jitter=0.2"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _data(text: str) -> dict[str, Any]:
    try:
        value = json_profile.parse(_source(text))
    except OSError as error:
        raise ValueError(f"{text}: {error.strerror}") from None
    if not isinstance(value, dict):
        raise ValueError(f"must be a JSON object, not {type(value).__name__}")
    return value


def _source(text: str) -> bytes | str:
    if text == "-":
        return sys.stdin.buffer.read()
    return named(text[1:]).read_bytes() if text.startswith("@") else text


TYPE = Option("--type", "task_type", "NAME", "its task type")
DATA = Option("--data", "task_data", "JSON|@FILE|-", "its task data: JSON, a file with it, or standard input", _data)
LATER = (
    Option("--at", "run_at", "TIME", "not before that time (RFC 3339, with a zone)", _moment),
    Option("--delay", "delay_seconds", "90s", "not before that long from now", parse_duration),
)
IDEMPOTENCY = Option("--idempotency-key", "idempotency_key", "TEXT", "the same command again submits nothing new")
UNIQUE = (
    Option("--unique-key", "unique_key", "TEXT", "no new task while a twin with this key exists"),
    Option(
        "--unique-for", "unique_for", "1h|unfinished", "how long a twin counts, from its submit (while unfinished)",
        _unique_for,
    ),
)  # fmt: skip
ROUTING = (
    Option("--require", "requires", "LABEL", "a label that its worker must have; may be repeated", many=True),
    Option("--key", "key", "user:42", "what the queue's limits for each key count"),
)
WORK = (
    Option("--queue", "queue", "NAME", "its queue (default)"),
    Option("--priority", "priority", "N", "higher goes first within a queue (0)", whole),
    Option("--tag", "tags", "NAME", "a tag; may be repeated", many=True),
    Option("--max-attempts", "max_attempts", "N", "how often it is tried (3)", positive),
    Option(
        "--backoff", "backoff", "10s", f"the first wait between two attempts, or {_LIKE}", _backoff, clears=True
    ),
    Option("--timeout", "timeout_seconds", "5m", "the longest one attempt may run", parse_duration, clears=True),
    Option("--wait-limit", "wait_seconds", "1h", "it fails if nobody took it so long", parse_duration, clears=True),
    Option("--total-limit", "total_seconds", "1d", "the longest all attempts may take", parse_duration, clears=True),
    Option("--memory", "memory_mb", "512M", "the attempt that needs more fails", parse_mib, clears=True),
    Option("--webhook", "webhook", "URL", "who is told of its end", clears=True),
)  # fmt: skip

EDIT = (DATA, *WORK, *LATER)  # what a waiting task may become
SCHEDULED = (TYPE, DATA, *WORK, *ROUTING, *UNIQUE)  # what a schedule submits: its time and name are the tick's
SUBMIT = (TYPE, DATA, *WORK, *LATER, *ROUTING, *UNIQUE, IDEMPOTENCY)
