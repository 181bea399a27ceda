"""Queues as Python methods: what they hold, their settings; and why a task waits."""

from typing import Any
from urllib.parse import quote

from client.calls import Calls


class QueueCalls(Calls):
    """The part of the client that looks at queues and changes their settings."""

    def queues(self) -> list[dict[str, Any]]:
        """All queues: how many tasks wait, are ready and run, and the settings."""
        return list(self._call("GET", "/queues")["queues"])

    def queue(self, name: str) -> dict[str, Any]:
        """One queue; raises Rejected with code `not_found`."""
        return dict(self._call("GET", _path(name)))

    def pause(self, name: str) -> dict[str, Any]:
        """No task of the queue starts from now on; what runs goes on. The queue as it is then."""
        return dict(self._send("POST", f"{_path(name)}/pause", {}))

    def resume(self, name: str) -> dict[str, Any]:
        """Tasks of the queue start again. The queue as it is then."""
        return dict(self._send("POST", f"{_path(name)}/resume", {}))

    def limit(self, name: str, **settings: Any) -> dict[str, Any]:
        """Changes settings of a queue: `max_running`, `rate` ({"count": 100, "period_seconds": 60}), `weight`,
        `max_waiting`, `key_running`, `key_rate` (as `rate`); None takes a limit away, what is not named stays. The
        queue as it is then."""
        return dict(self._send("PATCH", _path(name), settings))

    def why(self, task_id: int) -> str | None:
        """Why a task waits, in words; None when it does not."""
        reason: str | None = self._call("GET", f"/task/{task_id}").get("waiting_because")
        return reason


def _path(name: str) -> str:
    return f"/queues/{quote(name, safe='')}"
