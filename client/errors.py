"""What can go wrong between a client and the dispatcher: one class per cause, each builds its message."""

from collections.abc import Sequence
from typing import Any


class ClientError(Exception):
    """Base of everything that this package raises on purpose."""


class TransportError(ClientError):
    """One exchange with the dispatcher did not bring what was asked for."""


class Unreachable(TransportError):
    """No whole answer came: refused, reset, timed out, name unknown, TLS not agreed."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no answer from the dispatcher at {url}: {reason}")
        self.url, self.reason = url, reason


class NoneAnswered(Unreachable):
    """None of several dispatchers gave an answer of a dispatcher; `url` names them all, `reason` why for each."""

    def __init__(self, errors: Sequence[TransportError]) -> None:
        causes = [error for error in errors if isinstance(error, (Unreachable, BadReply))]
        self.url = ", ".join(error.url for error in causes)
        self.reason = ", ".join(f"{error.url} ({error.reason})" for error in causes)
        TransportError.__init__(self, f"no answer from any dispatcher: {self.reason}")


class BadReply(TransportError):
    """An answer came which is not a dispatcher's: no JSON envelope, a redirect, or too large."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url} did not answer like a dispatcher: {reason}")
        self.url, self.reason = url, reason


class Refused(TransportError):
    """A 4xx or 5xx. `code` is the error's code on the wire, or `http_<status>` when the body named none."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{message} (HTTP {status}, {code})")
        self.status, self.code, self.message = status, code, message
        self.retry_after = retry_after


class Rejected(ClientError):
    """The dispatcher will never accept this request as it stands (4xx); `message` names field and reason."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(f"the dispatcher refused this: {refused.message} ({refused.code})")
        self.status, self.code, self.message = refused.status, refused.code, refused.message


class TaskFailed(ClientError):
    """The task ended `failed`; `task` is its last state, `error` the reason it gave."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task, self.task_id, self.error = task, task["task_id"], task.get("error")
        super().__init__(f"task {self.task_id} failed: {self.error or 'no reason given'}")


class TaskCancelled(ClientError):
    """The task was cancelled; `task` is its last state."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task, self.task_id, self.error = task, task["task_id"], task.get("error")
        super().__init__(f"task {self.task_id} was cancelled" + (f": {self.error}" if self.error else ""))


class StillOpen(ClientError):
    """The time given for waiting is over and these tasks have not ended."""

    def __init__(self, task_ids: list[int], timeout: float) -> None:
        named = ", ".join(str(task_id) for task_id in task_ids[:5]) + (", …" if len(task_ids) > 5 else "")
        super().__init__(f"not ended after {timeout:g} s: {len(task_ids)} task(s): {named}")
        self.task_ids = task_ids
