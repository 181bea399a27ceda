"""Calls about attempts: which workers do not get which types, and forgiving them."""

from collections.abc import Mapping
from typing import Any


class AttemptCalls:
    """A part of the client."""

    def blames(self) -> list[dict[str, Any]]:
        """The workers that do not get a type, because it fails on them alone."""
        return list(self._call("GET", "/blames")["blames"])

    def forgive(self, worker_id: str, task_type: str | None = None) -> int:
        """Let a worker have a type again, without a type all of them; how many that were. Raises Rejected with code
        `not_found` when there were none."""
        fields = {"worker_id": worker_id, **({} if task_type is None else {"task_type": task_type})}
        return int(self._post("/forgive", fields)["forgiven"])

    def _call(self, method: str, path: str, body: bytes | None = None, timeout: float = 30.0) -> Any:
        raise NotImplementedError

    def _post(self, path: str, fields: Mapping[str, Any], timeout: float = 30.0) -> Any:
        raise NotImplementedError
