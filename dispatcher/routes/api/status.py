"""Operations on the dispatcher itself: counts, health, backup, move, this document."""

from typing import Any, Literal

from pydantic import Field

from dispatcher import errors
from dispatcher.routes import models
from dispatcher.routes.api.operation import Operation, Reply
from dispatcher.routes.api.work import ShownWorker


class CopyComing(Reply):
    """A copy that is being made; ask again under its name."""

    copy_: str = Field(alias="copy")
    share: float = Field(description="from 0 to 1")


class FileSeen(Reply):
    """How the database file was found."""

    whole: bool | None = Field(description="null: it was not read to its end")
    found: str = Field(description="`ok`, or the first fault")
    seconds: float


class MoveShown(Reply):
    """How a move stands."""

    phase: str
    to: str


class Percentiles(Reply):
    """Seconds, null before there is anything to measure."""

    p50: float | None
    p95: float | None
    p99: float | None


class Farm(Reply):
    """The whole farm in one word, as the dashboard says it."""

    word: Literal["active", "waiting", "idle", "asleep", "inoperable"]
    why: str
    able_workers: int = Field(description="workers that take tasks")
    finished_per_second: float = Field(description="over the last minute, of all dispatchers")
    failed_share: float | None = Field(description="of the attempts of the last five minutes, from 0 to 1")


class Stats(Reply):
    """Counts by state, rates and times of the last minute, workers, load by queue."""

    blocked_tasks: int
    pending_tasks: int
    in_progress_tasks: int
    completed_tasks: int
    failed_tasks: int
    cancelled_tasks: int
    ready_tasks: int
    farm: Farm
    active_workers: int
    oldest_waiting_seconds: float | None
    finished_per_second: float
    wait_seconds: Percentiles
    run_seconds: Percentiles
    workers: list[ShownWorker]
    load: list[dict[str, Any]]
    queues: list[dict[str, Any]]


class Health(Reply):
    """Liveness; with a valid token more than these two."""

    status: Literal["healthy", "unhealthy"]
    service: Literal["dispatcher"]


MOVE = {
    "phase": "copying", "from": "data/taskmill.db", "to": "postgresql://db/taskmill", "dry_run": False, "seconds": 3.2,
    "tables": {"tasks": {"rows": 1000, "copied": 400}}, "error": None,
}  # fmt: skip
FARM = {
    "word": "active", "why": "tasks run", "able_workers": 2, "finished_per_second": 37.5, "failed_share": 0.003,
}  # fmt: skip
TIMES = {"p50": 0.01, "p95": 0.2, "p99": 0.5}
STATS = {
    "blocked_tasks": 0, "pending_tasks": 12, "in_progress_tasks": 4, "completed_tasks": 900, "failed_tasks": 3,
    "cancelled_tasks": 1, "ready_tasks": 10, "farm": FARM, "active_workers": 2, "oldest_waiting_seconds": 1.5,
    "finished_per_second": 37.5, "wait_seconds": TIMES, "run_seconds": TIMES, "workers": [], "load": [], "queues": [],
}  # fmt: skip

OPERATIONS = (
    Operation(
        "get", "/stats", None, Stats, "Counts, rates, times, workers",
        "Fast whatever the history. Rates and times are of this dispatcher's last minute.", STATS,
    ),
    Operation(
        "get", "/health", None, Health, "Liveness; ?ready=1: 503 when the store takes no writes",
        "Needs no token, and says more to who has one.", {"status": "healthy", "service": "dispatcher"},
        query=("ready",), also=(503,), bare=True,
    ),
    Operation(
        "get", "/metrics", None, None, "Everything that can be counted, for Prometheus",
        "The text format of Prometheus, or OpenMetrics when `Accept` asks for it; every metric is in docs/metrics.md.",
        "taskmill_workers_live 2.0\n", media="*/*",
    ),
    Operation(
        "get", "/backup", None, CopyComing, "A copy of the database file; 202 while it is being made",
        "Ask again under the same `copy` until it is there: then 200 with the bytes of an SQLite file, whose SHA-256 "
        "stands in the header Taskmill-Sha256.", {"copy": "monday", "share": 0.4}, query=("copy",),
        success=202, media="application/vnd.sqlite3", errors=(errors.NotAFile, errors.StorageFull),
    ),
    Operation(
        "get", "/integrity", None, FileSeen, "Whether the database file is whole",
        "Reads its pages for 10 seconds at most, while the queue goes on; within a minute the same is told again.",
        {"whole": True, "found": "ok", "seconds": 0.8}, errors=(errors.NotAFile,),
    ),
    Operation(
        "post", "/migrate", models.Migrate, MoveShown, "Move the queue into a database, while it goes on",
        "Answers at once; ask GET /migrate how it stands.", MOVE,
        {"to": "postgresql://user:password@db:5432/taskmill", "dry_run": True}, 202,
        errors=(errors.MoveRuns, errors.NothingToMove),
    ),
    Operation(
        "get", "/migrate", None, MoveShown, "How the present move stands, or the last one",
        "Rows by table, the phase, and why it failed if it did.", MOVE, errors=(errors.NotFound,),
    ),
    Operation(
        "get", "/openapi.json", None, Reply, "This document", "OpenAPI 3.1; as a page under /docs.",
        {"openapi": "3.1.0"}, bare=True,
    ),
)  # fmt: skip
