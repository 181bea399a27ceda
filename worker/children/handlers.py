"""Which handlers there are, and whether they can be used.

Handlers are the user's code: they are imported in a throw-away child, never here. The child names each handler before
it imports it, so one that ends or stops the interpreter is known, and the rest is looked at by another child.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from common.handlers.loading import SUFFIX, TYPE_NAME
from common.handlers.texts import clean
from common.json_profile import JsonError, parse
from common.places import IMPORTS, boot
from worker.children import leftovers
from worker.children.process import described, environment

PROBE_SECONDS = 60.0
ERROR_BYTES = 8 * 1024
_BOOT = boot("worker.children.probing")


@dataclass
class Probe:
    """The usable task types with the JSON Schema of their data (or None), and why the others are not; `slots` of those
    that take more than one."""

    types: dict[str, Any] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)  # what tasks of a type want, for types that say it


@dataclass
class Discovery:
    """The file of each task type; `errors` names files that were passed over, and why."""

    files: dict[str, Path] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def discover(folders: Iterable[Path]) -> Discovery:
    """Look for `<task_type>_task.py`, in order; of two files for one type the first counts, the other is an error."""
    found = Discovery()
    for folder in folders:
        if not folder.is_dir():
            found.errors[str(folder)] = "no such folder"
        for path in sorted(folder.glob("*" + SUFFIX)):
            _add(found, path)
    return found


def _add(found: Discovery, path: Path) -> None:
    task_type = path.name[: -len(SUFFIX)]
    if not TYPE_NAME.fullmatch(task_type):
        found.errors[str(path)] = f"{task_type!r} is no task type: use up to 128 of A-Z a-z 0-9 _ . : -"
    elif task_type in found.files:
        found.errors[str(path)] = f"task type {task_type!r} is taken by {found.files[task_type]}"
    else:
        found.files[task_type] = path


def probe(folders: Sequence[Path], seconds: float = PROBE_SECONDS) -> Probe:
    """Import every handler in a throw-away child; each child may take so many seconds. Errors go by type or file."""
    found = discover(folders)
    result = Probe(errors=dict(found.errors))
    rest = dict(found.files)
    while rest:
        before = len(rest)
        report = _probe_once(rest, seconds)
        _note(result, rest, _probe_once(rest, seconds) if report.killed else report)
        if len(rest) == before:
            result.errors.update({task_type: "could not be probed" for task_type in rest})
            break
    return result


@dataclass
class _Report:
    """What one child said, line by line, and how it ended if it did not come to an end."""

    lines: list[bytes]
    end: str
    killed: bool = False  # with SIGKILL: perhaps not for the sake of a handler, so another child may try


def _probe_once(files: Mapping[str, Path], seconds: float) -> _Report:
    paths = json.dumps({task_type: str(path) for task_type, path in files.items()})
    command = [sys.executable, "-I", "-c", _BOOT, str(IMPORTS), paths]
    mark = uuid4().hex
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            env=environment() | {leftovers.MARKER: mark},
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        return _Report((error.stdout or b"").splitlines(), f"its import took more than {seconds:g} s")
    finally:
        leftovers.kill(mark)
    end = f"its import ended the interpreter: {described(done.returncode)}"
    return _Report(done.stdout.splitlines(), end, done.returncode == -signal.SIGKILL)


def _note(result: Probe, rest: dict[str, Path], report: _Report) -> None:
    """Move what the child said from `rest` to the result; the handler it had named last is to blame for its end."""
    named: str | None = None
    for line in report.lines:
        try:
            said = parse(line)
        except JsonError:  # the beginning of a line, or a handler wrote into our pipe
            continue
        if named is None:
            named = str(said)
        else:
            _settle(result, rest, named, said)
            named = None
    if named in rest:
        result.errors[named] = f"{rest.pop(named)}: {report.end}"


def _settle(result: Probe, rest: dict[str, Path], task_type: str, said: Any) -> None:
    if rest.pop(task_type, None) is None:
        return
    if "error" in said:
        result.errors[task_type] = clean(said["error"], ERROR_BYTES)
    else:
        result.types[task_type] = said["schema"]
        if said["slots"] > 1:
            result.slots[task_type] = said["slots"]
        if said["defaults"] is not None:
            result.defaults[task_type] = said["defaults"]
