"""Ends its interpreter, or tries to, in the way it is told."""

import ctypes
import os
import signal
import sys
from typing import Any


def execute(task_id: int, payload: dict[str, Any]) -> str:
    print("last words", flush=True)
    how = payload["how"]
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(3)
    elif how == "abort":
        os.abort()
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "sys.exit":
        sys.exit(4)
    elif how == "close":  # every descriptor, like a careless daemon
        os.closerange(0, 64)
        signal.pause()
    elif how == "scribble":
        for descriptor in range(3, 16):
            try:
                os.write(descriptor, b"\xff" * 64)
            except OSError:
                pass
        signal.pause()
    return "survived"
