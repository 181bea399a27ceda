"""Operations on queues, retention and recurring schedules."""

from typing import Any

from pydantic import Field

from dispatcher import errors
from dispatcher.routes import models, schedules
from dispatcher.routes.api.operation import AT, Moment, Operation, Reply, Text


class ShownRate(Reply):
    """So many starts in a stretch of time (seconds)."""

    count: int
    period_seconds: float


class ShownQueue(Reply):
    """A queue: what it holds, its limits (null: none)."""

    queue: str
    paused: bool
    pending: int
    ready: int
    running: int
    blocked: int
    max_running: int | None
    rate: ShownRate | None
    weight: int
    max_waiting: int | None
    key_running: int | None
    key_rate: ShownRate | None


class Queues(Reply):
    """All queues."""

    queues: list[ShownQueue]


class KeptFor(Reply):
    """Retentions in seconds, by state."""

    completed_seconds: float | None = None
    failed_seconds: float | None = None
    cancelled_seconds: float | None = None


class Retentions(Reply):
    """How long ended tasks are kept, in general and in the queues that say otherwise."""

    default: KeptFor
    queues: dict[str, KeptFor]


class Tick(Reply):
    """A moment at which a schedule fires."""

    at: Moment
    in_words: str


class ShownSchedule(Reply):
    """A recurring schedule."""

    name: str
    cron: Text
    zone: Text
    every: Text
    in_words: str
    catch_up: str
    paused: bool
    last_task_id: int | None
    last_error: Text
    last_skipped: dict[str, Any] | None = Field(description="which ticks were left out last, and why")
    next_at: Moment | None
    last_at: Moment | None
    created_at: Moment | None
    updated_at: Moment | None
    task: dict[str, Any]
    next_ticks: list[Tick] = Field(default_factory=list)


class SchedulePage(Reply):
    """A page of schedules."""

    schedules: list[ShownSchedule]
    next_after: Text


class ScheduleDeleted(Reply):
    """It is gone."""

    name: str
    deleted: bool


class ScheduleRun(Reply):
    """The task of this run."""

    name: str
    task_id: int
    created: bool


QUEUE = {
    "queue": "default", "paused": False, "pending": 12, "ready": 10, "running": 4, "blocked": 0, "max_running": 10,
    "rate": {"count": 100, "period_seconds": 60}, "weight": 1, "max_waiting": None, "key_running": None,
    "key_rate": None,
}  # fmt: skip
KEPT = {
    "default": {"completed_seconds": 604800, "failed_seconds": 2592000, "cancelled_seconds": 2592000},
    "queues": {"reports": {"completed_seconds": 86400}},
}
NIGHTLY: dict[str, Any] = {
    "name": "nightly", "cron": "30 2 * * *", "zone": "Europe/Berlin", "every": None, "in_words": "at 02:30",
    "catch_up": "skip", "paused": False, "last_task_id": None, "last_error": None, "last_skipped": None,
    "next_at": AT, "last_at": None,
    "created_at": AT, "updated_at": AT, "task": {"task_type": "noop", "task_data": {}},
}  # fmt: skip
TICKING = {**NIGHTLY, "next_ticks": [{"at": AT, "in_words": "Sunday 2026-11-22 10:00"}]}
NEW = {"name": "nightly", "cron": "30 2 * * *", "zone": "Europe/Berlin", "task": {"task_type": "noop"}}

OPERATIONS = (
    Operation(
        "get", "/queues", None, Queues, "All queues: what they hold, their settings",
        "Those that hold or held tasks, and those with settings. null: no limit.", {"queues": [QUEUE]},
    ),
    Operation(
        "get", "/queues/{name}", None, ShownQueue, "One queue", "What it holds, its limits; null: no limit.", QUEUE,
        errors=(errors.NotFound,),
    ),
    Operation(
        "patch", "/queues/{name}", models.QueueChanges, ShownQueue, "Change settings of a queue",
        "null takes a limit away. What is not named stays as it is. Rates are starts in `period_seconds`.", QUEUE,
        {"max_running": 10, "rate": {"count": 100, "period_seconds": 60}}, errors=(errors.NotFound,),
    ),
    Operation(
        "post", "/queues/{name}/pause", models.Nothing, ShownQueue, "No task of the queue starts until it is resumed",
        "What runs goes on. The body may be left out.", {**QUEUE, "paused": True}, {}, errors=(errors.NotFound,),
    ),
    Operation(
        "post", "/queues/{name}/resume", models.Nothing, ShownQueue, "Go on", "The body may be left out.", QUEUE, {},
        errors=(errors.NotFound,),
    ),
    Operation(
        "get", "/retention", None, Retentions, "How long ended tasks are kept",
        "In seconds: in general, and in the queues that say otherwise.", KEPT,
    ),
    Operation(
        "post", "/retention", models.Retention, Retentions, "Set how long a queue's ended tasks are kept",
        "Without `queue`: of every queue that says nothing itself. null: no longer said here.", KEPT,
        {"queue": "reports", "completed_seconds": 86400},
    ),
    Operation(
        "get", "/schedules", None, SchedulePage, "Recurring schedules by name, page by page",
        "Give `next_after` as `after` for the next page.", {"schedules": [NIGHTLY], "next_after": None},
        query=("limit", "after"),
    ),
    Operation(
        "post", "/schedules", schedules.NewSchedule, ShownSchedule,
        "Make a recurring schedule, or look what it would do",
        "Either `cron` (five fields, read in `zone`) or `every` (a length of time with a unit, like `15m`). 201: it is "
        "new. 200: the very same was there, or `dry_run`.", TICKING, NEW, 201, also=(200,),
        errors=(errors.ScheduleExists, errors.Unsupported),
    ),
    Operation(
        "get", "/schedules/{name}", None, ShownSchedule, "A schedule and its next ticks",
        "In words too, with the last outcome.", TICKING, errors=(errors.NotFound,),
    ),
    Operation(
        "patch", "/schedules/{name}", schedules.ScheduleChanges, ShownSchedule,
        "Change a schedule, pause it, resume it", "What is not named stays as it is; at least one field must be.",
        TICKING, {"paused": True}, errors=(errors.NotFound, errors.Unsupported),
    ),
    Operation(
        "delete", "/schedules/{name}", None, ScheduleDeleted, "Delete a schedule; the tasks that it submitted stay",
        "Nothing fires any more.", {"name": "nightly", "deleted": True}, errors=(errors.NotFound,),
    ),
    Operation(
        "post", "/schedules/{name}/run", schedules.RunSchedule, ScheduleRun, "Submit a schedule's task now",
        "Beside its ticks. 200: this `idempotency_key` ran it before.",
        {"name": "nightly", "task_id": 1, "created": True}, {}, 201, also=(200,),
        errors=(errors.NotFound, errors.KeyConflict, errors.BacklogFull),
    ),
)  # fmt: skip
