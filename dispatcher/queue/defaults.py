"""What a task type wants unless its task says otherwise: workers publish it with their handlers, submits use it.

Kept in memory, so that it costs a submit nothing; the store holds it for the next start and for other dispatchers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from common.durations import whole_ms
from dispatcher.queue.terms import BACKOFF, Backoff


@dataclass(frozen=True, slots=True)
class TypeDefaults:
    """Each None stands for the dispatcher's own default."""

    max_attempts: int | None = None
    timeout_ms: int | None = None
    backoff: Backoff | None = None


NONE = TypeDefaults()


class Defaults:
    """The defaults of the known task types."""

    def __init__(self, texts: Mapping[str, str | None] | None = None) -> None:
        self._texts: dict[str, str | None] = {}
        self._types: dict[str, TypeDefaults] = {}
        self.learn(texts or {})

    def is_news(self, texts: Mapping[str, str | None]) -> bool:
        """Whether a worker publishes anything that is not known yet."""
        return any(self._texts.get(name) != text for name, text in texts.items())

    def learn(self, texts: Mapping[str, str | None]) -> None:
        """Take over published defaults."""
        self._texts.update(texts)
        self._types.update({name: _parsed(text) for name, text in texts.items()})

    def of(self, task_type: str) -> TypeDefaults:
        """What this type wants."""
        return self._types.get(task_type, NONE)


NOTHING = Defaults()


def _parsed(text: str | None) -> TypeDefaults:
    if text is None:
        return NONE
    told = json.loads(text)
    timeout, backoff = told.get("timeout_seconds"), told.get("backoff")
    return TypeDefaults(
        told.get("max_attempts"),
        None if timeout is None else whole_ms(timeout),
        None if backoff is None else Backoff(**backoff),
    )


def backoff_of(own: Mapping[str, float] | None, of_type: TypeDefaults) -> Backoff:
    """How a task is tried again: what it says itself, then what its type wants."""
    return Backoff(**own) if own is not None else of_type.backoff or BACKOFF
