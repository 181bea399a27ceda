"""Calls about attempts: which workers do not get which types, and forgiving them."""

from typing import Any

from client.calls import Calls


class AttemptCalls(Calls):
    """A part of the client."""

    def blames(self) -> list[dict[str, Any]]:
        """The workers that do not get a type, because it fails on them alone."""
        return list(self._call("GET", "/blames")["blames"])

    def forgive(self, worker_id: str, task_type: str | None = None) -> int:
        """Let a worker have a type again, without a type all of them; how many that were. Raises Rejected with code
        `not_found` when there were none."""
        fields = {"worker_id": worker_id, **({} if task_type is None else {"task_type": task_type})}
        return int(self._post("/forgive", fields)["forgiven"])
