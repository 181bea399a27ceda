"""A dispatcher and its workers as processes, in a folder of their own."""

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import warm
from doubles import wait_until

from client.transport import Transport, TransportError

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
            self.popen = warm.start([module, *arguments], environment, file)
        self.log = log

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.popen.send_signal(number)

    def ended(self, seconds: float = 10) -> int:
        return self.popen.wait(seconds)


class System:
    """One dispatcher and its workers in a folder of their own."""

    def __init__(self, folder: Path, **settings: str) -> None:
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
            **settings,
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
