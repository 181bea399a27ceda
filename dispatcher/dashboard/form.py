"""The form to submit a task, built from the JSON schema that workers publish for its type."""

import json
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, render_template, request

from dispatcher.errors import Invalid
from dispatcher.queue import Queue
from dispatcher.routes.tasks import MAX_ID

KINDS = {"integer": "int", "number": "number", "string": "text", "boolean": "bool"}
MOST_FIELDS = 50


def add(views: Blueprint, queue: Queue) -> None:
    """The view."""

    @views.get("/ui/submit")
    def submit() -> str:
        schemas = queue.type_schemas()
        like = _like(queue)
        kind = request.args.get("type") or (like["task_type"] if like else "")
        data = json.loads(like["data"]) if like else {}
        schema = _loaded(schemas.get(kind))
        made = fields(schema, data)
        rest = {name: value for name, value in data.items() if name not in {one["name"] for one in made}}
        return render_template(
            "submit.html", types=sorted(schemas), kind=kind, fields=made, like=like, title=schema.get("title"),
            data=json.dumps(rest if made else data, indent=2, ensure_ascii=False) if data else "",
            tags=", ".join(json.loads(like["tags"])) if like and like["tags"] else "", rest=bool(rest),
        )  # fmt: skip


def _like(queue: Queue) -> dict[str, Any] | None:
    """The task that is to be submitted once more."""
    text = request.args.get("like")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 17 and int(text) <= MAX_ID):
        raise Invalid("like", "must be the id of a task")
    return queue.task(int(text))


def _loaded(text: str | None) -> dict[str, Any]:
    schema = json.loads(text) if text else {}
    return schema if isinstance(schema, dict) else {}


def fields(schema: Mapping[str, Any], data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The fields of a form for a schema, filled from the data or from the schema's defaults."""
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict):
        return []
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    return [
        _field(name, _meant(one, schema), name in needed, data) for name, one in list(properties.items())[:MOST_FIELDS]
    ]


def _meant(given: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A property without the detours: a reference into the schema, a choice between something and null."""
    one: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    if isinstance(reference := one.get("$ref"), str) and reference.startswith("#/$defs/"):
        known = schema.get("$defs")  # a worker may publish anything
        found = known.get(reference[8:]) if isinstance(known, dict) else None
        one = {**(found if isinstance(found, dict) else {}), **{k: v for k, v in one.items() if k != "$ref"}}
    either = one.get("anyOf")
    choices = [c for c in either if isinstance(c, dict) and c.get("type") != "null"] if isinstance(either, list) else []
    if len(choices) == 1:
        one = {**one, **choices[0]}
    if isinstance(kinds := one.get("type"), list):
        some = [kind for kind in kinds if kind != "null"]
        one = {**one, "type": some[0] if len(some) == 1 else None}
    return one


def _field(name: str, one: Mapping[str, Any], needed: bool, data: Mapping[str, Any]) -> dict[str, Any]:
    choices = [c for c in one["enum"] if c is not None] if isinstance(one.get("enum"), list) else None
    kind = KINDS.get(str(one.get("type")), "json")
    if choices:
        kind = "text" if all(isinstance(choice, str) for choice in choices) else "json"
    value = data.get(name, one.get("default"))
    return {
        "name": name, "path": json.dumps(["task_data", name]), "kind": kind, "needed": needed,
        "choices": choices and [_shown(choice, kind) for choice in choices],
        "value": "" if value is None else _shown(value, kind), "hint": _hint(one),
        "least": one.get("minimum"), "most": one.get("maximum"), "title": one.get("title"),
    }  # fmt: skip


def _shown(value: Any, kind: str) -> str:
    return value if kind == "text" and isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _hint(one: Mapping[str, Any]) -> str:
    """What the schema says of a field, for people."""
    least, most = (
        one.get(name) if isinstance(one.get(name), (int, float)) else None for name in ("minimum", "maximum")
    )
    within = ""
    if least is not None and most is not None:
        within = f"{least:,} to {most:,}"
    elif least is not None or most is not None:
        within = f"at least {least:,}" if least is not None else f"at most {most:,}"
    said = one.get("description") if isinstance(one.get("description"), str) else ""
    return ". ".join(part for part in (said, within) if part)
