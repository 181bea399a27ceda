"""Whole workers as processes, on a whole dispatcher: drain, outage, kill -9, a death that was none."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles import wait_until
from whole_system import System

from common.settings import ROOT


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path)
    try:
        yield made
    finally:
        made.end()


def test_an_idle_worker_takes_a_task_and_drains_without_a_trace(system: System) -> None:
    worker = system.start_worker()
    wait_until(system.has(system.submit("noop", {}), "completed"))
    began = time.monotonic()
    worker.kill(signal.SIGTERM)
    assert worker.ended() == 0
    assert time.monotonic() - began < 4, "the waiting claim does not hold it back"
    assert system.folders() == []


def test_a_drain_finishes_what_runs_and_hands_back_the_rest(system: System) -> None:
    worker = system.start_worker(WORKER_CONCURRENCY="1")
    running, path = system.gate("a")
    worker.kill(signal.SIGINT)
    wait_until(lambda: worker.said("nothing more is claimed"))
    waiting = system.submit("noop", {})
    path.touch()
    assert worker.ended() == 0
    assert system.task(running)["status"] == "completed"
    assert system.task(waiting)["status"] == "pending"
    assert system.folders() == []


def test_a_second_signal_hands_back_what_runs(system: System) -> None:
    worker = system.start_worker()
    running, _ = system.gate("a")
    worker.kill(signal.SIGTERM)
    wait_until(lambda: worker.said("nothing more is claimed"))
    worker.kill(signal.SIGTERM)
    assert worker.ended() == 0
    state = system.task(running)
    assert (state["status"], state["attempts"]) == ("pending", 0), "released: the attempt is not counted"


def test_i8_an_outage_costs_nothing(system: System) -> None:
    system.start_worker()
    running, path = system.gate("a")
    system.dispatcher.kill()
    system.dispatcher.ended()
    path.touch()
    [folder] = system.folders()
    wait_until(lambda: (folder / "outbox" / "cache.db").exists())
    system.start_dispatcher()
    wait_until(system.has(running, "completed"), what="the outcome was not delivered")
    assert system.task(running)["attempts"] == 1


def test_i7_outcomes_of_a_killed_worker_are_sent_by_its_successor(system: System) -> None:
    """The dispatcher is away while the task ends; the worker is killed; one of another name takes over."""
    worker = system.start_worker()
    running, path = system.gate("a")
    system.dispatcher.kill()
    system.dispatcher.ended()
    path.touch()
    wait_until(lambda: worker.said("no answer from the dispatcher"))
    worker.kill(signal.SIGTERM)
    assert worker.ended(20) == 0
    assert worker.said("1 outcomes stay in")
    successor = system.start_worker("lab-2")
    assert successor.said("1 results waiting to be sent")
    system.start_dispatcher()
    wait_until(system.has(running, "completed"), what="the outcome was not delivered")
    assert system.task(running)["attempts"] == 1
    wait_until(lambda: len(system.folders()) == 1, what="the dead one's folder stays")


def test_a_killed_workers_task_runs_elsewhere_at_once_and_is_charged(system: System) -> None:
    worker = system.start_worker("lab-1")
    running, path = system.gate("a")
    other = system.start_worker("lab-2")
    worker.kill()
    path.touch()
    wait_until(system.has(running, "completed"), seconds=8, what="nobody took the task over")
    assert system.task(running)["attempts"] == 2
    assert other.said("is dead")


def test_a_worker_that_is_held_dead_goes_on_under_another_id(system: System) -> None:
    worker = system.start_worker()
    wait_until(system.has(system.submit("noop", {}), "completed"))
    [folder] = system.folders()
    store_id = (folder / "stores").read_text().split()[0]
    death = {"dead_worker_id": "lab-1", "dead_instance_id": folder.name, "outbox_leases": [], "started_leases": []}
    answer = system.post("/report-death", {"store_id": store_id, "worker_id": "x", "instance_id": "0" * 32, **death})
    assert answer["verdict"] == "recorded"
    wait_until(lambda: worker.said("going on as"))
    wait_until(system.has(system.submit("noop", {}), "completed"), what="it takes no more tasks")
    assert system.folders() == [folder]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKER_CONCURRENCY", "none"),
        ("WORKER_POLL_INTERVAL", "soon"),
        ("WORKER_ID", "a/b"),
        ("LOG_LEVEL", "LOUD"),
        ("DISPATCHER_URL", "b:5000"),
    ],
)
def test_a_bad_setting_stops_the_start(tmp_path: Path, name: str, value: str) -> None:
    environment = {**os.environ, "CACHE_DIR": str(tmp_path), name: value}
    done = subprocess.run(
        [sys.executable, "-m", "worker"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 2
    assert f"setting {name}={value}: " in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_option_beats_the_environment(tmp_path: Path) -> None:
    environment = {**os.environ, "CACHE_DIR": str(tmp_path), "WORKER_CONCURRENCY": "3"}
    done = subprocess.run(
        [sys.executable, "-m", "worker", "lab-1", "--concurrency", "0"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert "setting WORKER_CONCURRENCY=0: must be at least 1" in done.stderr
