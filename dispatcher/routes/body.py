"""Request bodies and queries: read under a cap, parsed in our JSON profile, validated; faults name the field."""

import re
from typing import Any, TypeVar

from flask import request
from pydantic import BaseModel, ValidationError

from common import json_profile
from dispatcher.config import BODY_LIMIT
from dispatcher.errors import Invalid, TooLarge, Unsupported
from dispatcher.routes.models import NAME

M = TypeVar("M", bound=BaseModel)
ENVELOPE_DEPTH = 2 * json_profile.MAX_DEPTH  # what the profile allows is for the values within; each is held to it
LATER = frozenset({"depends_on"})  # later features


def read(limit: int = BODY_LIMIT) -> bytes:
    """The whole body, of a declared length or chunked. Raises TooLarge."""
    declared = request.content_length
    if declared is not None and declared > limit:
        raise TooLarge("request body", declared, limit)
    body = request.stream.read(limit + 1)
    if len(body) > limit:
        raise TooLarge("request body", None, limit)
    return body


def parse(model: type[M], body: bytes | None = None) -> M:
    """The body, that of the present request unless it is given, as this model. Raises Invalid, Unsupported or
    TooLarge."""
    return validate(model, parse_object(body))


def nothing() -> None:
    """Refuse a body that says anything: the path says it all. Raises Invalid or TooLarge."""
    empty = not request.content_length and "Transfer-Encoding" not in request.headers
    if not empty and (said := parse_object()):
        raise Invalid(next(iter(said)), "unknown field")


def parse_object(body: bytes | None = None) -> dict[str, Any]:
    """The body, that of the present request unless it is given, as a JSON object. Raises Invalid or TooLarge."""
    if body is None:
        body = read()
    if not body:
        raise Invalid("", "the request needs a JSON body")
    try:
        value = json_profile.parse(body, ENVELOPE_DEPTH)
    except json_profile.JsonError as error:
        raise Invalid("body", str(error)) from None
    if not isinstance(value, dict):
        raise Invalid("body", "must be a JSON object")
    return value


def validate(model: type[M], value: dict[str, Any]) -> M:
    """A value as this model. Raises Invalid or Unsupported."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise fault(error) from None


def text_of(value: Any, field: str) -> str:
    """An opaque value as the JSON text that is stored. Raises Invalid, naming the field."""
    try:
        return json_profile.dump_again(value)
    except json_profile.JsonError as error:
        raise Invalid(field, str(error)) from None


def fault(error: ValidationError) -> Invalid | Unsupported:
    """The first fault that a model found, as ours: field and reason."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = _path(first["loc"])
    if first["type"] == "extra_forbidden":
        return Unsupported(field) if first["loc"][-1] in LATER else Invalid(field, "unknown field")
    if first["type"] == "missing":
        return Invalid(field, "is required")
    return Invalid(field, first["msg"].removeprefix("Value error, "))


def _path(loc: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def query_int(name: str, default: int | None, low: int, high: int) -> int | None:
    """A whole number in the query string. Raises Invalid."""
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and low <= int(text) <= high):
        raise Invalid(name, f"must be a whole number from {low} to {high}")
    return int(text)


def is_name(text: str) -> bool:
    """Whether it may name a queue, a type, a tag, a schedule or a worker."""
    return re.fullmatch(NAME.strip("^$"), text) is not None


def name(field: str, text: str) -> str:
    """A name that came in a path or the query string. Raises Invalid, naming the field."""
    if not is_name(text):
        raise Invalid(field, "must be 1 to 128 characters of A-Z a-z 0-9 _ . : -")
    return text


def query_seconds(name: str, high: float) -> float:
    """A length of time in the query string, 0 when it is not there. Raises Invalid."""
    try:
        seconds = float(request.args.get(name, "0"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= high:
        raise Invalid(name, f"must be a number of seconds from 0 to {high:g}")
    return seconds


def known_arguments(*names: str) -> None:
    """Refuse a query argument that the endpoint does not know."""
    for name in request.args:
        if name not in names:
            raise Invalid(name, "unknown argument")
