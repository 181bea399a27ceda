"""Ends its interpreter, or tries to, in the way it is told."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def execute(task_id: int, payload: dict[str, Any]) -> str:
    os.write(1, b"last words\n")
    WAYS[payload["how"]]()
    return "survived"


def close() -> None:
    """Every descriptor, like a careless daemon."""
    os.closerange(0, 256)
    signal.pause()


def scribble() -> None:
    """On every descriptor."""
    for descriptor in range(3, 256):
        with suppress(OSError):
            os.write(descriptor, b"\xff" * 64)
    signal.pause()


WAYS: dict[str, Callable[[], Any]] = {
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(3),
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "sys.exit": lambda: sys.exit(4),
    "close": close,
    "scribble": scribble,
}
