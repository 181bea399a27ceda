"""What submits look like on the wire: field names, times, names of submits, requests of bounded size."""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from common import json_profile

MAX_TASKS = 2_000  # a request may have 10,000; of smaller ones the first is worked on while the others are made
MAX_BYTES = 8 * 1024 * 1024
_MARKS = len('{"task_data":},')  # around the fields and the data of a task
# a task with one of these shares its fields with no other
_ALONE = frozenset({"idempotency_key", "unique_key", "each"})


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
    return json_profile.dump(_fields(task, key))


def _fields(task: Mapping[str, Any], key: str | None) -> dict[str, Any]:
    fields = {name: value for name, value in task.items() if value is not None}
    if key is not None:
        fields.setdefault("idempotency_key", key)
    fields.setdefault("task_data", {})
    if "run_at" in fields:
        fields["run_at"] = rfc3339(fields["run_at"])
    return fields


class _Alike:
    """Tasks of one request that differ in nothing but their data: their other fields are said once, as `text`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.each: list[bytes] = []

    def __bytes__(self) -> bytes:
        data = b'"each":[%s]' % b",".join(self.each) if len(self.each) > 1 else b'"task_data":%s' % self.each[0]
        return b"{%s}" % b",".join(filter(None, (self.text[1:-1].encode(), data)))


def bulk_bodies(tasks: Iterable[Mapping[str, Any]], key: str | None) -> Iterator[bytes]:
    """Bodies of `POST /submit-tasks`, each within both limits; a single larger task goes alone.

    Each carries a key of its own, new every time. With a `key` every task is named instead, `<key>-<index>`: then a
    later call may cut its requests elsewhere, or have more tasks at its end. It costs a row for each of them.
    """
    batch: list[_Alike] = []
    count = size = 0
    for index, task in enumerate(tasks):
        terms = _fields(task, None if key is None else f"{key}-{index}")
        data = _data(terms.pop("task_data"))
        text = json_profile.dump(terms)
        more = len(text) + len(data) + _MARKS
        full = count == MAX_TASKS or size + more > MAX_BYTES
        if batch and full:
            yield _body(batch, named=key is None)
            batch, count, size = [], 0, 0
        if not batch or batch[-1].text != text or not _ALONE.isdisjoint(terms):
            batch.append(_Alike(text))
        batch[-1].each.append(data)
        count, size = count + 1, size + more
    if batch:
        yield _body(batch, named=key is None)


def spelt_out(tasks: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The tasks that those of a body stand for, one by one; one that has data of its own as well as `each` as it is."""
    for some in tasks:
        if "each" in some and "task_data" not in some:
            terms = {name: value for name, value in some.items() if name != "each"}
            yield from [{**terms, "task_data": data} for data in some["each"]]
        else:
            yield dict(some)


def _data(value: Any) -> bytes:
    try:
        return json_profile.dump(value).encode()
    except json_profile.JsonError:
        json_profile.dump({"task_data": value})  # says where
        raise


def _body(batch: list[_Alike], named: bool) -> bytes:
    name = b',"idempotency_key":"%s"' % new_key().encode() if named else b""
    return b'{"tasks":[%s]%s}' % (b",".join(map(bytes, batch)), name)
