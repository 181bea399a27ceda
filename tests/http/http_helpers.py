"""What the tests of this folder share: the application over a real store, and the dispatcher as a process."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import warm
from made_once import empty_queue
from werkzeug.test import TestResponse

from common.settings import load
from dispatcher.app import create_app
from dispatcher.clock import Now, SystemClock
from dispatcher.config import DispatcherSettings
from dispatcher.maintenance.reaper import Reaper
from dispatcher.maintenance.scheduler import Scheduler
from dispatcher.queue import Queue
from dispatcher.store.sqlite import SqliteStore
from dispatcher.store.sqlite.opening import open_reader

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 10.0
LOCAL = "http://127.0.0.1:5000"


def wait_until(true: Callable[[], Any], seconds: float = DEADLINE) -> None:
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not true():
        assert time.monotonic() < deadline, "not in time"
        pause.wait(0.002)


class FakeClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.ms = SystemClock().now().wall

    def now(self) -> Now:
        return Now(self.ms, self.ms)

    def advance(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


class Reply:
    """What came back, read once."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self) -> str:
        return f"{self.status} {self.body[:400]!r}"

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        """The data of a success."""
        assert self.status in (200, 201), self
        assert self.json["status"] == "success"
        return self.json["data"]

    @property
    def fault(self) -> str:
        """The message of an error, whose envelope must be whole."""
        told = self.json
        assert 400 <= self.status < 500 or self.status in (503, 507), self
        assert told.keys() == {"status", "code", "message", "error"}
        assert told["status"] == "error"
        assert told["error"] == told["message"]
        return str(told["message"])


class Api:
    """The application over a real store in a folder, and what its callers say to it."""

    def __init__(self, folder: Path, clock: FakeClock | None = None, **settings: Any) -> None:
        self.path = folder / "api.db"
        self.clock = clock
        self.settings = load(DispatcherSettings, {}, **settings)
        self.store = SqliteStore(empty_queue(self.path), clock)
        self.queue = Queue(self.store, self.settings.terms)
        self.app = create_app(self.queue, self.settings)
        self.reaper, self.scheduler = Reaper(self.queue), Scheduler(self.queue)
        self.headers = {"Authorization": f"Bearer {self.settings.token}"} if self.settings.token else {}
        self._observer = open_reader(self.path)
        self._threads = ThreadPoolExecutor(8)
        self._requests = 0
        self.tick()  # as a running dispatcher has done

    def close(self) -> None:
        self.queue.drain()
        self._threads.shutdown()
        self._observer.close()
        self.store.close()

    # requests
    def ask(self, method: str, path: str, body: Any = None, headers: Any = None, **options: Any) -> Reply:
        if body is not None and not isinstance(body, bytes):
            body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        headers = self.headers if headers is None else headers
        client = self.app.test_client(use_cookies=False)
        response: TestResponse = client.open(
            path, method=method, data=body, headers=headers, base_url=LOCAL, buffered=True, **options
        )
        with response:
            return Reply(response.status_code, response.headers, response.data)

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)

    def post(self, path: str, body: Any = None, **options: Any) -> Reply:
        return self.ask("POST", path, body, **options)

    def later(self, call: Callable[..., Any], *values: Any, **fields: Any) -> "Future[Any]":
        return self._threads.submit(call, *values, **fields)

    # what callers say
    def submit(self, task_type: str = "noop", **fields: Any) -> int:
        return int(self.post("/submit-task", {"task_type": task_type, **fields}).data["task_id"])

    def submit_many(self, number: int) -> list[int]:
        return list(self.post("/submit-tasks", {"tasks": [{"task_type": "noop"}] * number}).data["task_ids"])

    def claim(self, instance: str = "i-1", **fields: Any) -> Any:
        """A native claim under the next number."""
        self._requests += 1
        asked = {"worker_id": "w-1", "instance_id": instance, "request_id": self._requests, "max_tasks": 1}
        return self.post("/get-tasks", asked | fields).data

    def lease(self, instance: str = "i-1", **fields: Any) -> Any:
        """One task that was submitted and claimed just now."""
        self.submit(**fields)
        return self.claim(instance)["tasks"][0]

    def outcome(self, lease_id: str, status: str = "completed", **fields: Any) -> dict[str, Any]:
        return {"store_id": self.store.store_id, "lease_id": lease_id, "status": status, **fields}

    def report(self, *outcomes: Any, instance: str = "i-1", **fields: Any) -> Any:
        return self.post(
            "/submit-results", {"worker_id": "w-1", "instance_id": instance, "outcomes": outcomes, **fields}
        ).data

    def verdicts(self, *outcomes: Any, instance: str = "i-1") -> list[str]:
        return [told["verdict"] for told in self.report(*outcomes, instance=instance)["verdicts"]]

    def beat(self, seq: int, *leases: Any, instance: str = "i-1", **fields: Any) -> Any:
        listed = [lease if isinstance(lease, dict) else {"lease_id": lease} for lease in leases]
        asked = {"store_id": self.store.store_id, "worker_id": "w-1", "instance_id": instance, "seq": seq}
        return self.post("/heartbeat", {**asked, "leases": listed, **fields}).data

    def upload(self, lease_id: str, data: bytes, media_type: str = "text/plain") -> Any:
        path = f"/result/{lease_id}?store_id={self.store.store_id}"
        return self.ask("PUT", path, data, content_type=media_type).data

    def task(self, task_id: int) -> Any:
        return self.get(f"/task/{task_id}").data

    # time, on a fake clock
    def advance(self, seconds: float) -> None:
        """Time passes, with the passes of reaper and scheduler that a running dispatcher makes."""
        assert self.clock
        for _ in range(-(-round(seconds) // 4)):
            self.clock.advance(seconds / -(-round(seconds) // 4))
            self.tick()

    def tick(self) -> None:
        self.reaper.run_once(self.store.now())
        self.scheduler.run_once(self.store.now())

    # what is stored
    def version(self) -> int:
        """Changes with every transaction that wrote anything."""
        return int(self._observer.pragma("data_version"))

    def rows(self) -> dict[str, int]:
        """The number of rows in each table."""
        names = [row[0] for row in self._observer.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: self._observer.execute(f"SELECT count(*) FROM {name}").get for name in names}


class Process:
    """`python -m dispatcher`, its settings free of this machine's own."""

    def __init__(
        self, db: Path, *argv: str, port: int = 0, limit: Callable[[], None] | None = None, **env: str
    ) -> None:
        # set to nothing counts as unset, and beats a .env
        unset = {"DISPATCHER_HOST": "", "DISPATCHER_TOKEN": "", "DISPATCHER_THREADS": "", "LOG_LEVEL": ""}
        env = {**os.environ, **unset, "DB_PATH": str(db), "DISPATCHER_PORT": str(port), **env}
        self.began = time.monotonic()
        ours, theirs = os.pipe()
        self._stderr = os.fdopen(ours, errors="replace")
        with open(theirs, "wb") as log:
            self.process = self._started(argv, env, log, limit)
        self.lines: list[str] = []  # of stderr
        self.url = ""
        self._told = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _started(
        self, argv: tuple[str, ...], env: dict[str, str], log: BinaryIO, limit: Callable[[], None] | None
    ) -> "subprocess.Popen[bytes] | warm.Process":
        nothing = subprocess.DEVNULL
        return subprocess.Popen(
            [sys.executable, "-m", "dispatcher", *argv],
            cwd=ROOT, env=env, stdin=nothing, stdout=nothing, stderr=log, preexec_fn=limit,
        )  # fmt: skip

    def _read(self) -> None:
        for line in self._stderr:
            with self._told:
                self.lines.append(line.rstrip("\n"))
                self._told.notify_all()
        with self._told:
            self._told.notify_all()

    def ready(self) -> "Process":
        def told() -> bool:
            found = [line.rpartition("listening on ")[2].rstrip('"}') for line in self.lines if "listening on " in line]
            self.url = found[0] if found else ""
            return bool(found) or not self._reader.is_alive()

        with self._told:
            assert self._told.wait_for(told, DEADLINE)
        assert self.url, self.lines
        return self

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def ended(self, seconds: float = DEADLINE) -> int:
        """The exit code."""
        code = self.process.wait(seconds)
        self._reader.join()
        return code

    def stop(self, signum: int = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.ended()

    def close(self) -> None:
        """Whatever state it is in."""
        self.process.kill()
        self.ended()
        self._stderr.close()

    def ask(self, method: str, path: str, body: Any = None, headers: Any = (), timeout: float = DEADLINE) -> Reply:
        """One request on a connection of its own, as curl makes it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        form = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
        text = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        try:
            connection.request(method, path, text, {**form, **dict(headers)})
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any) -> Reply:
        return self.ask("POST", path, body)


class WarmProcess(Process):
    """The same for those who look at what it does when it runs: it starts warm."""

    def _started(
        self, argv: tuple[str, ...], env: dict[str, str], log: BinaryIO, limit: Callable[[], None] | None
    ) -> "subprocess.Popen[bytes] | warm.Process":
        return warm.start(["dispatcher", *argv], env, log)
