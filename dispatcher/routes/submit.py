"""`POST /submit-task` and `/submit-tasks`."""

import hashlib
import json
from typing import Any

from flask import Blueprint
from pydantic import ValidationError

from common.durations import whole_ms
from dispatcher.config import TASK_DATA_LIMIT
from dispatcher.errors import Invalid, TooLarge, WebhooksOff
from dispatcher.queue import Queue
from dispatcher.queue.options import Options
from dispatcher.queue.submit import RequestName, Submission
from dispatcher.routes import body, plain, show
from dispatcher.routes.direct import Direct
from dispatcher.routes.models import MOST_TASKS, SomeTasks, SubmitTask, SubmitTasks

DIGEST_BYTES = 16
PLAIN = plain.PlainTask.__annotations__.keys()  # the fields of most tasks


def blueprint(queue: Queue, direct: Direct) -> Blueprint:
    """The views."""
    views = Blueprint("submit", __name__)

    @direct.post(views, "/submit-task")
    def submit_task(sent: bytes) -> show.Reply:
        asked = body.parse(SubmitTask, sent)
        (task_id,), (created,) = queue.submitted([submission_of(queue, asked, "task_data")])
        if not created:
            data = {"task_id": task_id, "task_type": asked.task_type, "created": False}
            return show.success(data, 200, "There is such a task already")
        data = {"task_id": task_id, "task_type": asked.task_type, "status": "pending"}
        of_type = queue.defaults.of(asked.task_type)
        data["max_attempts"] = asked.max_attempts or of_type.max_attempts or queue.terms.max_attempts
        if asked.unique_key is not None:
            data["created"] = True
        return show.success(data, 201, "Task submitted successfully")

    @direct.post(views, "/submit-tasks")
    def submit_tasks(sent: bytes) -> show.Reply:
        value = body.parse_object(sent)
        if all_plain := _all_plain(value):
            wanted = [
                _plain_submission(
                    queue, t["task_type"], t["task_data"], t.get("idempotency_key"), f"tasks[{n}].task_data"
                )
                for n, t in enumerate(all_plain)
            ]
            ids, _ = queue.submitted(wanted, _name(value.get("idempotency_key"), sent))
            return show.success({"task_ids": ids, "count": len(ids)}, 201)
        asked = body.validate(SubmitTasks, value)
        wanted = _many(queue, asked.tasks)
        ids, created = queue.submitted(wanted, _name(asked.idempotency_key, sent))
        unique = {"created": created} if any(task.unique_key is not None for task in asked.tasks) else {}
        return show.success({"task_ids": ids, "count": len(ids), **unique}, 201)

    return views


def _many(queue: Queue, asked: list[SomeTasks]) -> list[Submission]:
    """All tasks of a bulk submit. Raises Invalid and TooLarge, naming the field."""
    count = sum(1 if some.each is None else len(some.each) for some in asked)
    if count > MOST_TASKS:
        raise Invalid("tasks", f"must be at most {MOST_TASKS:,} tasks, not {count:,}")
    wanted: list[Submission] = []
    for n, some in enumerate(asked):
        if some.each is None:
            wanted.append(submission_of(queue, some, f"tasks[{n}].task_data"))
        else:
            wanted += _alike(queue, some, some.each, f"tasks[{n}]")
    return wanted


def _alike(queue: Queue, asked: SomeTasks, each: list[dict[str, Any]], field: str) -> list[Submission]:
    """A task for each of the data."""
    own = {"task_data": "task_data" in asked.model_fields_set, "idempotency_key": asked.idempotency_key is not None,
           "unique_key": asked.unique_key is not None}  # fmt: skip
    for name in (name for name, said in own.items() if said):
        raise Invalid(f"{field}.{name}", "not together with each")
    task_type, _, *terms = _on_terms(queue, asked, "", f"{field}.task_data")
    texts = [_checked(queue, asked.task_type, data, f"{field}.each[{n}]") for n, data in enumerate(each)]
    return [Submission._make((task_type, text, *terms)) for text in texts]


def _all_plain(value: dict[str, Any]) -> list[plain.PlainTask] | None:
    """The tasks of a bulk submit, if all of them are plain."""
    try:
        return plain.BULK.validate_python(value)["tasks"]
    except ValidationError:
        return None


def _name(key: str | None, sent: bytes) -> RequestName | None:
    """What a bulk submit is called, and what its repeat must look like to the byte."""
    return None if key is None else RequestName(key, hashlib.blake2b(sent, digest_size=DIGEST_BYTES).digest())


def _plain_submission(
    queue: Queue, task_type: str, task_data: dict[str, Any], idempotency_key: str | None, field: str
) -> Submission:
    """A plain task as the queue takes it. Raises Invalid and TooLarge, naming the field."""
    text = _checked(queue, task_type, task_data, field)
    digest = _hashed(f'{{"task_type": "{task_type}"}}{text}') if idempotency_key else b""  # as `_digest` has it
    return Submission(task_type, text, key=idempotency_key, digest=digest)


def submission_of(queue: Queue, asked: SubmitTask, field: str) -> Submission:
    """A checked task as the queue takes it. Raises Invalid and TooLarge, naming the field."""
    if asked.model_fields_set <= PLAIN:
        return _plain_submission(queue, asked.task_type, asked.task_data, asked.idempotency_key, field)
    return _on_terms(queue, asked, _checked(queue, asked.task_type, asked.task_data, field), field)


def _on_terms(queue: Queue, asked: SubmitTask, data: str, field: str) -> Submission:
    """A task with data that was checked. Raises Invalid, naming the field."""
    if asked.run_at is not None and asked.delay_seconds is not None:
        raise Invalid(field.replace("task_data", "delay_seconds"), "not together with run_at")
    if asked.unique_key is None and asked.unique_for != "unfinished":
        raise Invalid(field.replace("task_data", "unique_for"), "only together with unique_key")
    if asked.webhook is not None:
        webhooks_on(queue, field.replace("task_data", "webhook"))
    digest = _digest(asked, data) if asked.idempotency_key else b""
    return Submission(
        task_type=asked.task_type,
        data=data,
        queue=asked.queue,
        priority=asked.priority,
        run_at=None if asked.run_at is None else int(asked.run_at.timestamp() * 1000),
        delay_ms=in_ms(asked.delay_seconds),
        max_attempts=asked.max_attempts,
        timeout_ms=limit_ms(asked.timeout_seconds),
        tags=tuple(asked.tags),
        key=asked.idempotency_key,
        requires=tuple(asked.requires),
        limit_key=asked.key,
        digest=digest,
        options=_options(asked),
        unique_key=asked.unique_key,
        unique_for_ms=None if asked.unique_for == "unfinished" else whole_ms(asked.unique_for),
    )


def _options(asked: SubmitTask) -> str | None:
    """What a task rarely asks for; most ask for nothing. Its unique key the queue adds itself."""
    if (asked.memory_mb, asked.backoff, asked.wait_seconds, asked.total_seconds, asked.webhook) == (None,) * 5:
        return None
    return Options(
        memory_mb=asked.memory_mb,
        backoff=None if asked.backoff is None else asked.backoff.model_dump(),
        wait_seconds=asked.wait_seconds,
        total_seconds=asked.total_seconds,
        webhook=asked.webhook,
    ).dump()


def _checked(queue: Queue, task_type: str, data: dict[str, Any], field: str) -> str:
    """Data that its type's schema allows, as it is stored. Raises Invalid and TooLarge."""
    text = text_of_data(data, field)
    queue.schemas.check(task_type, data, field)
    return text


def webhooks_on(queue: Queue, field: str) -> None:
    """Refuse a field that nothing would come of. Raises WebhooksOff."""
    if not queue.terms.webhooks:
        raise WebhooksOff(field)


def text_of_data(data: dict[str, Any], field: str) -> str:
    """Task data as it is stored. Raises Invalid and TooLarge."""
    text = body.text_of(data, field)
    if len(text) * 4 > TASK_DATA_LIMIT and len(text.encode()) > TASK_DATA_LIMIT:
        raise TooLarge(field, len(text.encode()), TASK_DATA_LIMIT)
    return text


def in_ms(seconds: float | None) -> int | None:
    """Seconds as whole milliseconds."""
    return None if seconds is None else max(round(seconds * 1000), 0)


def limit_ms(seconds: float | None) -> int | None:
    """A limit of time as it is stored."""
    return None if seconds is None else whole_ms(seconds)


def _digest(asked: SubmitTask, data: str) -> bytes:
    """What tells two bodies under one key apart."""
    rest = asked.model_dump(mode="json", exclude_defaults=True, exclude={"task_data", "idempotency_key"})
    return _hashed(json.dumps(rest, sort_keys=True) + data)


def _hashed(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()
