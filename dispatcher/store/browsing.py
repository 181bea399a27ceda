"""The contract of a store about looking around, live events and history: a part of `base.py`, with its promises."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from dispatcher.model import State
from dispatcher.store.browse import Ended, Sieve


class HistoryOps(Protocol):
    """Operations inside a transaction."""

    def put_history(self, rows: Sequence[tuple[int, int, str, str]], old: Sequence[tuple[int, int]]) -> None:
        """Write stretches of time (step in seconds, when it began, who writes, JSON text), each in place of what stood
        there; forget those of a step that began before a wall time."""


class BrowseReads(Protocol):
    """Reads of one moment."""

    def signs(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """How these tasks stand, without data and result; the columns of `browse.SIGN`."""

    def listed(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """These tasks as a list shows them, with their data and the newest error, in that order; `browse.ROW`."""

    def newest_ended(self, state: State, lanes: Iterable[int], before: Ended | None, limit: int) -> list[Ended]:
        """The tasks of these lanes that ended so, the newest end first, behind a place."""

    def stretch(self, sieve: Sieve, below: int, size: int) -> tuple[list[int], int | None, int]:
        """Of the next `size` tasks below an id those that pass, the newest first; the lowest id that was looked at
        (None: there are no more), and how many were."""

    def few(self, state: State, most: int) -> list[int] | None:
        """All tasks that run, or all pending ones but those that their key's limit holds, the newest first; None when
        there are more."""

    def lane_ids(self) -> list[tuple[int, str, str]]:
        """Every lane: id, queue, task type."""

    def ended_since(self, wall: int, limit: int = 500) -> list[int]:
        """Tasks that ended since that wall time, of each lane and state the newest ones up to the limit."""

    def history(self, step: int, since: int) -> list[tuple[int, str]]:
        """The stretches of that many seconds that began since then, of all dispatchers: when, and JSON text."""
