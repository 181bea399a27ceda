"""Processes that a handler left behind outside its child's process group (daemons, new sessions).

Each child carries a mark in its environment, which whatever it starts inherits. Killing the process group ends nearly
everything; this ends the rest. Only a program started with an environment wiped clean escapes. A mark begins with the
name of the worker's instance, so that whoever finds that instance dead can end what is left of all its children.
"""

import os
import signal
from contextlib import suppress

MARKER = "TASKMILL_CHILD"
ROUNDS = 10  # a process that forks while we look is found in the next round


def kill(mark: str) -> None:
    """Kill every process of this user whose mark begins so."""
    entry = f"{MARKER}={mark}".encode()
    for _ in range(ROUNDS):
        found = [pid for pid in _processes() if any(one.startswith(entry) for one in _environment(pid))]
        for pid in found:
            _kill(pid)
        if not found:
            return


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:  # a system without /proc: the process group has to do
        return []


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:  # gone meanwhile, or another user's
        return []


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
