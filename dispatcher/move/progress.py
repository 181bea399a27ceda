"""How far a move is: written by the thread that moves, read by anybody."""

import time
from dataclasses import dataclass, field
from typing import Any

CHECKING, COPYING, VERIFYING, SWITCHING, DONE, FAILED, CHECKED = (
    "checking", "copying", "verifying", "switching", "done", "failed", "checked",
)  # fmt: skip
OVER = frozenset({DONE, FAILED, CHECKED})


@dataclass
class Progress:
    """`rows` and `copied` by table; `delta` is how many changes wait to follow."""

    source: str
    target: str
    dry_run: bool
    phase: str = CHECKING
    note: str = ""
    store_id: str = ""
    rows: dict[str, int] = field(default_factory=dict)
    copied: dict[str, int] = field(default_factory=dict)
    delta: int = 0
    changes: int = 0
    verified: int = 0
    frozen_seconds: float | None = None
    error: str | None = None
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing happens any more."""
        return self.phase in OVER

    def add(self, table: str, rows: int) -> None:
        """Rows were copied; there may be more by now than were counted."""
        self.copied[table] = self.copied.get(table, 0) + rows
        self.rows[table] = max(self.rows[table], self.copied[table])

    def end(self, phase: str, error: str | None = None) -> None:
        """The last word."""
        self.error, self.ended = error, time.monotonic()
        self.phase = phase

    def told(self) -> dict[str, Any]:
        """As it goes out."""
        seconds = (self.ended or time.monotonic()) - self.began
        names = list(self.rows)  # it may grow meanwhile
        return {
            "phase": self.phase, "from": self.source, "to": self.target, "dry_run": self.dry_run, "note": self.note,
            "store_id": self.store_id, "seconds": round(seconds, 2), "delta": self.delta, "changes": self.changes,
            "tables": {name: {"rows": self.rows[name], "copied": self.copied.get(name, 0)} for name in names},
            "verified_rows": self.verified, "frozen_seconds": self.frozen_seconds, "error": self.error,
        }  # fmt: skip
