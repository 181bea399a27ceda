"""The client's part about later: recurring schedules, and tasks that may exist only once."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from client import bodies
from client.calls import Calls

Schedule = dict[str, Any]
_PAGE = 100


class Submitted(NamedTuple):
    """A task's id, and whether this submit made it."""

    task_id: int
    created: bool


class LaterCalls(Calls):
    """Mixed into the client."""

    def submit_unique(
        self,
        task_type: str,
        data: Mapping[str, Any] | None = None,
        *,
        unique_key: str,
        unique_for: float | str | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Submitted:
        """Submit a task unless one with this `unique_key` is unfinished, or (`unique_for`) was submitted within so many
        seconds; then the answer is that one's id. `fields` are those of `submit`."""
        task = {"task_type": task_type, "task_data": data, "unique_key": unique_key, "unique_for": unique_for, **fields}
        body = bodies.task_text(task, idempotency_key or bodies.new_key()).encode("utf-8")
        reply = self._call("POST", "/submit-task", body)
        return Submitted(int(reply["task_id"]), bool(reply["created"]))

    def schedules(self) -> Iterator[Schedule]:
        """All recurring schedules, by name."""
        after = ""
        while True:
            query = {"limit": _PAGE, **({"after": after} if after else {})}
            page = self._call("GET", f"/schedules?{urlencode(query)}")
            yield from page["schedules"]
            if page["next_after"] is None:
                return
            after = page["next_after"]

    def schedule(self, name: str) -> Schedule:
        """A schedule and its next ticks; raises Rejected with code `not_found`."""
        return dict(self._call("GET", f"/schedules/{name}"))

    def create_schedule(self, name: str, task: Mapping[str, Any], **fields: Any) -> Schedule:
        """Make a schedule of `cron` (and `zone`) or `every`, with `catch_up`, `paused`, `dry_run` as wanted. `task` has
        the fields of a submit. The same one may be made again; Rejected with code `conflict` when there is another."""
        return dict(self._send("POST", "/schedules", {"name": name, "task": task, **fields}))

    def change_schedule(self, name: str, **changes: Any) -> Schedule:
        """Change `cron`, `zone`, `every`, `task`, `catch_up` or `paused`; the rest stays."""
        return dict(self._send("PATCH", f"/schedules/{name}", changes))

    def delete_schedule(self, name: str) -> None:
        """Delete a schedule; the tasks that it submitted stay. Raises Rejected with code `not_found`."""
        self._call("DELETE", f"/schedules/{name}")

    def run_schedule(self, name: str, *, idempotency_key: str | None = None) -> Submitted:
        """Submit a schedule's task now, beside its ticks."""
        reply = self._send("POST", f"/schedules/{name}/run", {"idempotency_key": idempotency_key or bodies.new_key()})
        return Submitted(int(reply["task_id"]), bool(reply["created"]))
