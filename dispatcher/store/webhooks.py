"""The part of the contract that is about webhooks: what is to be told of tasks that have ended."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol


class Hook(NamedTuple):
    """One delivery; the column order of its table. `tries` have begun; the next may at `due_at`, UTC milliseconds."""

    delivery: str
    task_id: int
    url: str
    body: str
    tries: int
    due_at: int
    host: str


COLUMNS = ", ".join(Hook._fields)
MOST_COUNTED = 10_000


class HookOps(Protocol):
    """What an operation may do with deliveries."""

    def add_hooks(self, hooks: Sequence[Hook]) -> None:
        """Store new deliveries."""

    def take_hooks(self, limit: int, until: int, spared: Collection[str], since: int) -> list[Hook]:
        """Deliveries that are due (not before `since`), the oldest first, but none to the spared hosts: each has one
        try more, and nobody else takes it before `until`."""

    def drop_hook(self, hook: Hook) -> bool:
        """Delete a delivery; False when another try of it has begun meanwhile."""

    def put_off_hook(self, hook: Hook, due_at: int) -> bool:
        """Let a delivery be due then; False when another try of it has begun meanwhile."""


class HookReads(Protocol):
    """What a reader tells of deliveries."""

    def next_hook(self) -> int | None:
        """When the next delivery is due, UTC milliseconds; None: there are none."""

    def open_hooks(self) -> int:
        """How many deliveries are open, counted up to MOST_COUNTED."""
