"""Runs one attempt of a task in this process, as a worker's child would: for tests of handlers."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from client import config
from common.handlers import updates
from common.handlers.folders import task_paths
from common.handlers.loading import Handler, classic_failure, find, load
from common.handlers.signs import raised
from common.handlers.texts import clean
from common.json_profile import JsonError, dump, parse

Named = str | Path | ModuleType | Callable[..., Any]  # a task type, a file, a module, or its `execute`


@dataclass
class Run:
    """How an attempt ended, and what the handler told meanwhile; all values have been through JSON once."""

    status: str = "completed"  # or failed, snoozed, cancelled
    result: Any = None  # of JSON, or bytes
    error: str | None = None  # as a task has it, the traceback included
    exception: BaseException | None = None  # what was raised
    retry: bool = True  # False: another attempt cannot succeed
    snooze_seconds: float | None = None
    seconds: float = 0.0
    progress: list[tuple[float, float | None]] = field(default_factory=list)  # (done, total), each that was told
    notes: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    partials: list[Any] = field(default_factory=list)
    checkpoint: Any = None  # the last one saved, or the one that was given


class Recorder:
    """The context of a handler; writes down what it is told. From its `cancel_after`th question on, the task is
    cancelled."""

    def __init__(self, checkpoint: Any, cancel_after: int | None) -> None:
        self.checkpoint_state = parse(updates.checkpoint(checkpoint))
        self.run = Run(checkpoint=self.checkpoint_state)
        self.stopped = False
        self._asked, self._cancel_after = 0, cancel_after

    def progress(self, done: float, total: float | None, note: str = "") -> None:
        """Raises JsonError as in a child."""
        parts = updates.progress(done, total, note)
        told = parse(parts["progress"])
        self.run.progress.append((told["done"], told["total"]))
        if note:
            self.run.notes.append(parse(parts["note"]))

    def checkpoint(self, state: Any) -> None:
        """Raises ValueError as in a child."""
        self.run.checkpoint = parse(updates.checkpoint(state))

    def partial(self, value: Any) -> None:
        """Raises ValueError as in a child."""
        self.run.partials.append(parse(updates.partial(value)))

    def log(self, text: str) -> None:
        """Lines of the task's log."""
        self.run.log += map(clean, str(text).splitlines())

    def cancelled(self) -> bool:
        """Whether the task should stop."""
        self._asked += 1
        self.stopped = self._cancel_after is not None and self._asked > self._cancel_after
        return self.stopped


def run_task(
    handler: Named,
    data: Mapping[str, Any] | None = None,
    *,
    task_id: int = 1,
    checkpoint: Any = None,
    cancel_after: int | None = None,
) -> Run:
    """Run one attempt here and now. `handler` is a task type (found as a worker finds it), a file, a module, or a
    function `execute`; `checkpoint` what an earlier attempt saved; after `cancel_after` questions
    `context.cancelled()` is true.

    What the handler raises is in the Run; HandlerError says that it is no handler, ValueError that `data` is no JSON
    object. Not as in a child: no time or memory limit, and a crash is a crash of this process.
    """
    return attempt(loaded(handler), round_trip(data or {}), task_id, Recorder(checkpoint, cancel_after))


def loaded(handler: Named) -> Handler:
    """The handler that is meant, whose module is imported anew if it is named by type or file. Raises HandlerError."""
    if isinstance(handler, str):
        folders = [str(path) for path in task_paths(config.load().tasks_path)]
        return load(find(folders, handler))
    if isinstance(handler, Path):
        return load(str(handler.resolve()))
    if isinstance(handler, ModuleType):
        return Handler(handler, handler.__name__)
    module = sys.modules.get(handler.__module__)
    if module is None or getattr(module, "execute", None) is not handler:
        module = ModuleType(handler.__name__)
        vars(module)["execute"] = handler
    return Handler(module, handler.__name__)


def round_trip(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a task as its handler gets it. Raises ValueError."""
    value = parse(dump(data))
    if not isinstance(value, dict):
        raise ValueError(f"task_data must be an object, not {type(data).__name__}")
    return value


def attempt(handler: Handler, data: dict[str, Any], task_id: int, context: Recorder, *, set_up: bool = True) -> Run:
    """One attempt; whatever the handler raises is its failure, `SystemExit` too."""
    run, began = context.run, time.monotonic()
    try:
        if set_up:
            handler.setup()
        payload = handler.payload(data)
        value = handler.execute(task_id, payload) if handler.classic else handler.execute(payload, context)
        _ended(run, value, handler.classic)
    except (Exception, SystemExit) as error:  # Ctrl-C, and what pytest raises, are meant for others
        _failed(run, error)
    run.seconds = time.monotonic() - began
    if context.stopped:
        run.status, run.result = "cancelled", None
    return run


def _ended(run: Run, value: Any, classic: bool) -> None:
    error = classic_failure(value) if classic else None
    if error is not None:
        run.status, run.error = "failed", error
    elif isinstance(value, (bytes, bytearray, memoryview)):
        run.result = bytes(value)
    else:
        try:
            run.result = parse(dump(value))
        except JsonError as wrong:
            run.status, run.error, run.exception = "failed", f"the result cannot be reported: {wrong}", wrong


def _failed(run: Run, error: BaseException) -> None:
    told = raised(error)
    run.exception = error
    if told.snooze is not None:
        run.status, run.snooze_seconds = "snoozed", told.snooze
    else:
        run.status, run.error, run.retry = "failed", clean(told.error), told.retry
