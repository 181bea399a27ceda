"""Writes docs/reference/ from the code: `.venv/bin/python docs/make_reference.py`. A test holds that it is current."""

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this file's own folder stands there

from cli.main import app  # noqa: E402
from client import arguments  # noqa: E402
from client.config import ClientSettings  # noqa: E402
from common.settings import setting_name  # noqa: E402
from dispatcher import __main__ as dispatcher_program  # noqa: E402
from dispatcher.config import DispatcherSettings  # noqa: E402
from dispatcher.routes.api.document import document  # noqa: E402
from worker import __main__ as worker_program  # noqa: E402
from worker.config import WorkerSettings  # noqa: E402

NOTE = "<!-- Written by docs/make_reference.py from the code. Do not edit. -->\n"
PLACE = ROOT / "docs" / "reference"
WIDTH = 100  # characters of a help text
KINDS = {"int": "whole number", "Seconds": "time", "bool": "yes or no", "str": "text", "Path": "path", "tuple": "list"}
WORDS = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}", "exclusiveMaximum": "below {}"}
WORDS |= {"minLength": "from {} characters", "maxLength": "to {} characters", "maxItems": "(at most {})"}

Schema = Mapping[str, Any]


def pages() -> dict[str, str]:
    """All pages by their file's name."""
    return {"settings.md": settings(), "endpoints.md": endpoints(), "commands.md": commands()}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# settings


def settings() -> str:
    """What .env.example says, with the kinds and bounds of the dataclasses that read it."""
    classes = (DispatcherSettings, WorkerSettings, ClientSettings)
    fields = {setting_name(field): field for cls in classes for field in dataclasses.fields(cls)}
    text = (ROOT / ".env.example").read_text()
    opening, *sections = re.split(r"^# -- (.+) --$", text, flags=re.M)
    parts = [NOTE, "# Settings\n", " ".join(line.lstrip("# ") for line in opening.strip().splitlines()) + "\n"]
    for title, section in zip(sections[::2], sections[1::2], strict=True):
        rows = [
            (f"`{name}`", default and f"`{default}`", _kind(fields.get(name)), told)
            for name, default, told in _settings(section)
        ]
        parts += [f"## {title[0].upper()}{title[1:]}\n", table(("setting", "default", "kind", "what it does"), rows)]
    return "\n".join(parts)


def _settings(section: str) -> Iterator[tuple[str, str, str]]:
    """Name, default and explanation; settings that follow each other share one."""
    told: list[str] = []
    fresh = True
    for line in section.strip().splitlines():
        name, found, default = line.partition("=")
        if line.startswith("#"):
            told = [line.lstrip("# ")] if fresh else [*told, line.lstrip("# ")]
            fresh = False
        elif found:
            yield name, default, " ".join(told)
            fresh = True


def _kind(field: "dataclasses.Field[Any] | None") -> str:
    if field is None:
        return "text"
    name = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", "str")
    low, high = field.metadata.get("low"), field.metadata.get("high")
    bounds = [f"from {low:,}" if low is not None else "", f"to {high:,}" if high is not None else ""]
    return " ".join([KINDS[name], *filter(None, bounds)])


# endpoints


def endpoints() -> str:
    """What /openapi.json says."""
    told = document()
    schemas = told["components"]["schemas"]
    count = sum(map(len, told["paths"].values()))
    parts = [
        NOTE,
        "# Endpoints\n",
        f"All {count}, as `/openapi.json` has them. Answers and codes: [../protocol.md](../protocol.md).\n",
    ]
    used: dict[str, None] = {}
    for path, operations in told["paths"].items():
        for method, operation in operations.items():
            parts += _endpoint(method, path, operation, used)
    parts.append("# Bodies\n")
    done: set[str] = set()
    while rest := [name for name in used if name not in done]:
        for name in rest:
            done.add(name)
            parts += _body(name, schemas[name], used)
    return "\n".join(parts)


def _endpoint(method: str, path: str, operation: Mapping[str, Any], used: dict[str, None]) -> list[str]:
    success = next(status for status in operation["responses"] if status.startswith("2"))
    parts = [f"## {method.upper()} {path}\n", f"{operation['summary']}. Answers {success}.\n"]
    if "description" in operation:
        parts.append(f"{operation['description']}\n")
    if "security" in operation and not operation["security"]:
        parts.append("Needs no token.\n")
    asked = [
        (f"`{one['name']}`", one["in"], _type(one["schema"], used), one.get("description", ""))
        for one in operation.get("parameters", [])
    ]
    if asked:
        parts.append(table(("parameter", "in", "type", ""), asked))
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"Body: {_type(content.get('schema', {}), used) or 'bytes'} (`{media_type}`)\n")
    return parts


def _body(name: str, schema: Schema, used: dict[str, None]) -> list[str]:
    parts = [f"## {name}\n"]
    if "description" in schema:
        parts.append(f"{' '.join(schema['description'].split())}\n")
    required = schema.get("required", [])
    rows = [
        (f"`{field}`", _type(told, used), _default(told, field in required), told.get("description", ""))
        for field, told in schema.get("properties", {}).items()
    ]  # fmt: skip
    if rows:
        parts.append(table(("field", "type", "default", ""), rows))
    parts += [f"```json\n{json.dumps(example)}\n```\n" for example in schema.get("examples", [])[:1]]
    return parts


def _default(schema: Schema, required: bool) -> str:
    if required:
        return "required"
    return f"`{schema['default']}`" if schema.get("default") not in (None, [], {}) else ""


def _type(schema: Schema, used: dict[str, None]) -> str:
    """A JSON Schema in a few words; notes the schemas that it names."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        used.setdefault(name)
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(filter(None, (_type(one, used) for one in schema[several])))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{word}`" for word in schema.get("enum", [schema.get("const")]))
    return " ".join([_named(schema, used), *(word.format(schema[key]) for key, word in WORDS.items() if key in schema)])


def _named(schema: Schema, used: dict[str, None]) -> str:
    kind = schema.get("type", "")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}), used) or 'any'}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_type(schema['additionalProperties'], used) or 'any'}"
    return str(schema.get("format", kind)) if not isinstance(kind, list) else " or ".join(kind)


# commands


def commands() -> str:
    """What the programs' own help says."""
    root = _context(app, "taskmill", None)
    parts = [
        NOTE,
        "# Commands\n",
        "What `--help` says. In words, with the exit codes: [../commands.md](../commands.md).\n",
    ]
    parts += ["## taskmill\n", *_clicked(root)]
    for name, parser in programs().items():
        parts += [f"## {name}\n", f"{parser.description}\n", table(("option", "what it says"), list(_options(parser)))]
    return "\n".join(parts)


def programs() -> dict[str, argparse.ArgumentParser]:
    """Those beside `taskmill`."""
    return {
        "add_task.py": arguments.parser(),
        "start_dispatcher.sh": dispatcher_program.parser(),
        "start_worker.sh": worker_program.parser(),
    }


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(command, parent, name, terminal_width=WIDTH, **command.context_settings)


def _clicked(context: click.Context) -> Iterator[str]:
    """The help of a command, and of those below it."""
    yield f"```text\n{context.get_help().rstrip()}\n```\n"
    for name in context.command.list_commands(context) if isinstance(context.command, click.Group) else ():
        command = context.command.get_command(context, name)  # type: ignore[attr-defined]
        below = _context(command, name, context)
        yield f"### {below.command_path}\n"
        yield from _clicked(below)


def _options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Not argparse's own text, which looks different in each version of Python."""
    for action in parser._actions:
        if action.dest in ("help", "version"):
            continue
        named = ", ".join(action.option_strings)
        value = action.metavar or "" if action.nargs != 0 else ""
        yield (
            f"`{f'{named} {value}'.strip() or action.dest}`",
            (action.help or "").replace("%(default)s", str(action.default)),
        )


def main() -> None:
    """Writes all pages."""
    PLACE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (PLACE / name).write_text(text)


if __name__ == "__main__":
    main()
