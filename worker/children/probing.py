"""The throw-away child that imports handlers: it says a name, then what became of it (see `handlers.py`)."""

import json
import os
import sys
from typing import Any

from common.handlers.loading import HandlerError, load
from common.handlers.texts import clean, explained
from common.json_profile import dump


def main() -> None:
    """Started as `python -I -c BOOT root files`; `files` is {task type: path}."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what handlers print at import is not an answer
    for task_type, path in json.loads(sys.argv[2]).items():
        _say(answers, task_type)
        _say(answers, _tried(path))
    os._exit(0)  # whatever the handlers started must not keep us


def _tried(path: str) -> dict[str, Any]:
    try:
        handler = load(path)
        schema, defaults = handler.schema(), handler.defaults()
        dump(schema)
    except HandlerError as error:
        return {"error": str(error)}
    except BaseException as error:
        return {"error": clean(f"{path}: {explained(error)}")}
    return {"schema": schema, "slots": handler.slots, "defaults": defaults}


def _say(answers: int, value: Any) -> None:
    data = dump(value).encode() + b"\n"
    while data:
        data = data[os.write(answers, data) :]
