"""Recurring schedules: make, look at, change, delete, run now."""

import json
from typing import Annotated, Any, Literal

from flask import Blueprint, request
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from common import json_profile
from common.durations import parse_duration
from dispatcher.clock import moment
from dispatcher.config import TEN_YEARS
from dispatcher.errors import Invalid, NotFound
from dispatcher.model import Schedule
from dispatcher.queue import Queue
from dispatcher.queue import recurring as rules
from dispatcher.queue.submit import Submission
from dispatcher.queue.ticks import Rule, checked_cron, spelled, zone_of
from dispatcher.routes import body, show
from dispatcher.routes.models import Key, Name, Strict, SubmitTask
from dispatcher.routes.submit import submission_of

PAGE = 500
PREVIEWED = 5
NOT_HERE = ("run_at", "delay_seconds", "idempotency_key")  # these the schedule decides


def _every(value: object) -> object:
    """A length of time with a unit."""
    if not isinstance(value, str):
        raise ValueError("must be text with a unit, like 15m or 1h30m")
    if not 1 <= parse_duration(value) <= TEN_YEARS:
        raise ValueError("must be from 1s to ten years")
    return value


def _not_dots(name: str) -> str:
    if not name.strip("."):
        raise ValueError("must not be made of dots alone: it stands in paths")
    return name


Every = Annotated[str, BeforeValidator(_every), WithJsonSchema({"type": "string", "examples": ["15m"]})]
Cron = Annotated[str, Field(max_length=256)]
CatchUp = Literal["skip", "once", "all"]


class NewSchedule(Strict):
    """A schedule: `cron` or `every`, and the task that is submitted at each tick."""

    name: Annotated[Name, AfterValidator(_not_dots)]
    cron: Cron | None = Field(None, description="five fields, read in `zone`")
    zone: str | None = Field(None, max_length=64, description="like Europe/Berlin; UTC when it is not said")
    every: Every | None = Field(None, description="instead of cron: a length of time with a unit")
    task: SubmitTask
    catch_up: CatchUp = Field("skip", description="what becomes of ticks that nobody fired in time")
    paused: bool = False
    dry_run: bool = Field(False, description="store nothing, show what it would do")


class ScheduleChanges(Strict):
    """What is to be another; the rest stays."""

    cron: Cron | None = None
    zone: str | None = Field(None, max_length=64)
    every: Every | None = None
    task: SubmitTask | None = None
    catch_up: CatchUp | None = None
    paused: bool | None = None


class RunSchedule(Strict):
    """A run beside the ticks."""

    idempotency_key: Key | None = Field(None, description="the same key runs it once")


def blueprint(queue: Queue) -> Blueprint:
    """The views."""
    views = Blueprint("schedules", __name__)
    schedules = rules.Schedules(queue)
    _add_views_of_all(views, queue, schedules)
    _add_views_of_one(views, queue, schedules)
    return views


def _add_views_of_all(views: Blueprint, queue: Queue, schedules: rules.Schedules) -> None:
    @views.get("/schedules")
    def list_schedules() -> show.Reply:
        body.known_arguments("limit", "after")
        limit = body.query_int("limit", 100, 1, PAGE) or PAGE
        found = schedules.page(_after(), limit)
        last = f'"{found[-1].name}"' if len(found) == limit else "null"
        texts = ",".join(_text(schedule, {}) for schedule in found)
        return show.envelope(f'{{"schedules":[{texts}],"next_after":{last}}}')

    @views.post("/schedules")
    def create_schedule() -> show.Reply:
        asked = body.parse(NewSchedule)
        wanted = rules.Wanted(asked.name, _rule(asked), _task(queue, asked.task), asked.catch_up, asked.paused)
        if asked.dry_run:
            return _shown(schedules.preview(wanted))
        schedule, created = schedules.create(wanted)
        return _shown(schedule, 201 if created else 200)


def _add_views_of_one(views: Blueprint, queue: Queue, schedules: rules.Schedules) -> None:
    @views.get("/schedules/<name>")
    def get_schedule(name: str) -> show.Reply:
        body.known_arguments()
        return _shown(schedules.get(_known(name)))

    @views.patch("/schedules/<name>")
    def change_schedule(name: str) -> show.Reply:
        return _shown(schedules.change(_known(name), _changes(queue, body.parse(ScheduleChanges))))

    @views.delete("/schedules/<name>")
    def delete_schedule(name: str) -> show.Reply:
        schedules.delete(_known(name))
        return show.success({"name": name, "deleted": True})

    @views.post("/schedules/<name>/run")
    def run_schedule(name: str) -> show.Reply:
        task_id, created = schedules.run(_known(name), body.parse(RunSchedule).idempotency_key)
        return show.success({"name": name, "task_id": task_id, "created": created}, 201 if created else 200)


def _shown(schedule: Schedule, status: int = 200) -> show.Reply:
    return show.envelope(_text(schedule, {"next_ticks": _preview(schedule)}), status)


def _known(name: str) -> str:
    if not body.is_name(name):
        raise NotFound("schedule")
    return name


def _after() -> str:
    name = request.args.get("after", "")
    if name and not body.is_name(name):
        raise Invalid("after", "must be the name of a schedule")
    return name


def _rule(asked: NewSchedule | ScheduleChanges) -> Rule:
    """When the ticks come. Raises Invalid."""
    if (asked.cron is None) == (asked.every is None):
        raise Invalid("cron", "say either cron or every")
    if asked.every is not None:
        if asked.zone is not None:
            raise Invalid("zone", "only together with cron")
        return Rule(None, "UTC", round(parse_duration(asked.every) * 1000))
    zone = "UTC" if asked.zone is None else asked.zone
    zone_of(zone)
    return Rule(checked_cron(asked.cron or ""), zone, None)


def _task(queue: Queue, asked: SubmitTask) -> Submission:
    for field in NOT_HERE:
        if field in asked.model_fields_set:
            raise Invalid(f"task.{field}", "not in a schedule")
    return submission_of(queue, asked, "task.task_data")


def _changes(queue: Queue, asked: ScheduleChanges) -> dict[str, Any]:
    """The columns that become others. Raises Invalid."""
    said = {name for name in asked.model_fields_set if getattr(asked, name) is not None}
    changes: dict[str, Any] = {name: getattr(asked, name) for name in said & {"catch_up", "paused"}}
    if said & {"cron", "every"}:
        changes |= _rule(asked)._asdict()
    elif asked.zone is not None:
        zone_of(asked.zone)
        changes["zone"] = asked.zone
    if asked.task is not None:
        submission = _task(queue, asked.task)
        changes.update(task=rules.kept(submission), data=submission.data)
    if not changes:
        raise Invalid("", "the request changes nothing")
    return changes


def _text(schedule: Schedule, more: dict[str, Any]) -> str:
    """A schedule as JSON text; the task's data is spliced in."""
    task = json_profile.encode(_task_said(schedule))
    whole = f'{task[:-1]}{"," if len(task) > 2 else ""}"task_data":{schedule.data}}}'
    return f'{json_profile.encode({**_own(schedule), **more})[:-1]},"task":{whole}}}'


def _own(schedule: Schedule) -> dict[str, Any]:
    rule = rules.rule_of(schedule)
    times = {name: moment(getattr(schedule, name)) for name in ("next_at", "last_at", "created_at", "updated_at")}
    return {
        "name": schedule.name,
        "cron": rule.cron,
        "zone": rule.zone if rule.cron else None,
        "every": None if rule.every_ms is None else spelled(rule.every_ms),
        "in_words": rule.words(),
        "catch_up": schedule.catch_up,
        "paused": schedule.paused,
        "last_task_id": schedule.last_task_id,
        "last_error": schedule.last_error,
        "last_skipped": _skipped(schedule),
        **times,
    }


def _skipped(schedule: Schedule) -> dict[str, Any] | None:
    """Which ticks were left out last."""
    if schedule.skipped_from is None:
        return None
    since, until = moment(schedule.skipped_from), moment(schedule.skipped_until)
    return {"from": since, "until": until, "why": schedule.skipped_why}


def _preview(schedule: Schedule) -> list[dict[str, Any]]:
    rule, ticks = rules.rule_of(schedule), rules.next_ticks(schedule, PREVIEWED)
    return [{"at": moment(tick), "in_words": rule.local(tick)} for tick in ticks]


def _task_said(schedule: Schedule) -> dict[str, Any]:
    """Its task by the names of a submit."""
    said: dict[str, Any] = {}
    for name, value in rules.told(schedule).items():
        if name == "options":
            said.update(json.loads(value))
        elif name == "limit_key":
            said["key"] = value
        elif name == "unique_for_ms":
            said["unique_for"] = value / 1000
        elif name.endswith("_ms"):
            said[f"{name[:-3]}_seconds"] = value / 1000
        else:
            said[name] = value
    return said
