"""The classic forms of claim and report, for the simple clients they were made for (README)."""

from typing import Any

from flask import Blueprint

from dispatcher.clock import moment
from dispatcher.errors import Invalid
from dispatcher.model import End, LeaseName, Outcome
from dispatcher.queue import Queue
from dispatcher.queue.report import Verdict
from dispatcher.queue.uploads import bounded
from dispatcher.routes import body, show
from dispatcher.routes.worker_models import ClassicClaim, ClassicReport

SAVED = frozenset({Verdict.ACCEPTED, Verdict.ACCEPTED_LATE})
REASONS = {
    Verdict.DUPLICATE: "this outcome was already recorded",
    Verdict.SUPERSEDED: "the lease was lost: another attempt counts",
    Verdict.CANCELLED: "the task was cancelled",
    Verdict.UNKNOWN: "this worker holds no lease of the task",
}
NO_LEASE = LeaseName(0, 0)  # the queue fills in the worker's newest


def blueprint(queue: Queue, result_max_bytes: int) -> Blueprint:
    """The views."""
    views = Blueprint("classic", __name__)

    @views.post("/get-task")
    def get_task() -> show.Reply:
        asked = body.parse(ClassicClaim)
        types = None if asked.task_types is None else frozenset(asked.task_types)
        task = queue.claim_classic(asked.worker_id, types)
        if task is None:
            return show.plain({"task": None})
        lease_id = str(LeaseName(task.task_id, task.token))
        found = {"task_id": task.task_id, "task_type": task.lane.task_type, "payload": task.data}
        return show.plain({**found, "lease_id": lease_id, "attempt": task.attempt})

    @views.post("/submit-result")
    def submit_result() -> show.Reply:
        asked = body.parse(ClassicReport)
        lease = None if asked.lease_id is None else LeaseName.parse(asked.lease_id)
        if asked.lease_id is not None and lease is None:
            raise Invalid("lease_id", "is not one of this dispatcher's")
        outcome = bounded(_outcome(asked), result_max_bytes)
        verdict = queue.report_classic(asked.worker_id, asked.task_id, outcome, lease)
        return _told(asked, verdict, moment(queue.store.now().wall))

    return views


def _outcome(asked: ClassicReport) -> Outcome:
    if asked.status == "failed":
        return Outcome(NO_LEASE, End.FAILED, error=asked.error or "failed without saying why")
    seconds: Any = (asked.model_extra or {}).get("computation_time")
    run_ms = round(seconds * 1000) if type(seconds) in (int, float) and 0 <= seconds < 10**9 else None
    return Outcome(NO_LEASE, End.COMPLETED, body.text_of(asked.model_extra or {}, "result"), run_ms=run_ms)


def _told(asked: ClassicReport, verdict: Verdict, at: str | None) -> show.Reply:
    data = {"task_id": asked.task_id, "status": asked.status, "saved": verdict in SAVED, "timestamp": at}
    if verdict in SAVED:
        return show.success({**data, "verdict": verdict.value}, message="Result submitted successfully")
    return show.success({**data, "verdict": verdict.value, "reason": REASONS[verdict]}, message=REASONS[verdict])
