"""Does the worst it can, in the way that `how` names."""

import ctypes
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def execute(task_id: int, payload: dict[str, Any]) -> Any:
    os.write(2, b"last words\n")
    return WAYS[payload["how"]](payload)


def loop(payload: dict[str, Any]) -> None:
    while True:
        pass


def deaf(payload: dict[str, Any]) -> None:
    """Lets no signal through that can be blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        time.sleep(1)


def blow_up(payload: dict[str, Any]) -> int:
    """Takes memory without end, where an end is set 256 MiB above."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, resource.RLIM_INFINITY))
    try:
        return len([bytearray(2**24) for _ in range(1000)])
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def flood(payload: dict[str, Any]) -> str:
    text = "x" * (2**20 - 1) + "\n"
    for _ in range(payload["megabytes"]):
        sys.stdout.write(text)
    return "dry"


def daemon(payload: dict[str, Any]) -> None:
    """Starts a program in a session of its own, out of the reach of its process group's signals."""
    subprocess.Popen(["sleep", "1000"], start_new_session=True).wait()


WAYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "segfault": lambda payload: ctypes.string_at(0),
    "exit": lambda payload: os._exit(3),
    "abort": lambda payload: os.abort(),
    "kill": lambda payload: os.kill(os.getpid(), signal.SIGKILL),
    "loop": loop,
    "deaf": deaf,
    "blow up": blow_up,
    "flood": flood,
    "daemon": daemon,
    "giant": lambda payload: bytes(payload["megabytes"] * 2**20),
    "nan": lambda payload: {"deep": [1, math.nan]},
    "surrogate": lambda payload: ["ok", "\ud800"],
    "object": lambda payload: {"it": object()},
    "generator": lambda payload: (n for n in range(3)),
    "huge integer": lambda payload: {"n": 2**70},
}
