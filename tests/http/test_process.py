"""`python -m dispatcher` as a process: stopping, starting again, what keeps it from starting, full disks."""

import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from http_helpers import ROOT, Process, Reply, wait_until

from common import file_systems
from dispatcher import __main__ as program

Run = Callable[..., Process]
KIB = 1024
MIB = 2**20


def claim(process: Process, number: int, instance: str = "i-1", **fields: Any) -> Any:
    body = {"worker_id": "w-1", "instance_id": instance, "request_id": number, "max_tasks": 1, **fields}
    return process.post("/get-tasks", body).data


def report(process: Process, *outcomes: Any) -> list[str]:
    body = {"worker_id": "w-1", "instance_id": "i-1", "outcomes": outcomes}
    return [one["verdict"] for one in process.post("/submit-results", body).data["verdicts"]]


def all_tasks(process: Process) -> dict[int, Any]:
    found: dict[int, Any] = {}
    cursor = ""
    while True:
        page = process.ask("GET", f"/tasks?limit=100{cursor}").data
        found |= {task["task_id"]: task for task in page["tasks"]}
        if not page["next_cursor"]:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def wal(db: Path) -> int:
    path = Path(f"{db}-wal")
    return path.stat().st_size if path.exists() else 0


# -- stopping and starting again --


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_the_waiting_claims_at_once(run: Run, tmp_path: Path, signum: int) -> None:
    process = run().ready()
    with ThreadPoolExecutor(12) as threads:
        waits = [threads.submit(claim, process, 1, f"i-{n}", wait_seconds=25) for n in range(10)]
        process.post("/submit-task", {"task_type": "noop", "delay_seconds": 3600})
        waits.append(threads.submit(lambda: process.ask("GET", "/task/1?wait=25").data))
        wait_until(lambda: process.ask("GET", "/health").json["waiting_claims"] == 10)
        assert wal(tmp_path / "queue.db") > 0
        began = time.monotonic()
        assert process.stop(signum) == 0
        answers = [wait.result() for wait in waits]
    assert time.monotonic() - began < 4
    assert [answer["tasks"] for answer in answers[:10]] == [[]] * 10
    assert answers[10]["status"] == "pending"
    assert wal(tmp_path / "queue.db") == 0  # checkpointed: one file is the whole queue
    connection = sqlite3.connect(f"file:{tmp_path / 'queue.db'}?immutable=1", uri=True)
    assert connection.execute("SELECT count(*) FROM tasks").fetchone() == (1,)
    connection.close()
    assert len([line for line in process.lines if "stopping" in line]) == 1


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_keeps_everything(run: Run, signum: int) -> None:
    first = run().ready()
    for n in range(6):
        body = {"task_type": "noop", "task_data": {"n": n}, "tags": ["red"], "idempotency_key": f"k{n}", "priority": -n}
        first.post("/submit-task", body)
    later = {"task_type": "later", "run_at": "2999-01-01T00:00:00Z"}
    first.post("/submit-task", later)
    leases = claim(first, 1, max_tasks=4)
    store = leases["store_id"]
    a, b, c, d = ({"store_id": store, "lease_id": task["lease_id"]} for task in leases["tasks"])
    data = b"x" * (MIB + 1)
    first.ask("PUT", f"/result/{b['lease_id']}?store_id={store}", data, {"Content-Type": "text/plain"})
    sha256 = "c03f0e7af3a9b0a4f5d4b3d7a6b3d4b5c6d7e8f9a0b1c2d3e4f5a6b7c8d9e0f1"
    assert report(first, {**a, "status": "completed", "result": {"n": 2**65}}) == ["accepted"]
    ref = {"bytes": len(data), "sha256": sha256, "media_type": "text/plain"}
    assert report(first, {**b, "status": "completed", "result_ref": ref}) == ["invalid"]  # not what was put
    assert report(first, {**c, "status": "failed", "error": "boom"}) == ["accepted"]
    schema = {"type": "object", "properties": {"limit": {"type": "integer"}}}
    beat = {"worker_id": "w-1", "instance_id": "i-1", "seq": 5, "store_id": store, "host": {"hostname": "lab"}}
    listed = {"leases": [{"lease_id": d["lease_id"], "checkpoint": {"at": 3}}, {"lease_id": b["lease_id"]}]}
    first.post("/heartbeat", {**beat, **listed, "register": {"task_types": {"prime": schema}}})
    before, stats = all_tasks(first), first.ask("GET", "/stats").data
    assert first.stop(signum) == (0 if signum == signal.SIGTERM else -signal.SIGKILL)

    second = run().ready()
    assert all_tasks(second) == before
    told = second.ask("GET", "/stats").data
    states = ("pending", "in_progress", "blocked", "completed", "failed", "cancelled")
    assert [told[f"{state}_tasks"] for state in states] == [stats[f"{state}_tasks"] for state in states]
    assert told["workers"][0]["metadata"] == {"hostname": "lab"}
    assert second.post("/submit-task", {"task_type": "prime", "task_data": {"limit": "x"}}).status == 400
    repeated = {"task_type": "noop", "task_data": {"n": 0}, "tags": ["red"], "idempotency_key": "k0", "priority": 0}
    assert second.post("/submit-task", repeated).data["task_id"] == 1
    again = claim(second, 1, max_tasks=4)
    assert again["store_id"] == store
    assert {task["lease_id"] for task in again["tasks"]} == {b["lease_id"], d["lease_id"]}
    assert second.post("/heartbeat", {**beat, **listed, "seq": 5}).data["leases"] == {}
    assert second.post("/heartbeat", {**beat, **listed, "seq": 6}).data["leases"][d["lease_id"]] == "ok"
    assert report(second, {**d, "status": "completed"}, {**a, "status": "completed"}) == ["accepted", "duplicate"]
    assert second.post("/submit-task", {"task_type": "noop"}).data["task_id"] == 8  # ids go on


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_under_load_loses_nothing_acknowledged(run: Run, signum: int) -> None:
    process = run().ready()
    acknowledged: list[int] = []
    refused: list[Reply] = []
    ended = threading.Event()

    def submit(worker: int) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            body = {
                "task_type": "noop",
                "task_data": {"from": [worker, number]},
                "idempotency_key": f"{worker}-{number}",
            }
            try:
                reply = process.post("/submit-task", body)
            except OSError:
                return
            except Exception:  # http.client: a status line that never came
                return
            (acknowledged.append(reply.data["task_id"]) if reply.status == 201 else refused.append(reply))

    with ThreadPoolExecutor(6) as threads:
        loads = [threads.submit(submit, n) for n in range(6)]
        wait_until(lambda: len(acknowledged) > 100)
        code = process.stop(signum)
        ended.set()
        for load in loads:
            load.result(10)
    assert code == (0 if signum == signal.SIGTERM else -signal.SIGKILL)
    assert {reply.status for reply in refused} <= {503}
    assert len(set(acknowledged)) == len(acknowledged)
    second = run().ready()
    tasks = all_tasks(second)
    assert set(acknowledged) <= tasks.keys()
    assert second.ask("GET", "/stats").data["pending_tasks"] == len(tasks)


def test_the_start_says_what_it_runs_on(run: Run, tmp_path: Path) -> None:
    process = run().ready()
    told = process.ask("GET", "/health").json
    line = next(line for line in process.lines if "Taskmill" in line)
    assert told["version"] in line
    assert told["sqlite_version"] in line
    assert str(tmp_path / "queue.db") in line
    assert tuple(map(int, told["sqlite_version"].split("."))) >= (3, 51, 3)
    assert (tmp_path / "queue.db").stat().st_mode & 0o077 == 0
    assert process.stop() == 0


# -- what keeps it from starting --


def fails_to_start(start: Callable[[], Process]) -> str:
    """The one line, in under 2 s; where even loading the program takes long, in under 2 s more than that."""
    process = start()
    code = process.ended()
    took = time.monotonic() - process.began
    assert (code, len(process.lines)) == (2, 1), process.lines
    assert process.lines[0].startswith("dispatcher: ")
    assert took < 2 or took < 2 + loading_takes()
    return process.lines[0]


def loading_takes() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "dispatcher", "--version"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


def test_what_serves_is_loaded_when_all_else_is_good() -> None:
    code = "import sys, dispatcher.__main__; print({'flask', 'granian', 'asyncio', 'pydantic'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "set()\n"


def test_a_second_dispatcher_on_the_same_file(run: Run, tmp_path: Path) -> None:
    first = run().ready()
    db = tmp_path / "queue.db"
    assert fails_to_start(run) == f"dispatcher: {db} is in use by another dispatcher"
    other_name = tmp_path / "folder"
    other_name.symlink_to(tmp_path)
    assert "in use by another dispatcher" in fails_to_start(lambda: run(other_name / "queue.db"))
    assert first.post("/submit-task", {"task_type": "noop"}).status == 201
    assert first.stop() == 0
    assert run().ready().ask("GET", "/task/1").status == 200


def test_a_port_in_use(run: Run, tmp_path: Path) -> None:
    first = run().ready()
    second = tmp_path / "second.db"
    line = fails_to_start(lambda: run(second, port=first.port))
    assert line == f"dispatcher: cannot listen on 127.0.0.1:{first.port}: Address already in use"
    assert not second.exists()
    assert first.ask("GET", "/health").status == 200


def test_an_address_of_another_machine(run: Run) -> None:
    line = fails_to_start(lambda: run(None, "--host", "192.0.2.1", "--insecure"))
    assert line.startswith("dispatcher: cannot listen on 192.0.2.1:0: ")


@pytest.mark.parametrize("setting", [{"DEFAULT_LEASE_DURATION": "0"}, {"DISPATCHER_HOST": "0.0.0.0"}], ids=str)
def test_a_bad_setting(run: Run, tmp_path: Path, setting: dict[str, str]) -> None:
    ((name, value),) = setting.items()
    assert f"setting {name}={value}: " in fails_to_start(lambda: run(**setting))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A queue with some tasks, whose dispatcher has ended."""
    db = tmp_path_factory.mktemp("whole") / "queue.db"
    process = Process(db).ready()
    try:
        process.post("/submit-tasks", {"tasks": [{"task_type": "noop", "task_data": {"a": "x" * 500}}] * 500})
        assert process.stop() == 0
    finally:
        process.close()
    return db.read_bytes()


@pytest.fixture
def stored(whole_file: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "queue.db"
    path.write_bytes(whole_file)
    return path


def overwritten(data: bytes) -> bytes:
    middle = len(data) // 8192 * 4096
    return data[:middle] + b"\xa5" * 8192 + data[middle + 8192 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "text": lambda data: b"this is no database\n" * 400,
    "header": lambda data: b"\0" * 100 + data[100:],
    "cut off": lambda data: data[: len(data) // 2],
    "overwritten": overwritten,
    "zeroed page": lambda data: data[:4096] + b"\0" * 4096 + data[8192:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_corrupt_file(run: Run, stored: Path, damage: str) -> None:
    data = DAMAGES[damage](stored.read_bytes())
    stored.write_bytes(data)
    line = fails_to_start(run)
    assert line.startswith(f"dispatcher: {stored} is corrupt (")
    assert line.endswith("put a backup in its place")
    assert stored.read_bytes() == data  # evidence, and perhaps something to rescue


def test_a_newer_schema(run: Run, stored: Path) -> None:
    connection = sqlite3.connect(stored)
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    line = fails_to_start(run)
    assert line.startswith(f"dispatcher: {stored} has schema 9999, newer than this program's ")
    assert line.endswith("upgrade Taskmill")


def test_a_place_where_no_file_can_be(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.db").mkdir()
    for db in (tmp_path / "file" / "queue.db", tmp_path / "folder.db"):
        line = fails_to_start(lambda db=db: run(db))
        assert line.startswith(f"dispatcher: {db} cannot be opened: ")


def test_a_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    db = tmp_path / "shared" / "queue.db"
    monkeypatch.setattr(program, "environment", lambda: {"DB_PATH": str(db), "DISPATCHER_PORT": "0"})
    monkeypatch.setattr(file_systems, "kind_of", lambda folder: "fuse.s3fs")
    assert program.main([]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"dispatcher: {db} lies on a network file system (fuse.s3fs)")
    assert line.count("\n") == 1
    assert not db.parent.exists()


# -- a full disk --


class SmallDisk:
    """A place for a database that fills up, and can be given room. A small tmpfs; where none can be mounted, or when
    `limit` is asked for, a limit on the size of the dispatcher's files."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={6 * MIB}", "taskmill-test", str(folder)]
        self.mounted = kind == "mount" and subprocess.run(command, capture_output=True, check=False).returncode == 0
        self._ballast = folder / "ballast"
        if self.mounted:
            self.fill()

    @property
    def db(self) -> Path:
        return self.folder / "queue.db"

    def fill(self, process: Process | None = None, room: int = 3 * MIB) -> None:
        """Leave only this room."""
        if self.mounted:
            status = os.statvfs(self.folder)
            free = status.f_bavail * status.f_frsize
            with self._ballast.open("ab") as ballast:
                ballast.write(b"\0" * max(free - room, 0))
        elif process is not None:
            largest = max(path.stat().st_size for path in self.folder.iterdir())
            resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (largest + room // 4, resource.RLIM_INFINITY))

    def free(self, process: Process) -> None:
        if self.mounted:
            self._ballast.unlink()
        else:
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, unlimited)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


@pytest.fixture(params=["mount", "limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk", request.param)
    yield disk
    disk.close()


def submit(process: Process, kib: int = 100, **fields: Any) -> Reply:
    return process.post("/submit-task", {"task_type": "noop", "task_data": {"a": "x" * kib * KIB}, **fields})


def submit_until_full(process: Process) -> list[int]:
    """The ids of what was acknowledged."""
    acknowledged = []
    while (reply := submit(process)).status == 201:
        acknowledged.append(reply.data["task_id"])
        assert len(acknowledged) < 200
    is_full(reply)
    return acknowledged


def is_full(reply: Reply) -> None:
    assert (reply.status, reply.json["code"]) == (507, "storage_full")
    assert 1 <= int(reply.headers["Retry-After"]) <= 60
    assert "full" in reply.fault


def test_a_full_disk_loses_nothing_and_heals(disk: SmallDisk, run: Run) -> None:
    process = run(disk.db).ready()
    ids = [submit(process, 1).data["task_id"] for _ in range(3)]
    lease = claim(process, 1)
    disk.fill(process)
    ids += submit_until_full(process)
    assert len(ids) > 5
    # whatever writes is refused, whatever reads goes on
    for _ in range(3):
        is_full(submit(process))
        began = time.monotonic()
        assert process.ask("GET", f"/task/{ids[-1]}").data["task_data"] == {"a": "x" * 100 * KIB}
        assert process.ask("GET", "/stats").data["pending_tasks"] == len(ids) - 1
        assert process.ask("GET", "/health").status == 200
        assert process.ask("GET", "/health?ready=1").status == 503
        assert time.monotonic() - began < 2
    assert all_tasks(process).keys() == set(ids)
    disk.free(process)
    freed = time.monotonic()
    wait_until(lambda: submit(process, 1, idempotency_key="after").status == 201, 5)
    assert time.monotonic() - freed < 5
    ids.append(submit(process, 1, idempotency_key="after").data["task_id"])
    assert process.ask("GET", "/health?ready=1").status == 200
    outcome = {"store_id": lease["store_id"], "lease_id": lease["tasks"][0]["lease_id"], "status": "completed"}
    assert report(process, outcome) == ["accepted"]
    assert all_tasks(process).keys() == set(ids)
    process.stop(signal.SIGKILL)
    second = run(disk.db).ready()
    tasks = all_tasks(second)
    assert tasks.keys() == set(ids)
    assert tasks[lease["tasks"][0]["task_id"]]["status"] == "completed"
    assert claim(second, 2, max_tasks=500)["tasks"]


def test_a_stop_while_the_disk_is_full(disk: SmallDisk, run: Run) -> None:
    process = run(disk.db).ready()
    ids = [submit(process, 1).data["task_id"]]
    disk.fill(process)
    ids += submit_until_full(process)
    assert process.stop() == 0
    if disk.mounted:
        disk.free(process)
    assert all_tasks(run(disk.db).ready()).keys() == set(ids)


@pytest.mark.parametrize("room", [0, 40, 150, 400])
def test_a_start_on_a_full_disk(tmp_path: Path, run: Run, room: int) -> None:
    """It starts, or says in one line why not."""
    disk = SmallDisk(tmp_path / "disk", "mount")
    try:
        disk.fill(room=room * KIB)
        limit = (room * KIB, resource.RLIM_INFINITY)
        limited = None if disk.mounted else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        process = run(disk.db, limit=limited)
        wait_until(lambda: process.process.poll() is not None or any("listening" in line for line in process.lines))
        if process.process.poll() is None:
            assert process.ready().ask("GET", "/health").status == 200
            assert process.stop() == 0
        else:
            assert process.ended() == 2
            assert len(process.lines) == 1, process.lines
            assert process.lines[0].startswith(f"dispatcher: {disk.db} cannot be opened: ")
    finally:
        process.close()
        disk.close()


# -- raw connections --

ODD_REQUESTS = {
    "no request": b"hello\r\n\r\n",
    "no version": b"GET /stats\r\n\r\n",
    "HTTP/0.9": b"GET /health\r\n",
    "HTTP/3": b"GET /health HTTP/3.0\r\n\r\n",
    "no host": b"GET /stats HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /stats HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
    "strange host": b"GET /stats HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "strange host, absolute form": b"GET http://127.0.0.1/stats HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "bad escape": b"GET /task/%zz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "raw bytes": b"GET /task/\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "star": b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "connect": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "bad length": b"POST /submit-task HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: x\r\n\r\n",
    "negative length": b"POST /submit-task HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
    "bad chunk": b"POST /submit-task HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "huge length": b"POST /submit-task HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999999\r\n\r\n",
    "upgrade": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


def test_of_a_request_in_absolute_form_the_host_header_counts(run: Run) -> None:
    """The server keeps the name in its first line to itself; no browser sends one to us."""
    process = run().ready()
    for host, status in (("127.0.0.1", b"200"), ("evil.example", b"403")):
        with socket.create_connection(("127.0.0.1", process.port), 5) as connection:
            connection.sendall(f"GET http://evil.example/stats HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert connection.recv(65536).split()[1] == status, host
    assert process.stop() == 0


def test_odd_requests_are_refused_and_harm_nothing(run: Run) -> None:
    process = run().ready()
    for name, request in ODD_REQUESTS.items():
        with socket.create_connection(("127.0.0.1", process.port), 5) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(65536):
                answer += part
            assert not answer or 400 <= int(answer.split()[1]) < 500, (name, answer)
            assert b"granian" not in answer.lower()
            assert b"Traceback" not in answer
    assert process.ask("GET", "/stats").data["pending_tasks"] == 0
    assert process.stop() == 0
    assert not [line for line in process.lines if "ERROR" in line or "Traceback" in line], process.lines
