"""Payload schemas: workers publish one for a task type, submits of that type are held to it.

The dispatcher runs no user code: a schema is data (JSON Schema), checked by a library.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any, NoReturn

import jsonschema_rs

from dispatcher.errors import Invalid

log = logging.getLogger("taskmill.schemas")


def _fetch_nothing(uri: str) -> NoReturn:
    """A `$ref` to an address or a file is not followed."""
    raise ValueError(f"{uri} is not fetched")


class Schemas:
    """The validators of the known task types."""

    def __init__(self, texts: Mapping[str, str | None]) -> None:
        self._texts: dict[str, str | None] = {}
        self._validators: dict[str, Any] = {}
        self.learn(texts)

    def is_news(self, texts: Mapping[str, str | None]) -> bool:
        """Whether a worker publishes anything that is not known yet."""
        return any(name not in self._texts or self._texts[name] != text for name, text in texts.items())

    def learn(self, texts: Mapping[str, str | None]) -> None:
        """Take over published schemas; one that is no schema is logged and checks nothing."""
        for name, text in texts.items():
            self._texts[name] = text
            self._validators.pop(name, None)
            if text is not None:
                self._compile(name, text)

    def _compile(self, name: str, text: str) -> None:
        try:
            self._validators[name] = jsonschema_rs.validator_for(json.loads(text), retriever=_fetch_nothing)
        except Exception as error:  # the library raises several kinds; none may stop a heartbeat
            log.warning("the payload schema of %s cannot be used: %s", name, str(error).partition("\n")[0])

    def check(self, task_type: str, data: Any, field: str) -> None:
        """Raise Invalid naming the place in the data that breaks the schema of this type."""
        validator = self._validators.get(task_type)
        if validator is None or validator.is_valid(data):
            return
        error = next(iter(validator.iter_errors(data)))
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
        raise Invalid(f"{field}{path}", error.message)
