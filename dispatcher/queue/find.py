"""Searches as people write them: `status:failed type:prime data.limit:100000 tag:x some words "a phrase"`.

All that is said must hold. What the store can pick by itself (status, type, queue, tag, worker) it picks; the rest is
looked for in the newest tasks, as many as a moment allows (`browse.py`).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dispatcher.errors import Invalid
from dispatcher.model import State

TOKEN = re.compile(r'[^\s":]+:"[^"]*"|"[^"]*"|\S+')
NAMES = {
    "status": "state", "state": "state", "type": "task_type", "queue": "queue", "tag": "tag",
    "worker": "worker_id", "error": "error",
}  # fmt: skip
LONGEST = 500
NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Find:
    """What is looked for; everything that is said must hold."""

    state: State | None = None
    task_type: str | None = None
    queue: str | None = None
    tag: str | None = None
    worker_id: str | None = None
    error: str | None = None
    data: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether the store can pick it all by itself."""
        return not (self.error or self.data or self.words)

    @property
    def simple(self) -> bool:
        """Whether a bulk action can be told it as a filter."""
        return self.plain and self.worker_id is None

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether a listed task passes what the store cannot pick."""
        if self.error is not None and normal(self.error) not in normal(row["error"] or ""):
            return False
        if self.words:
            text = _text(row)  # as large as the data, so put together once
            if not all(word in text for word in self.words):
                return False
        return not self.data or _data_fits(row["data"], self.data)

    def text(self) -> str:
        """The search that means this."""
        names = {"state": "status", "task_type": "type", "worker_id": "worker"}
        said = []
        for name in ("state", "task_type", "queue", "tag", "worker_id", "error"):
            if (value := getattr(self, name)) is not None:
                said.append(_said(names.get(name, name), value.value if isinstance(value, State) else value))
        said += [_said(f"data.{path}", value) for path, value in self.data]
        return " ".join([*said, *(f'"{word}"' if " " in word else word for word in self.words)])


def parse(text: str) -> Find:
    """The search in a text. Raises Invalid."""
    if len(text) > LONGEST:
        raise Invalid("q", f"must be at most {LONGEST} characters")
    if "\0" in text:
        raise Invalid("q", "must not contain NUL")
    find = Find()
    for token in TOKEN.findall(text):
        name, colon, value = token.partition(":")
        value = value.strip('"')
        if colon and value and name.startswith("data.") and len(name) > 5:
            find = replace(find, data=(*find.data, (name[5:], value)))
        elif colon and value and name in NAMES:
            find = _named(find, NAMES[name], value)
        elif word := token.strip('"').lower():
            find = replace(find, words=(*find.words, word))
    return find


def _named(find: Find, field: str, value: str) -> Find:
    if field != "state":
        said: dict[str, Any] = {field: value}
        return replace(find, **said)
    try:
        return replace(find, state=State("in_progress" if value == "running" else value))
    except ValueError:
        raise Invalid("status", f"must be one of {', '.join(state.value for state in State)}") from None


def normal(error: str) -> str:
    """The first line of an error without what differs from task to task, by which failures are grouped."""
    line = next((line for line in error.splitlines() if line.strip()), "")
    return NUMBER.sub("#", line.strip()[:300].replace('"', "'")) if line else ""


def _said(name: str, value: str) -> str:
    return f'{name}:"{value}"' if re.search(r'[\s"]', value) else f"{name}:{value}"


def _text(row: Mapping[str, Any]) -> str:
    fields = ("task_id", "task_type", "queue", "worker_id", "tags", "data", "error", "note")
    return " ".join(str(row[name]) for name in fields if row[name] is not None).lower()


def _data_fits(text: str, wanted: tuple[tuple[str, str], ...]) -> bool:
    if not all(value in text or not value.isascii() or "\\" in text for _, value in wanted):
        return False  # without parsing what cannot fit
    data = json.loads(text)
    return all(_is(_at(data, path), value) for path, value in wanted)


def _at(data: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and part.isdecimal() and int(part) < len(data):
            data = data[int(part)]
        else:
            return None
    return data


def _is(found: Any, value: str) -> bool:
    if isinstance(found, list):
        return any(_is(one, value) for one in found)
    return found is not None and (found == value or json.dumps(found, ensure_ascii=False) == value)
