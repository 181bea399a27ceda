"""Settings: read once from the environment and `.env` into a frozen dataclass.

A field `lease_duration: Seconds` is the setting `LEASE_DURATION`, unless its metadata names another.
The environment beats `.env`; a setting that is set to nothing counts as unset.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NewType, TypeVar
from urllib.parse import unquote, urlsplit

from dotenv import dotenv_values

from common.durations import parse_duration
from common.places import ROOT as ROOT

Seconds = NewType("Seconds", float)
S = TypeVar("S")


class SettingError(Exception):
    """A setting has a value that cannot be used; the message names both."""

    def __init__(self, name: str, value: object, reason: str) -> None:
        super().__init__(f"setting {name}={value!s}: {reason}")


def setting(
    default: Any, name: str | None = None, low: float | None = None, high: float | None = None, secret: bool = False
) -> Any:
    """A dataclass field with its setting's name and bounds; a secret does not show in the repr."""
    return dataclasses.field(default=default, repr=not secret, metadata={"name": name, "low": low, "high": high})


def environment(env_file: Path = ROOT / ".env") -> dict[str, str]:
    """All settings that are set: `.env` first, the process environment over it."""
    values = {**dotenv_values(env_file), **os.environ} if env_file.exists() else dict(os.environ)
    return {name: value.strip() for name, value in values.items() if value and value.strip()}


def load(cls: type[S], values: Mapping[str, str], **overrides: Any) -> S:
    """An instance of a settings dataclass; raises SettingError for the first bad value."""
    given = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        name = setting_name(field)
        if field.name not in overrides and name in values:
            given[field.name] = _checked(field, name, values[name])
    return cls(**given, **overrides)


def setting_name(field: dataclasses.Field[Any]) -> str:
    """The name under which a field is set."""
    return field.metadata.get("name") or field.name.upper()


def secrets(settings: Any) -> list[str]:
    """What must not show anywhere: the values of secret settings, and the passwords in those that are URLs."""
    values = [getattr(settings, field.name) for field in dataclasses.fields(settings) if not field.repr]
    texts = [value for value in values if isinstance(value, str) and value]
    passwords = [password for text in texts if (password := _password(text))]
    return [*texts, *passwords, *(unquote(password) for password in passwords)]


def _password(text: str) -> str | None:
    try:
        return urlsplit(text).password
    except ValueError:  # not a URL at all
        return None


def _checked(field: dataclasses.Field[Any], name: str, text: str) -> Any:
    try:
        value = _PARSERS[_type_name(field)](text)
    except ValueError as error:
        raise SettingError(name, text, str(error)) from None
    low, high = field.metadata.get("low"), field.metadata.get("high")
    if low is not None and value < low:
        raise SettingError(name, text, f"must be at least {low}")
    if high is not None and value > high:
        raise SettingError(name, text, f"must be at most {high}")
    return value


def _type_name(field: dataclasses.Field[Any]) -> str:
    return field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("not a whole number") from None


def _seconds(text: str) -> float:
    """Seconds: a bare number (the classic form) or a duration with a unit."""
    try:
        number = float(text)
    except ValueError:
        return parse_duration(text)
    if not 0 <= number < float("inf"):
        raise ValueError("not a length of time")
    return number


def _boolean(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError("not yes or no")
    return words[text.lower()]


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _path(text: str) -> Path:
    """A path; a relative one counts from ROOT: the repository, or where an installed program was started."""
    return ROOT / Path(text).expanduser()


_PARSERS: dict[str, Any] = {
    "int": _integer,
    "Seconds": _seconds,
    "bool": _boolean,
    "str": str,
    "Path": _path,
    "tuple": _names,
}
