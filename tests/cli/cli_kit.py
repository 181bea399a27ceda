"""What the CLI's tests share: the command line in this process or in one of its own, and what workers say."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from made_once import empty_queue

from cli.main import main
from client.testing import LocalCluster
from client.transport import Transport
from common.settings import ROOT
from dispatcher.model import Grant
from dispatcher.queue.submit import Submission, submit
from dispatcher.queue.terms import Terms
from dispatcher.store.sqlite import SqliteStore

DEADLINE = 10.0


class Said:
    """How a command ended and what it wrote."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}\n{self.err}"

    @property
    def fault(self) -> str:
        """The one line that says what is wrong."""
        assert self.code in (1, 2, 3, 4), self
        assert self.err.startswith("taskmill: "), self
        assert self.err.count("\n") == 1, self
        return self.err


class Commands:
    """The command line in this process, with settings of the test's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.database = folder / "queue.db"
        self.set(DB_PATH=str(self.database), CACHE_DIR=str(folder / "cache"))
        self.set(DISPATCHER_URL=f"http://127.0.0.1:{closed_port()}")
        self.set(DISPATCHER_TOKEN="", DATABASE_URL="", DISPATCHER_HOST="", NO_COLOR="1", WORKER_ID="")

    def set(self, **settings: str) -> None:
        for name, value in settings.items():
            self._monkeypatch.setenv(name, value)

    def use(self, cluster: LocalCluster) -> None:
        """Speak to this farm from now on."""
        self.set(**{name: cluster.env[name] for name in ("DB_PATH", "CACHE_DIR", "DISPATCHER_URL")})
        self.database = Path(cluster.env["DB_PATH"])

    def __call__(self, *words: str | Path) -> Said:
        self._capsys.readouterr()
        before = signal.getsignal(signal.SIGTERM)
        try:
            code = main([str(word) for word in words])
        finally:
            signal.signal(signal.SIGTERM, before)
        return Said(code, *self._capsys.readouterr())


class Running:
    """The command line as a process."""

    def __init__(self, *words: str | Path, env: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "cli", *map(str, words)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ended(self) -> Said:
        out, err = self.process.communicate(timeout=DEADLINE)
        return Said(self.process.returncode, out, err)


class Worker:
    """What a native worker says, no more."""

    def __init__(self, url: str, instance_id: str = "1" * 32) -> None:
        self.line, self.instance_id, self.seq = Transport(url), instance_id, 0
        self.store_id = ""

    def _post(self, path: str, **fields: Any) -> Any:
        body = {"worker_id": "w-1", "instance_id": self.instance_id, **fields}
        return self.line.call("POST", path, json.dumps(body).encode())

    def claim(self, number: int = 1) -> list[dict[str, Any]]:
        self.seq += 1
        told = self._post("/get-tasks", request_id=self.seq, protocol=1, max_tasks=number, task_types=["noop"])
        self.store_id = told["store_id"]
        return list(told["tasks"])

    def succeed(self, *lease_ids: str) -> list[str]:
        """The verdicts."""
        outcome = {"store_id": self.store_id, "status": "completed", "result": {"by": "worker"}}
        outcomes = [{**outcome, "lease_id": lease_id} for lease_id in lease_ids]
        return [one["verdict"] for one in self._post("/submit-results", outcomes=outcomes)["verdicts"]]

    def beat(self, *lease_ids: str) -> Any:
        self.seq += 1
        leases = [{"lease_id": lease_id} for lease_id in lease_ids]
        return self._post("/heartbeat", store_id=self.store_id, seq=self.seq, leases=leases)["leases"]


class Scripted:
    """A server that answers each request with the next of its answers, raw bytes; the last one for ever.

    An answer that ends in `HANG` is not ended: its connection stays open.
    """

    HANG = b"(and hangs)"

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if not (asked := connection.recv(65536)):
                connection.close()
                return
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            if asked.startswith(b"GET /stats"):
                answer = reply(b'{"status": "success", "data": %s}' % STATS)
            connection.sendall(answer.removesuffix(self.HANG))
            if answer.endswith(self.HANG):
                self._open.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        with socket.create_connection(self._listener.getsockname()):
            pass
        self._thread.join(DEADLINE)
        for connection in [*self._open, self._listener]:
            connection.close()


STATS = b'{"workers": [], "ready_tasks": 0, "oldest_waiting_seconds": null, "queues": []}'


def reply(body: bytes, status: str = "200 OK", length: int | None = None, **headers: str) -> bytes:
    """A whole reply, of JSON unless told otherwise."""
    told = {"Content_Type": "application/json", "Content_Length": str(length or len(body)), "Connection": "close"}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in {**told, **headers}.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


def make_queue(path: Path, tasks: int = 10, leased: int = 2) -> str:
    """A database without a dispatcher: tasks, the first of them leased; its store_id."""
    store = SqliteStore(empty_queue(path))
    try:
        store.write(lambda tx: submit(tx, [Submission("noop", '{"n":12345}')] * tasks, Terms()))
        lane = store.write(lambda tx: tx.lane("default", "noop"))
        store.write(lambda tx: tx.take([lane], leased, Grant(tx.meet("1" * 32, "w-1").id, 1, 60_000, False)))
        return store.store_id
    finally:
        store.close()


def big(cluster: LocalCluster, megabytes: int) -> None:
    """Fill a queue."""
    cluster.client.submit_many({"task_type": "noop", "task_data": {"x": "y" * 1_000_000}} for _ in range(megabytes))


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until(true: Callable[[], Any], what: str) -> None:
    deadline, pause = time.monotonic() + DEADLINE, threading.Event()
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        pause.wait(0.005)


def names(folder: Path, *leave_out: str) -> set[str]:
    return {path.name for path in folder.iterdir()} - set(leave_out)
