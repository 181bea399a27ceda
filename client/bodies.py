"""What submits look like on the wire: field names, times, names of submits, requests of bounded size."""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from common import json_profile

MAX_TASKS = 2_000  # a request may have 10,000; of smaller ones the first is worked on while the others are made
MAX_BYTES = 8 * 1024 * 1024


def new_key() -> str:
    """A name for one logical submit: 16 url-safe characters."""
    return secrets.token_urlsafe(12)


def rfc3339(moment: datetime | str) -> str:
    """A moment in UTC as the wire has it; text is passed on. Raises ValueError for a datetime without a zone."""
    if isinstance(moment, str):
        return moment
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone: give run_at one, like datetime.timezone.utc")
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def task_text(task: Mapping[str, Any], key: str | None) -> str:
    """One task as JSON text, under its own idempotency_key or else `key`, if any; absent and None are one."""
    fields = {name: value for name, value in task.items() if value is not None}
    if key is not None:
        fields.setdefault("idempotency_key", key)
    fields.setdefault("task_data", {})
    if "run_at" in fields:
        fields["run_at"] = rfc3339(fields["run_at"])
    return json_profile.dump(fields)


def bulk_bodies(tasks: Iterable[Mapping[str, Any]], key: str | None) -> Iterator[bytes]:
    """Bodies of `POST /submit-tasks`, each within both limits; a single larger task goes alone.

    Each carries a key of its own, new every time. With a `key` every task is named instead, `<key>-<index>`: then a
    later call may cut its requests elsewhere, or have more tasks at its end. It costs a row for each of them.
    """
    batch: list[bytes] = []
    size = 0
    for index, task in enumerate(tasks):
        text = task_text(task, None if key is None else f"{key}-{index}").encode("utf-8")
        if batch and (len(batch) == MAX_TASKS or size + len(text) > MAX_BYTES):
            yield _body(batch, named=key is None)
            batch, size = [], 0
        batch.append(text)
        size += len(text) + 1
    if batch:
        yield _body(batch, named=key is None)


def _body(batch: list[bytes], named: bool) -> bytes:
    name = b',"idempotency_key":"%s"' % new_key().encode() if named else b""
    return b'{"tasks":[%s]%s}' % (b",".join(batch), name)
