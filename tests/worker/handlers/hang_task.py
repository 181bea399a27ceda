"""Does not end by itself; `how` says what could end it. Touches the file `begun` first."""

import ctypes
import threading
from pathlib import Path
from typing import Any


def execute(payload: dict[str, Any], context: Any) -> str:
    if "begun" in payload:
        Path(payload["begun"]).touch()
    return globals()[payload.get("how", "plain")](context)


def plain(context: Any) -> str:
    threading.Event().wait()
    return "never"


def busy(context: Any) -> str:
    while True:
        pass


def stubborn(context: Any) -> str:
    while True:
        try:
            threading.Event().wait()
        except BaseException:
            continue


def compiled(context: Any) -> str:
    """Inside one C call that keeps the interpreter's lock: no Python signal handler can run."""
    while ctypes.PyDLL(None).sleep(1000):  # any signal of the process cuts it short
        pass
    return "never"


def polite(context: Any) -> str:
    """Polls, cleans up, and returns normally."""
    pause = threading.Event()
    while not context.cancelled():
        pause.wait(0.01)
    context.checkpoint("cleaned up")
    return "ended by itself"
