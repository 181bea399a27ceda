"""Whole workers as processes, on a whole dispatcher: drain, outage, kill -9, a death that was none."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles import wait_until

from client.transport import Transport, TransportError
from common.settings import ROOT

# It says that it has begun by making <path>.begun, and ends when <path> is there.
GATE_HANDLER = """
import os, time
def execute(payload, context):
    path = payload["path"]
    open(path + ".begun", "a").close()
    while not os.path.exists(path):
        time.sleep(0.01)
    return {"seen": path}
"""


class Process:
    def __init__(self, module: str, arguments: list[str], log: Path, settings: dict[str, str]) -> None:
        environment = {**os.environ, **settings}
        with log.open("ab") as file:
            command = [sys.executable, "-m", module, *arguments]
            self.popen = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=file, stdout=file)
        self.log = log

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.popen.send_signal(number)

    def ended(self, seconds: float = 10) -> int:
        return self.popen.wait(seconds)


class System:
    """One dispatcher and its workers in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder, folder / "cache"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        handlers = folder / "handlers"
        handlers.mkdir()
        (handlers / "gate_task.py").write_text(GATE_HANDLER)
        self.settings = {
            "DISPATCHER_PORT": str(self.port),
            "DISPATCHER_URL": f"http://127.0.0.1:{self.port}",
            "DB_PATH": str(folder / "queue.db"),
            "CACHE_DIR": str(self.cache),
            "TASKS_PATH": str(handlers),
            "WORKER_CONCURRENCY": "2",
            "WORKER_HEARTBEAT_INTERVAL": "0.5",
            "CACHE_RETRY_INTERVAL": "0.5",
            "LOG_LEVEL": "INFO",
        }
        self.processes: list[Process] = []
        self.transport = Transport(f"http://127.0.0.1:{self.port}")
        self.dispatcher = self.start_dispatcher()

    def start_dispatcher(self) -> Process:
        self.dispatcher = self._start("dispatcher", [])
        wait_until(self._healthy, what="the dispatcher does not answer")
        return self.dispatcher

    def start_worker(self, name: str = "lab-1", **settings: str) -> Process:
        worker = self._start("worker", [name], **settings)
        wait_until(lambda: worker.said("started:"), what="the worker does not start")
        return worker

    def _start(self, module: str, arguments: list[str], **settings: str) -> Process:
        log = self.folder / f"{module}-{len(self.processes)}.log"
        process = Process(module, arguments, log, {**self.settings, **settings})
        self.processes.append(process)
        return process

    def _healthy(self) -> bool:
        try:
            self.transport.call("GET", "/health", timeout=1)
        except TransportError:
            return False
        return True

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self.transport.call("POST", path, json.dumps(body).encode())

    def submit(self, task_type: str, data: dict[str, Any]) -> int:
        return int(self.post("/submit-task", {"task_type": task_type, "task_data": data})["task_id"])

    def gate(self, name: str) -> tuple[int, Path]:
        """A task that runs until its path exists; returns when it runs."""
        path = self.folder / name
        task_id = self.submit("gate", {"path": str(path)})
        wait_until(Path(f"{path}.begun").exists, what="the task does not begin")
        return task_id, path

    def task(self, task_id: int) -> dict[str, Any]:
        found: dict[str, Any] = self.transport.call("GET", f"/task/{task_id}")
        return found

    def has(self, task_id: int, status: str) -> Callable[[], bool]:
        return lambda: bool(self.task(task_id)["status"] == status)

    def folders(self) -> list[Path]:
        return sorted(path for path in self.cache.glob("*/*") if len(path.name) == 32)

    def end(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.ended()
        self.transport.close()


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
    [("WORKER_CONCURRENCY", "none"), ("WORKER_POLL_INTERVAL", "soon"), ("WORKER_ID", "a/b"), ("LOG_LEVEL", "LOUD")],
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
