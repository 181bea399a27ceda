"""The log of a process: lines on stderr, one event a line, as text or as JSON; what is secret is masked in either."""

import json
import logging
import re
import sys
from collections.abc import Collection
from datetime import datetime, timezone

from common.settings import SettingError

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
FORMATS = ("text", "json")
MASK = "***"
SHORTEST = 6  # a shorter secret would mask parts of ordinary words
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def check(level: str, form: str) -> None:
    """Raises SettingError for a level or a form that there is not."""
    if level.upper() not in LEVELS:
        raise SettingError("LOG_LEVEL", level, f"must be {', '.join(LEVELS[:-1])} or {LEVELS[-1]}")
    if form.lower() not in FORMATS:
        raise SettingError("LOG_FORMAT", form, f"must be {' or '.join(FORMATS)}")


def set_up(level: str, form: str, secrets: Collection[str] = (), worker: str | None = None) -> None:
    """Send the log of the whole process to stderr; `worker` is a worker's name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json(secrets, worker) if form.lower() == "json" else Text(secrets, worker))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class Masked:
    """Masks secrets."""

    def __init__(self, secrets: Collection[str]) -> None:
        told = sorted((re.escape(secret) for secret in secrets if len(secret) >= SHORTEST), key=len, reverse=True)
        self._pattern = re.compile("|".join(told)) if told else None

    def __call__(self, text: str) -> str:
        """The text without them."""
        return self._pattern.sub(MASK, text) if self._pattern else text


class Text(logging.Formatter):
    """A plain line; control characters (a newline of a traceback, an escape of a handler's text) stand as text."""

    def __init__(self, secrets: Collection[str], worker: str | None) -> None:
        source = worker.replace("%", "%%") if worker else "%(name)s"
        super().__init__(f"%(asctime)s %(levelname)s {source}: %(message)s")
        self._mask = Masked(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return _CONTROL.sub(lambda found: repr(found.group())[1:-1], self._mask(super().format(record)))


class Json(logging.Formatter):
    """A JSON object: time (RFC 3339, UTC), level, logger, message, a worker's name, and of an error its traceback."""

    def __init__(self, secrets: Collection[str], worker: str | None) -> None:
        super().__init__()
        self._mask, self._worker = Masked(secrets), worker

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, timezone.utc)
        told = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": self._mask(record.getMessage()),
        }
        if self._worker:
            told["worker"] = self._worker
        if record.exc_info:
            told["exception"] = self._mask(self.formatException(record.exc_info))
        return json.dumps(told)
