"""One task: what it is, what became of it, and what can be done with it."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from flask import Blueprint, Response, render_template

from dispatcher.errors import NotFound
from dispatcher.model import FINAL, KEYED, State
from dispatcher.queue import Queue, why
from dispatcher.queue.output import lines_of
from dispatcher.routes.tasks import known

CHARS = 20_000
PNG, SVG = b"\x89PNG\r\n\x1a\n", b"<svg"
PICTURES = ("image/png", "image/svg+xml")


def add(views: Blueprint, queue: Queue) -> None:
    """The views."""

    @views.get("/ui/task/<int:task_id>")
    def task(task_id: int) -> str:
        row = queue.task(known(task_id))
        output = queue.output(task_id)
        return render_template(
            "task.html", task=row, why=why.because(queue, row), log=lines_of(output), attempts=_attempts(row),
            error=next(iter((row["error"] or "").strip().splitlines()), ""), data=pretty(row["data"]),
            partial=pretty(output.partial) if output and output.partial else None,
            result=None if row["result"] is None else pretty(row["result"]), picture=_picture(queue, row),
            tags=json.loads(row["tags"]) if row["tags"] else [], waits=row["status"] in ("pending", "blocked"),
            requires=[label for label in json.loads(row["requires"]) if label != KEYED],
            options=json.loads(row["options"]) if row["options"] else {}, ended=State(row["status"]) in FINAL,
        )  # fmt: skip

    @views.get("/ui/task/<int:task_id>/picture")
    def picture(task_id: int) -> Response:
        row = queue.task(known(task_id))
        kind = _picture(queue, row)
        if kind is None:
            raise NotFound(f"a picture in the result of task {task_id}")
        headers = {
            "Content-Length": str(row["bytes"]),
            "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
        }
        return Response(queue.result_parts(task_id), content_type=kind, headers=headers)


def pretty(text: str) -> str:
    """JSON text for people, its length bounded."""
    if len(text) <= 4 * CHARS:  # indented, deep data of a mebibyte grows to a hundred
        with suppress(ValueError):  # an integer of more digits than Python converts
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return text if len(text) <= CHARS else f"{text[:CHARS]}\n… ({len(text):,} characters in all)"


def _picture(queue: Queue, row: Mapping[str, Any]) -> str | None:
    """The media type of a result that is a picture: by what it says it is, or by how it begins."""
    if row["sha256"] is None:
        return None
    if row["media_type"] in PICTURES:
        return str(row["media_type"])
    head = next(iter(queue.result_parts(row["task_id"])), b"")[:1024].lstrip()
    if head.startswith(PNG):
        return PICTURES[0]
    return PICTURES[1] if head.startswith(SVG) or (head.startswith(b"<?xml") and SVG in head) else None


def _attempts(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The attempts in order, the present one or the one that won last."""
    told = [dict(ended) for ended in row["ended"]]
    if row["lease"] is not None and row["started_at"] is not None:
        how = "completed" if row["status"] == "completed" else "running"
        now = {"how": how, "attempt": row["attempts"], "generation": row["generation"], "worker_id": row["assigned_to"]}
        told.append(
            {**now, "claimed_at": row["started_at"], "ended_at": row["finished_at"], "error": None, "charged": 1}
        )
    return told
