"""Outcomes as reports bring them, and what is told of each (docs/protocol.md, Report).

A busy worker brings a thousand successes at a time. These come as arrays, which are looked at by hand: a model took as
long as everything else that the dispatcher does for a task's end.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from common import json_profile
from dispatcher.config import TEN_YEARS
from dispatcher.model import End, LeaseName, LogPart, Outcome, Upload
from dispatcher.queue.report import Verdict
from dispatcher.routes import body, worker_models

ONE_OUTCOME = worker_models.Outcome.__pydantic_validator__
Checked = tuple[Outcome | None, str, str]  # or else the verdict, and the reason for it
PARTS = ("store_id", "task_id", "lease_id", "run_ms", "result")  # of a success as an array
STATUS = {status.value: status for status in End}
COMPLETED = End.COMPLETED
LONGEST_MS = TEN_YEARS * 1000
FOREIGN: Checked = (None, Verdict.FOREIGN.value, "")
UNKNOWN: Checked = (None, Verdict.UNKNOWN.value, "")


def check(values: list[Any], store_id: str) -> list[Checked]:
    """Each for the queue, or with the verdict and the reason why it goes no further."""
    return [_brief(value, store_id) if type(value) is list else _one(value, store_id) for value in values]


def _brief(value: list[Any], store_id: str) -> Checked:
    """A success with nothing more to tell."""
    if len(value) != len(PARTS):
        return _invalid(f"an array has these parts: {', '.join(PARTS)}")
    said, task_id, lease_id, run_ms, result = value
    if type(said) is not str or type(lease_id) is not str:
        return _invalid("store_id, lease_id: must be text")
    if type(task_id) is not int or type(run_ms) is not int or not 0 <= run_ms <= LONGEST_MS:
        return _invalid("task_id, run_ms: must be whole numbers, and run_ms at most ten years")
    if said != store_id:
        return FOREIGN
    name = LeaseName.parse(lease_id)
    if name is None or task_id != name.task_id:
        return UNKNOWN
    try:
        return Outcome(name, COMPLETED, json_profile.dump_again(result), run_ms=run_ms), "", ""
    except json_profile.JsonError as error:
        return _invalid(f"result: {error}")


def _one(value: Any, store_id: str) -> Checked:
    try:
        asked = ONE_OUTCOME.validate_python(value)
    except ValidationError as error:
        return _invalid(str(body.fault(error)))
    if asked.store_id != store_id:
        return FOREIGN
    name = LeaseName.parse(asked.lease_id)
    if name is None or asked.task_id not in (None, name.task_id):
        return UNKNOWN
    try:
        return _outcome(asked, name), "", ""
    except json_profile.JsonError as error:
        return _invalid(f"result: {error}")


def _invalid(reason: str) -> Checked:
    return None, Verdict.INVALID.value, reason


def _outcome(asked: worker_models.Outcome, name: LeaseName) -> Outcome:
    run_ms = None if asked.run_seconds is None else round(asked.run_seconds * 1000)
    ref, log = asked.result_ref, log_part(asked.log)
    if asked.status == "completed" and ref is None:
        return Outcome(name, COMPLETED, json_profile.dump_again(asked.result), run_ms=run_ms, log=log)
    return Outcome(
        name=name,
        status=STATUS[asked.status],
        upload=None if ref is None else Upload(ref.bytes, ref.sha256, ref.media_type),
        error=asked.error,
        run_ms=run_ms,
        snooze_ms=round(asked.snooze_seconds * 1000),
        log=log,
        retry=asked.retry,
        crashed=asked.crashed,
    )


def log_part(part: worker_models.LogLines | None) -> LogPart | None:
    """Lines of a log as the queue takes them."""
    return None if part is None else LogPart(part.start, tuple(part.lines))


def told(values: list[Any], judged: list[Checked], decided: list[Verdict], brief: bool) -> str:
    """What is told of the outcomes, as JSON text; where that is wanted, one word when all were accepted."""
    if brief and values and decided.count(Verdict.ACCEPTED) == len(values):
        return f'"{Verdict.ACCEPTED.value}"'
    return f"[{','.join(_each_told(values, judged, decided))}]"


def _each_told(values: list[Any], judged: list[Checked], decided: list[Verdict]) -> Iterator[str]:
    verdicts = iter(decided)
    for value, (outcome, refusal, reason) in zip(values, judged, strict=True):
        said = {"lease_id": _lease_id(value), "verdict": refusal if outcome is None else next(verdicts).value}
        yield json_profile.encode({**said, "reason": reason} if reason else said)


def _lease_id(value: Any) -> str | None:
    if isinstance(value, list):
        value = dict(zip(PARTS, value, strict=False))  # it may have any length
    found = value.get("lease_id") if isinstance(value, dict) else None
    return found if isinstance(found, str) else None
