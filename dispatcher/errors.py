"""What can go wrong for a caller: one small class per cause; `routes/errors.py` maps them to HTTP."""


class DispatcherError(Exception):
    """Base of all; `status` and `code` are what a caller sees (docs/protocol.md)."""

    status = 500
    code = "internal"
    retry_after: int | None = None


class Invalid(DispatcherError):
    """A field of a request is wrong."""

    status, code = 400, "invalid"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)


class Unsupported(DispatcherError):
    """A field whose feature has not landed yet."""

    status, code = 400, "unsupported"

    def __init__(self, field: str) -> None:
        super().__init__(f"{field}: not supported by this version")


class WebhooksOff(Unsupported):
    """Webhooks are off."""

    def __init__(self, field: str) -> None:
        DispatcherError.__init__(self, f"{field}: this dispatcher sends none (WEBHOOK_SECRET is not set)")


class Unauthorized(DispatcherError):
    """No token, or a wrong one."""

    status, code = 401, "unauthorized"

    def __init__(self) -> None:
        super().__init__("a valid bearer token is required (setting DISPATCHER_TOKEN)")


class TooManyGuesses(DispatcherError):
    """Too many wrong tokens came from this address; for a while none is looked at."""

    status, code = 429, "wrong_tokens"

    def __init__(self, seconds: int = 60) -> None:
        super().__init__(f"too many wrong tokens came from this address: no token is looked at for {seconds} s")
        self.retry_after = seconds


class Forbidden(DispatcherError):
    """A request that a browser page of another origin could have sent."""

    status, code = 403, "forbidden"

    def __init__(self, header: str, reason: str) -> None:
        super().__init__(f"{header}: {reason}")


class ReadOnly(Forbidden):
    """A reader's token, where something would change."""

    def __init__(self) -> None:
        super().__init__("read-only", "this access may look, and change nothing")


class NotFound(DispatcherError):
    """What was asked for does not exist."""

    status, code = 404, "not_found"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} not found")


class KeyConflict(DispatcherError):
    """An idempotency key came back with another body."""

    status, code = 409, "conflict"

    def __init__(self, key: str) -> None:
        super().__init__(f"idempotency_key: {key!r} was used with another body")


class NotWaiting(DispatcherError):
    """Only a task that waits can be edited."""

    status, code = 409, "not_waiting"

    def __init__(self, task_id: int, state: str) -> None:
        super().__init__(f"task {task_id} is {state}: only a task that waits can be edited")


class NotFinal(DispatcherError):
    """Only a task that has ended can be retried or deleted."""

    status, code = 409, "not_final"

    def __init__(self, task_id: int, advice: str = "only a task that has ended can be retried or deleted") -> None:
        super().__init__(f"task {task_id} has not ended: {advice}")


class Foreign(DispatcherError):
    """A lease of another store."""

    status, code = 409, "foreign"

    def __init__(self) -> None:
        super().__init__("store_id: this lease belongs to another store")


class InstanceDead(DispatcherError):
    """The instance was reported dead and must start anew."""

    status, code = 409, "instance_dead"

    def __init__(self) -> None:
        super().__init__("instance_id: reported dead; start anew under a fresh instance_id")


class BacklogFull(DispatcherError):
    """A queue takes no more waiting tasks; nothing of the request was stored."""

    status, code, retry_after = 429, "backlog_full", 5

    def __init__(self, queue: str, limit: int) -> None:
        super().__init__(f"queue: {queue} has no room for these tasks, at most {limit} may wait in it")


class TooLarge(DispatcherError):
    """Something passes its limit."""

    status, code = 413, "too_large"

    def __init__(self, what: str, size: int | None, limit: int) -> None:
        found = "" if size is None else f"{size} bytes, "
        super().__init__(f"{what}: {found}the limit is {limit} bytes")


class Unavailable(DispatcherError):
    """The store cannot take writes now; nothing of the request was stored."""

    status, code, retry_after = 503, "unavailable", 1

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class TooManyStreams(Unavailable):
    """As many listen to events as the server has threads for."""

    retry_after = 5

    def __init__(self, source: str = "") -> None:
        whose = f" for {source}" if source else ""
        super().__init__(f"too many streams of events are open{whose}, or the dispatcher is stopping")


class OutcomeUnknown(Unavailable):
    """The store went away in the middle of a COMMIT: the request may be stored all the same."""

    def __init__(self) -> None:
        super().__init__("the database went away: what was sent may be stored all the same")


class StorageFull(DispatcherError):
    """The disk is full; nothing of the request was stored."""

    status, code, retry_after = 507, "storage_full", 5

    def __init__(self) -> None:
        super().__init__("the dispatcher's disk is full")


class CopyRuns(Unavailable):
    """One copy of the database is made at a time."""

    def __init__(self) -> None:
        super().__init__("another backup is being made")


class NoRoom(StorageFull):
    """A copy of the database would fill the disk."""

    def __init__(self) -> None:
        DispatcherError.__init__(self, "the dispatcher's disk is too full for a copy of its database")


class NotAFile(Unsupported):
    """The store is a database server, which has tools of its own."""

    def __init__(self, instead: str = "back up its database with pg_dump") -> None:
        DispatcherError.__init__(self, f"this queue is not one SQLite file: {instead}")


class MoveRuns(DispatcherError):
    """One move at a time."""

    status, code = 409, "conflict"

    def __init__(self, target: str) -> None:
        super().__init__(f"the queue is on its way to {target} already")


class NothingToMove(Unsupported):
    """The queue lives in a database server already."""

    def __init__(self) -> None:
        DispatcherError.__init__(self, "this dispatcher's queue is not one SQLite file: there is nothing to move")


class NotUnique(DispatcherError):
    """A task that cannot run again beside its twin."""

    status, code = 409, "conflict"

    def __init__(self, task_id: int) -> None:
        super().__init__(f"task {task_id}: another unfinished task holds its unique_key")


class ScheduleExists(DispatcherError):
    """Another schedule has this name."""

    status, code = 409, "conflict"

    def __init__(self, name: str) -> None:
        super().__init__(f"name: there is another schedule {name!r}; change it with PATCH /schedules/{name}")


class BadBackup(Exception):
    """A file that cannot be restored; the message is one clear line."""


class CannotOpen(Exception):
    """The store cannot be opened; the message is one clear line for the operator."""


class InUse(CannotOpen):
    """Another process holds the dispatcher's lock."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} is in use by another dispatcher")
