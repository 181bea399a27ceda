"""Finds and loads handlers by file.

A module gets a private name (`taskmill_handlers.prime_task`), so that no handler hides an installed package; its
folder stands on `sys.path`, so that it finds its siblings. A child imports this module at its start: it must stay
small.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from types import CodeType, ModuleType
from typing import Any

TYPE_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
SUFFIX = "_task.py"
CLASSIC = ("task_id", "payload")
MODERN = ("payload", "context")
MOST_SLOTS = 1000
WANTS = ("max_attempts", "backoff", "timeout_seconds")
_OUR_TASKS = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(__file__))), "tasks")
_CO_VARIABLE, _CO_SUSPENDS = 0x04 | 0x08, 0x20 | 0x80 | 0x200  # inspect.CO_*, without the weight of inspect


class HandlerError(Exception):
    """A handler cannot be used; the message names its file and the reason."""


class Handler:
    """One loaded handler."""

    def __init__(self, module: ModuleType, path: str) -> None:
        self.module = module
        self.execute: Callable[..., Any] = getattr(module, "execute", None)  # type: ignore[assignment]
        self.classic = _form(self.execute, path) == CLASSIC
        model = getattr(module, "Payload", None)
        self.model: Any = model if hasattr(model, "model_validate") else None
        self.slots = _slots(module, path)

    def setup(self) -> None:
        """What the handler wants done once per child."""
        prepare = getattr(self.module, "setup", None)
        if prepare is not None:
            prepare()

    def payload(self, data: Any) -> Any:
        """What `execute` gets: the task's data, or in the modern form its pydantic `Payload`."""
        return self.model.model_validate(data) if self.model is not None and not self.classic else data

    def schema(self) -> Any:
        """The JSON Schema of its task_data, or None. Raises HandlerError."""
        if self.model is not None:
            return self.model.model_json_schema()
        schema = getattr(self.module, "PAYLOAD_SCHEMA", None)
        if schema is not None and not isinstance(schema, dict):
            kind = type(schema).__name__
            raise HandlerError(f"{self.module.__file__}: PAYLOAD_SCHEMA is a {kind}; it must be a dict (JSON Schema)")
        return schema

    def defaults(self) -> dict[str, Any] | None:
        """What its tasks want unless they say otherwise; None when nothing. Raises HandlerError."""
        from common.handlers.defaults import checked  # here: few ask

        try:
            return checked({name: value for name in WANTS if (value := getattr(self.module, name, None)) is not None})
        except ValueError as error:
            raise HandlerError(f"{self.module.__file__}: {error}") from None


def classic_failure(value: Any) -> str | None:
    """The error of a handler of the classic form that returned one; None for any other value."""
    if not isinstance(value, dict) or value.get("status") != "failed":
        return None
    return str(value.get("error") or "the handler returned status failed")


def find(folders: Iterable[str], task_type: str) -> str:
    """The file of a type's handler: the first folder that has one; raises HandlerError when none has."""
    if TYPE_NAME.fullmatch(task_type):
        for folder in folders:
            path = os.path.join(folder, task_type + SUFFIX)
            if os.path.isfile(path):
                return path
    raise HandlerError(f"no handler for task type {task_type!r} in {', '.join(folders)}")


def load(path: str) -> Handler:
    """Import the handler in a file; raises what its code raises, and HandlerError for a wrong form."""
    from importlib import util  # here: a child that only waits never needs it

    name = f"taskmill_handlers.{os.path.basename(path)[:-3]}"
    spec = util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise HandlerError(f"{path}: cannot be imported")
    _put_siblings_in_reach(os.path.dirname(path))
    module = util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        return Handler(module, path)
    except BaseException:
        del sys.modules[name]
        raise


def _put_siblings_in_reach(folder: str) -> None:
    """Our own `tasks` are a package, and find each other as such."""
    if folder not in sys.path and folder != _OUR_TASKS:
        sys.path.insert(1, folder)


def _form(execute: Any, path: str) -> Sequence[str]:
    code = _code(execute)
    if code is None:
        raise HandlerError(f"{path}: has no function execute(payload, context)")
    if code.co_flags & _CO_SUSPENDS:
        raise HandlerError(f"{path}: execute must be a plain function, neither async nor a generator")
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if code.co_flags & _CO_VARIABLE or names not in (CLASSIC, MODERN):
        rule = "they must be (task_id, payload) or (payload, context)"
        raise HandlerError(f"{path}: execute has the parameters ({', '.join(names)}); {rule}")
    return names


def _slots(module: ModuleType, path: str) -> int:
    """How many of the worker's slots one of its tasks takes."""
    slots = getattr(module, "slots", 1)
    if not isinstance(slots, int) or not 1 <= slots <= MOST_SLOTS:
        raise HandlerError(f"{path}: slots is {slots!r}; it must be a whole number from 1 to {MOST_SLOTS}")
    return slots


def _code(function: Any) -> CodeType | None:
    while hasattr(function, "__wrapped__"):  # a decorator made with functools.wraps
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None
