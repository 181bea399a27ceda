"""What a task rarely asks for: kept as one JSON object beside its data, read only when it matters.

A task without options has none of it stored and pays nothing. The names here are those of the submit; lengths of time
are seconds, as there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from dispatcher.store.base import Tx


@dataclass(frozen=True, slots=True)
class Options:
    """Each None stands for the default of the task's type, or of the dispatcher."""

    memory_mb: int | None = None
    unique_key: str | None = None
    backoff: Mapping[str, float] | None = None  # the fields of `terms.Backoff` that it names
    wait_seconds: float | None = None
    total_seconds: float | None = None
    webhook: str | None = None  # who is told of its end

    def dump(self) -> str | None:
        """As JSON text; None when there is nothing in it."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(said) if said else None


NAMES = frozenset(one.name for one in fields(Options))


def parse(text: str | None) -> Options:
    """The options in a stored text."""
    return Options(**json.loads(text)) if text else Options()


def of(tx: Tx, ids: Sequence[int]) -> Mapping[int, Options]:
    """The options of these tasks."""
    stored = tx.options(ids)
    return {task_id: parse(stored.get(task_id)) for task_id in ids}
