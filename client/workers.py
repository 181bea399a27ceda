"""What a client says of workers, and what it asks of what tasks show while they run."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from client.calls import Calls


class WorkerCalls(Calls):
    """Mixed into `Client`."""

    def workers(self) -> list[dict[str, Any]]:
        """The workers that live, and the newest instance of each that does not: what they are, and their orders."""
        return list(self._call("GET", "/workers")["workers"])

    def order_worker(self, worker_id: str, state: str, when: str | None = None) -> int:
        """Have a worker `run`, be `quiet` (finish, take nothing new), `sleep` (also give back what it has not begun) or
        `stop` (`when`, of these two: "after" what runs, or "now"); how many living instances that reached. Raises
        Rejected with code `not_found` for a name never seen."""
        order: Mapping[str, Any] = {"state": state} if when is None else {"state": state, "when": when}
        return int(self._send("PATCH", f"/workers/{quote(worker_id, safe='')}", order)["instances"])

    def log_after(self, task_id: int, cursor: str = "") -> dict[str, Any]:
        """The `lines` that a task has logged since the answer whose `cursor` this is, and its `status`."""
        return dict(self._call("GET", f"/task/{task_id}/log?{urlencode({'after': cursor})}"))

    def log(self, task_id: int) -> list[str]:
        """The last lines that a task has logged, while it runs and after."""
        return list(self._call("GET", f"/task/{task_id}/log")["lines"])
