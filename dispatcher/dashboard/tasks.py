"""The list of tasks: search in the address, pages by cursor, failures by error, actions on all that match."""

import json
from typing import Any

from flask import Blueprint, render_template, request

from dispatcher.errors import DispatcherError, Invalid
from dispatcher.model import FINAL, State
from dispatcher.queue import Queue, browse
from dispatcher.queue.find import Find, parse
from dispatcher.routes import show

SHOWN = 50
AT_ONCE = 1_000  # ids of a search that only a look can answer
GROUPS = 20
CHARS = 160
TABS = (State.PENDING, State.IN_PROGRESS, State.FAILED, State.COMPLETED, State.CANCELLED, State.BLOCKED)


def add(views: Blueprint, queue: Queue) -> None:
    """The views."""

    @views.get("/ui/tasks")
    def tasks() -> str:
        text, wrong = request.args.get("q", "").strip(), None
        try:
            find = parse(text)
            page = browse.page(queue, find, request.args.get("cursor") or None, SHOWN)
        except DispatcherError as error:
            find, page, wrong = Find(), browse.Page([], None, 0), error
        groups, looked = browse.failures(queue, find) if _grouped(find) else ([], 0)
        return render_template(
            "tasks.html", q=text, find=find, page=page, rows=[_row(row) for row in page.rows], wrong=wrong,
            groups=groups[:GROUPS], looked=looked, tabs=_tabs(queue, find), actions=_actions(find),
            filter=json.dumps(_filter(find)) if find.simple else None, kinds=_kinds(queue),
        )  # fmt: skip

    @views.get("/ui/tasks/ids")
    def ids() -> show.Reply:
        find = parse(request.args.get("q", ""))
        if find == Find():
            raise Invalid("q", "must say something: nothing is done to all tasks at once")
        page = browse.page(queue, find, None, AT_ONCE, patience_s=2.0)
        return show.success({"task_ids": [row["task_id"] for row in page.rows], "more": page.cursor is not None})


def _grouped(find: Find) -> bool:
    """Where the failures are worth grouping: all of them, of a queue, of a type."""
    return find.state == State.FAILED and find.simple and find.tag is None


def _row(row: dict[str, Any]) -> dict[str, Any]:
    data = row["data"] if len(row["data"]) <= CHARS else f"{row['data'][:CHARS]}…"
    error = (row["error"] or "").strip().partition("\n")[0][:300]
    return {**row, "data": data, "error": error, "tags": json.loads(row["tags"]) if row["tags"] else []}


def _tabs(queue: Queue, find: Find) -> list[dict[str, Any]]:
    """The states, with how many tasks are in each where that is known, and the search for each."""
    counts = browse.known(queue, find)
    every = {"state": None, "n": None if counts is None else sum(counts.values()), "q": _of_state(find, None)}
    return [every] + [
        {"state": state.value, "n": None if counts is None else counts[state.value], "q": _of_state(find, state)}
        for state in TABS
    ]


def _of_state(find: Find, state: State | None) -> str:
    error = find.error if state in (None, State.FAILED) else None
    return Find(state, find.task_type, find.queue, find.tag, find.worker_id, error, find.data, find.words).text()


def _actions(find: Find) -> list[str]:
    """What can be done to tasks in the state that is looked for."""
    if find.state is None:
        return ["retry", "cancel", "delete"]
    return ["retry", "delete"] if find.state in FINAL else ["cancel"]


def _filter(find: Find) -> dict[str, str]:
    said = {
        "status": find.state and find.state.value,
        "queue": find.queue,
        "task_type": find.task_type,
        "tag": find.tag,
    }
    return {name: value for name, value in said.items() if value is not None}


def _kinds(queue: Queue) -> dict[str, list[str]]:
    """Names to complete a search with."""
    lanes = queue.lanes(500)
    return {"type": sorted({kind for _, kind in lanes}), "queue": sorted({name for name, _ in lanes})}
