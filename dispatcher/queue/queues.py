"""Queues as operators see them: settings, how far limits are used up; pause, resume and other changes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from dispatcher.model import QueueSettings
from dispatcher.queue.queue import Queue
from dispatcher.store.base import Tx

KEYS_AT_ONCE = 100
KEY_LIMITS = frozenset({"key_running", "key_rate_count"})
STATES = ("blocked", "pending", "ready", "in_progress")


class QueueView(NamedTuple):
    """A queue: its settings, how many of its tasks are in each state (and ready), since when the oldest ready one waits
    (wall, ms)."""

    settings: QueueSettings
    counts: dict[str, int]
    oldest: int | None


def listed(queue: Queue) -> list[QueueView]:
    """All queues that ever had tasks or settings, by name."""
    with queue.store.read() as reader:
        settings, counts, oldest = reader.queue_settings(), reader.counts(), reader.oldest_by_queue()
    sums: dict[str, dict[str, int]] = {name: dict.fromkeys(STATES, 0) for name in settings}
    for (name, _), numbers in counts.items():
        of_queue = sums.setdefault(name, dict.fromkeys(STATES, 0))
        for state in STATES:
            of_queue[state] += numbers.get(state, 0)
    return [QueueView(settings.get(name, QueueSettings(name)), sums[name], oldest.get(name)) for name in sorted(sums)]


def configure(queue: Queue, name: str, changes: Mapping[str, Any]) -> QueueSettings:
    """Change settings of a queue. From the answer on they hold everywhere, and who waits for what they allow has it."""
    settings = queue.store.write(lambda tx: tx.configure(name, changes))
    queue.store.write(lambda tx: _announce(tx, name))
    if not KEY_LIMITS.isdisjoint(changes):
        after: str | None = ""
        while after is not None:
            after = queue.store.write(lambda tx, after=after: tx.resettle_keys(name, after, KEYS_AT_ONCE))  # type: ignore[misc]
    return settings


def _announce(tx: Tx, name: str) -> None:
    tx.announce_settings()
    tx.freshen(name)


def _freshen(tx: Tx, names: list[str]) -> None:
    for name in names:
        tx.freshen(name)


def wake_rated(queue: Queue, now: int) -> int:
    """Serve the waiting claims what rates allow by now (steady clock); how many queues that were."""
    due = queue.waiting.due(now)
    if due:
        queue.store.write(lambda tx: _freshen(tx, due))
    return len(due)
