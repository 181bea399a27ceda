"""A whole worker that has nothing to do, on a whole dispatcher: its claims say that it lives."""

import re
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from doubles import wait_until
from whole_system import System

DEATH_S, INTERVAL_S = 2.0, 0.1


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path, WORKER_DEATH_TIMEOUT=f"{DEATH_S}", WORKER_HEARTBEAT_INTERVAL=f"{INTERVAL_S}")
    try:
        yield made
    finally:
        made.end()


def heartbeats(system: System) -> int:
    with urllib.request.urlopen(f"{system.transport.url}/metrics") as reply:
        found = re.search(r'taskmill_heartbeats_total{form="native"} (\d+)', reply.read().decode())
    assert found
    return int(found[1])


def listed(system: System) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = system.transport.call("GET", "/workers")["workers"]
    return told


def test_a_worker_that_only_waits_is_alive_without_heartbeats(system: System) -> None:
    system.start_worker()
    wait_until(lambda: listed(system))
    wait_until(system.has(system.submit("noop", {}), "completed"))  # its claim began before a heartbeat was answered
    began, before = datetime.fromisoformat(listed(system)[0]["last_heartbeat"][:-1]), heartbeats(system)

    def lives_long() -> bool:
        (worker,) = listed(system)
        seen = datetime.fromisoformat(worker["last_heartbeat"][:-1])
        return worker["status"] == "alive" and (seen - began).total_seconds() >= 2 * DEATH_S

    wait_until(lives_long)
    assert heartbeats(system) - before <= 0.25 * (2 * DEATH_S) / INTERVAL_S
    wait_until(system.has(system.submit("noop", {}), "completed"))
    assert listed(system)[0]["metadata"]["hostname"]
