"""Schedules of real dispatchers: a kill -9 in between loses no tick and fires none twice."""

import signal
from collections.abc import Callable
from typing import Any

from http_helpers import Process, wait_until


def told(process: Process) -> Any:
    return process.ask("GET", "/schedules/s").json["data"]


def ran(process: Process) -> int:
    return len(process.ask("GET", "/tasks?limit=500").json["data"]["tasks"])


def seconds(moment: str) -> float:
    hours, minutes, rest = moment.rstrip("Z").partition("T")[2].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def test_kill_9_between_ticks(run_warm: Callable[..., Process]) -> None:
    process = run_warm().ready()
    body = {"name": "s", "every": "1s", "catch_up": "all", "task": {"task_type": "noop"}}
    first = process.post("/schedules", body).json["data"]["next_at"]
    for number in (2, 4, 6):
        wait_until(lambda number=number, process=process: ran(process) >= number, 20)
        process.stop(signal.SIGKILL)
        process = run_warm().ready()
    process.ask("PATCH", "/schedules/s", {"paused": True})
    ticks = round((seconds(told(process)["last_at"]) - seconds(first)) % 86400) + 1
    assert ran(process) == ticks >= 6
