"""What workers say to the dispatcher (docs/protocol.md), and what operators say of workers."""

from typing import Any, Literal

from pydantic import Field, JsonValue

from dispatcher import errors
from dispatcher.routes import models, worker_models
from dispatcher.routes.api.operation import AT, LEASE, STORE, Moment, Operation, Reply, Text


class ClassicTask(Reply):
    """A task in the classic form; without work `{"task": null}`."""

    task_id: int | None = None
    task_type: str = ""
    payload: str = Field("", description="the task's data as JSON text")
    lease_id: str = ""
    attempt: int = 1


class Orders(Reply):
    """What the worker shall do."""

    state: str = Field(description="run, quiet, sleep or stop")
    cancel: list[str] = Field(description="leases whose tasks shall stop")
    now: bool = Field(False, description="of sleep and stop: give back what runs")


class Terms(Reply):
    """What the tasks of a claim have in common."""

    task_type: str
    queue: str
    attempt: int = Field(description="counted from 1")
    max_attempts: int
    lease_seconds: float = Field(description="seconds until the lease ends unless a heartbeat renews it")
    timeout_seconds: float | None = Field(description="the longest this attempt may run, seconds")


class GrantedTask(Terms):
    """A task and the lease on it."""

    task_id: int
    task_data: dict[str, Any]
    lease_id: str


class Claimed(Reply):
    """What a claim got."""

    store_id: str
    provisional: bool = Field(description="these leases end after 10 s unless a heartbeat lists them")
    orders: Orders
    tasks: list[GrantedTask | tuple[int, str, int, dict[str, Any]]] = Field(
        description="to a brief claim those without checkpoint and options as task_id, lease_id, place in `terms`, data"
    )
    terms: list[Terms] = Field(default_factory=list, description="only to a brief claim")


class Saved(Reply):
    """What became of a classic report."""

    task_id: int
    status: Literal["completed", "failed"]
    saved: bool
    verdict: str
    timestamp: Moment
    reason: str = ""


class OutcomeVerdict(Reply):
    """What became of one outcome."""

    lease_id: Text
    verdict: Literal[
        "accepted", "accepted_late", "duplicate", "superseded", "cancelled", "foreign", "unknown", "invalid"
    ]
    reason: str = ""


class Reported(Reply):
    """Verdicts in the order of the outcomes; what the claim got, if there was one."""

    verdicts: list[OutcomeVerdict] | Literal["accepted"]
    orders: Orders
    claim: Claimed | None = None


class DeathRecorded(Reply):
    """How many leases passed to the adopter, were charged, were given back."""

    verdict: Literal["recorded", "foreign"]
    adopted: int = 0
    charged: int = 0
    released: int = 0


class Beaten(Reply):
    """The answer to a heartbeat; the classic form has no leases and no orders."""

    worker_id: str
    status: str
    last_heartbeat: Moment
    store_id: str = ""
    leases: dict[str, Literal["ok", "cancel", "lost", "foreign"]] = Field(default_factory=dict)
    orders: Orders | None = None
    wait_seconds: float | None = Field(
        None, description="a claim that waits no longer stands for the heartbeats of an instance that holds nothing"
    )
    death_seconds: float | None = Field(None, description="after so much silence an instance is taken for dead")


class Uploaded(Reply):
    """What was stored."""

    lease_id: str
    bytes: int
    sha256: str


class ShownWorker(Reply):
    """An instance of a worker."""

    worker_id: str
    status: Literal["alive", "dead"]
    last_heartbeat: Moment
    state: str
    metadata: dict[str, Any]
    leases: int
    classic: bool
    blamed_for: list[str]


class Workers(Reply):
    """The workers of the last day."""

    workers: list[ShownWorker]


class Ordered(Reply):
    """How many instances an order reached."""

    worker_id: str
    state: str
    instances: int


class Blames(Reply):
    """Who does not get what."""

    blames: list[dict[str, Any]]


class Forgiven(Reply):
    """How many blames were taken back, or which."""

    worker_id: str
    forgiven: JsonValue


WHO = {"worker_id": "worker-1", "instance_id": "2f9d4c1ab0e8"}
RUN = {"state": "run", "cancel": []}
CLAIMED = {
    "store_id": STORE, "provisional": False, "orders": RUN,
    "tasks": [{"task_id": 1, "task_type": "noop", "queue": "default", "lease_id": LEASE, "attempt": 1,
               "max_attempts": 3, "lease_seconds": 120.0, "timeout_seconds": None, "task_data": {}}],
}  # fmt: skip
OUTCOME = {"store_id": STORE, "lease_id": LEASE, "status": "completed", "result": {"n": 1}, "run_seconds": 0.02}

OPERATIONS = (
    Operation(
        "post", "/get-task", worker_models.ClassicClaim, ClassicTask, "Claim one task, classic form",
        'Without work: `{"task": null}`, and 200 all the same. `payload` is JSON text.',
        {"task_id": 1, "task_type": "noop", "payload": "{}", "lease_id": LEASE, "attempt": 1},
        {"worker_id": "worker-1"}, bare=True,
    ),
    Operation(
        "post", "/get-tasks", worker_models.Claim, Claimed, "Claim tasks; waits up to wait_seconds",
        "`request_id` rises within an instance; a number that was answered before gets those of its leases that are "
        "still held. Waits up to 50 seconds, and answers at once when there is work or an order.",
        CLAIMED, {**WHO, "request_id": 1, "max_tasks": 1, "wait_seconds": 0}, errors=(errors.InstanceDead,),
    ),
    Operation(
        "post", "/submit-result", worker_models.ClassicReport, Saved, "Report one outcome, classic form",
        "The fields beyond the known ones are the result. Every definitive verdict is 200; `saved` says whether it "
        "counted.",
        {"task_id": 1, "status": "completed", "saved": True, "timestamp": AT, "verdict": "accepted"},
        {"task_id": 1, "worker_id": "worker-1", "status": "completed", "n": 1}, errors=(errors.NotFound,),
    ),
    Operation(
        "post", "/submit-results", worker_models.Report, Reported, "Report outcomes, each is judged; may claim too",
        "Each outcome (schema `Outcome`) is checked by itself. Definitive verdicts: `accepted`, `accepted_late`, "
        "`duplicate`, `superseded`, `cancelled`; keep what is answered `foreign`, `unknown` or `invalid`.",
        {"verdicts": [{"lease_id": LEASE, "verdict": "accepted"}], "orders": RUN}, {**WHO, "outcomes": [OUTCOME]},
    ),
    Operation(
        "post", "/report-death", worker_models.Death, DeathRecorded, "Report an instance that is certainly dead",
        "By whoever holds the lock of its folder. Leases in the adopted outbox pass to the reporter, started ones are "
        "charged, all others return uncharged.",
        {"verdict": "recorded", "adopted": 0, "charged": 0, "released": 1},
        {"store_id": STORE, **WHO, "dead_worker_id": "worker-2", "dead_instance_id": "77aa01c5d9"},
        errors=(errors.InstanceDead,),
    ),
    Operation(
        "post", "/heartbeat", worker_models.Heartbeat, Beaten, "Renew leases; without instance_id the classic form",
        "Every 30 seconds by default; each listed lease is answered `ok`, `cancel`, `lost` or `foreign`. A `seq` that "
        "is not above the highest one gets orders only.",
        {"worker_id": "worker-1", "status": "alive", "last_heartbeat": AT, "store_id": STORE,
         "leases": {LEASE: "ok"}, "orders": RUN, "wait_seconds": 50.0},
        {**WHO, "seq": 1, "store_id": STORE, "leases": [{"lease_id": LEASE}]}, errors=(errors.InstanceDead,),
    ),
    Operation(
        "put", "/result/{lease_id}", None, Uploaded, "Put a large or binary result before its report",
        "The body is the result, its `Content-Type` the media type. Required above 256 KiB; a later PUT replaces it.",
        {"lease_id": LEASE, "bytes": 5, "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"},
        query=("store_id",), errors=(errors.NotFound, errors.Foreign),
    ),
    Operation(
        "get", "/workers", None, Workers, "The workers: what they are and what they were ordered",
        "Every living instance, and of a name with none the newest dead one of the last day. `metadata` is what the "
        "worker says of its host.",
        {"workers": [{"worker_id": "worker-1", "status": "alive", "last_heartbeat": AT, "state": "run",
                      "metadata": {"hostname": "lab"}, "leases": 1, "classic": False, "blamed_for": []}]},
    ),
    Operation(
        "patch", "/workers/{worker_id}", models.WorkerOrder, Ordered, "Have a worker run, be quiet, sleep or stop",
        "`when` goes with the states `sleep` and `stop`: `after` what runs, or `now` (what runs is given back).",
        {"worker_id": "worker-1", "state": "quiet", "instances": 1}, {"state": "quiet"}, errors=(errors.NotFound,),
    ),
    Operation(
        "get", "/blames", None, Blames, "Workers that do not get a type, because it fails on them alone",
        "Of each: worker, type, since when and why.",
        {"blames": [{"worker_id": "worker-1", "task_type": "render", "blamed_at": AT}]},
    ),
    Operation(
        "post", "/forgive", models.Forgive, Forgiven, "Let a worker have a type again",
        "Without `task_type` every type that it is blamed for.", {"worker_id": "worker-1", "forgiven": 1},
        {"worker_id": "worker-1"}, errors=(errors.NotFound,),
    ),
)  # fmt: skip
