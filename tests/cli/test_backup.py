"""`taskmill backup`: whole, of one moment, or nothing."""

import hashlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cli_kit import Commands, Running, Scripted, Worker, big, make_queue, names, reply, wait_until

from client.testing import LocalCluster
from dispatcher.store.sqlite import SqliteStore, backup

Farm = Callable[..., LocalCluster]


def ids_in(path: Path) -> set[int]:
    db = backup.open_backup(path)
    try:
        return {row[0] for row in db.execute("SELECT id FROM tasks")}
    finally:
        db.close()


def test_a_backup_under_load_holds_all_that_was_acknowledged(run: Commands, farm: Farm, tmp_path: Path) -> None:
    cluster = farm()
    run.use(cluster)
    big(cluster, 4)
    stop, acknowledged = threading.Event(), list[int]()

    def submit() -> None:
        while not stop.is_set():
            acknowledged.extend(cluster.client.submit_many({"task_type": "noop"} for _ in range(20)))

    def work(name: str) -> None:
        worker = Worker(cluster.client.url, name * 32)
        while not stop.is_set():
            worker.succeed(*(task["lease_id"] for task in worker.claim(5)))
        worker.line.close()

    threads = [threading.Thread(target=submit), *(threading.Thread(target=work, args=(name,)) for name in "ab")]
    for thread in threads:
        thread.start()
    try:
        for number in range(3):
            wait_until(lambda number=number: len(acknowledged) > 100 * number, "submits")  # type: ignore[misc]
            known = set(acknowledged)
            said = run("backup", tmp_path / f"b-{number}")
            assert said.code == 0, said
            assert "verified" in said.out
            assert known <= ids_in(tmp_path / f"b-{number}")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert names(cluster.folder) >= {"queue.db"}
    assert not [name for name in names(cluster.folder) if "copy" in name]


def test_the_output_says_what_was_done(run: Commands, farm: Farm, tmp_path: Path) -> None:
    cluster = farm()
    run.use(cluster)
    cluster.client.submit_many({"task_type": "noop"} for _ in range(3))
    worker = Worker(cluster.client.url)
    worker.succeed(worker.claim()[0]["lease_id"])
    worker.line.close()
    said = run("backup", tmp_path / "b")
    assert said.out.startswith(
        f"{tmp_path}/b: {(tmp_path / 'b').stat().st_size:,} bytes, 3 tasks (2 pending, 1 completed)"
    )
    assert cluster.client.url in said.out
    assert cluster.client.health()["store_id"] in said.out
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600


def test_without_a_dispatcher_the_file_is_copied(run: Commands, farm: Farm, tmp_path: Path) -> None:
    """Also what lies in the WAL of one that was killed."""
    cluster = farm()
    run.use(cluster)
    ids = cluster.client.submit_many({"task_type": "noop"} for _ in range(7))
    cluster.dispatcher.kill()
    said = run("backup", tmp_path / "b")
    assert said.code == 0, said
    assert f"copying {run.database} itself" in said.err
    assert ids_in(tmp_path / "b") == set(ids)
    assert names(cluster.folder, "queue.db-wal", "queue.db-shm") == {"queue.db", "queue.db.lock", "dispatcher.log"}


def test_a_file_that_is_held_is_not_opened(run: Commands, tmp_path: Path) -> None:
    store = SqliteStore(run.database)
    try:
        assert f"a dispatcher holds {run.database} but does not answer" in run("backup", tmp_path / "b").fault
    finally:
        store.close()
    assert names(tmp_path) == {"queue.db", "queue.db.lock"}


def test_with_neither_dispatcher_nor_file(run: Commands, tmp_path: Path) -> None:
    said = run("backup", tmp_path / "b")
    assert said.code == 3
    assert "no answer from the dispatcher" in said.fault
    assert names(tmp_path) == set()


def test_a_queue_in_a_database_server_is_not_looked_for_in_a_file(run: Commands, tmp_path: Path) -> None:
    make_queue(run.database)
    run.set(DATABASE_URL="postgresql://db/queue")
    assert "no answer from the dispatcher" in run("backup", tmp_path / "b").fault


def test_a_dispatcher_that_was_named_is_meant(run: Commands, tmp_path: Path) -> None:
    make_queue(run.database)
    url = os.environ["DISPATCHER_URL"]
    assert "no answer from the dispatcher" in run("backup", tmp_path / "b", "--url", url).fault
    assert not (tmp_path / "b").exists()


def test_places_where_nothing_is_written(run: Commands, tmp_path: Path) -> None:
    make_queue(run.database)
    (tmp_path / "there").write_text("mine")
    for words, reason in (
        (["there"], "exists"),
        (["."], "is a folder"),
        (["no/b"], "there is no folder"),
        (["queue.db", "--force"], "is the queue itself"),
    ):
        said = run("backup", tmp_path / words[0], *words[1:])
        assert reason in said.fault
        assert said.code == 2
    assert (tmp_path / "there").read_text() == "mine"


def test_force_replaces_a_file(run: Commands, tmp_path: Path) -> None:
    store_id = make_queue(run.database)
    (tmp_path / "b").write_text("old")
    assert run("backup", tmp_path / "b", "--force").code == 0
    assert backup.inspect(tmp_path / "b").store_id == store_id


def test_a_file_counts_from_where_the_user_stands(run: Commands, tmp_path: Path) -> None:
    make_queue(run.database)
    (tmp_path / "elsewhere").mkdir()
    run.set(TASKMILL_CALLED_FROM=str(tmp_path / "elsewhere"))
    assert run("backup", "b").code == 0
    assert (tmp_path / "elsewhere" / "b").exists()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_half_way_there_is_no_target(
    run: Commands, scripted: Callable[..., Scripted], tmp_path: Path, signum: signal.Signals
) -> None:
    half = reply(b"x" * 500_000, length=10**9, Content_Type="application/vnd.sqlite3") + Scripted.HANG
    folder = tmp_path / "backups"
    folder.mkdir()
    command = Running("backup", folder / "b", env={"DISPATCHER_URL": scripted(half).url})
    wait_until(lambda: any(path.stat().st_size for path in folder.iterdir()), "the first bytes")
    command.process.send_signal(signum)
    said = command.ended()
    left = names(folder)
    assert "b" not in left
    if signum != signal.SIGKILL:
        assert said.code == 130
        assert said.err == "taskmill: interrupted\n"
        assert left == set()
        return
    assert {name.partition("-")[0] for name in left} == {"b.part"}
    make_queue(run.database)
    assert run("backup", folder / "b").code == 0
    assert names(folder) == {"b"}, "the next one cleans up"


def test_what_arrives_otherwise_than_it_was_sent_is_refused(
    run: Commands, scripted: Callable[..., Scripted], tmp_path: Path
) -> None:
    make_queue(tmp_path / "other.db")
    assert run_copy(run, tmp_path) == 0
    sent = (tmp_path / "good").read_bytes()
    digest = hashlib.sha256(sent).hexdigest()
    typed = {"Content_Type": "application/vnd.sqlite3"}
    cases = (
        (reply(sent[:-1] + b"?", **typed, Taskmill_Sha256=digest), "did not arrive as it was sent"),
        (reply(sent, **typed), "did not arrive as it was sent"),
        (reply(sent[:-9], length=len(sent), **typed, Taskmill_Sha256=digest), "no answer from the dispatcher"),
        (reply(b"hello", **typed, Taskmill_Sha256=hashlib.sha256(b"hello").hexdigest()), "is damaged, or no database"),
        (reply(b'{"status": "error", "code": "x", "message": "no"}', "507 Full"), "no (HTTP 507, x)"),
    )
    before = names(tmp_path)
    for answer, reason in cases:
        said = run("backup", tmp_path / "b", "--url", scripted(answer).url)
        assert reason in said.fault
        assert said.code in (1, 3)
        assert names(tmp_path) == before


def run_copy(run: Commands, folder: Path) -> int:
    run.set(DB_PATH=str(folder / "other.db"))
    code = run("backup", folder / "good").code
    run.set(DB_PATH=str(run.database))
    return code


def test_a_copy_that_takes_long_is_asked_for_again(
    run: Commands, scripted: Callable[..., Scripted], tmp_path: Path
) -> None:
    make_queue(tmp_path / "other.db")
    assert run_copy(run, tmp_path) == 0
    sent = (tmp_path / "good").read_bytes()
    wait = reply(b'{"status": "success", "data": {"copy": "c", "share": 0.5}}', "202 Accepted")
    whole = reply(sent, Content_Type="application/vnd.sqlite3", Taskmill_Sha256=hashlib.sha256(sent).hexdigest())
    assert run("backup", tmp_path / "b", "--url", scripted(wait, wait, whole).url).code == 0
    assert (tmp_path / "b").read_bytes() == sent


def test_a_wrong_token(run: Commands, farm: Farm, tmp_path: Path) -> None:
    run.use(farm(DISPATCHER_TOKEN="s3cret"))
    run.set(DISPATCHER_TOKEN="wrong")
    assert "a valid bearer token is required" in run("backup", tmp_path / "b").fault
    run.set(DISPATCHER_TOKEN="s3cret")
    assert run("backup", tmp_path / "b").code == 0


def test_a_client_that_goes_away_leaves_nothing(run: Commands, farm: Farm, tmp_path: Path) -> None:
    cluster = farm()
    run.use(cluster)
    big(cluster, 12)
    address = urlsplit(cluster.client.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(b"GET /backup HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert held(cluster), "the copy is on its way"
        assert not [name for name in names(cluster.folder) if "copy" in name], "and has no name already"
        assert "another backup is being made" in run("backup", tmp_path / "b").fault
    wait_until(lambda: not held(cluster), "the copy to be given up")
    wait_until(lambda: run("backup", tmp_path / "b").code == 0, "the next one to be made")


def held(cluster: LocalCluster) -> list[str]:
    """Files without a name that the dispatcher has open."""
    found = []
    for link in Path(f"/proc/{cluster.dispatcher.pid}/fd").iterdir():
        with suppress(OSError):
            found.append(os.readlink(link))
    return [name for name in found if name.endswith("(deleted)") and "copy" in name]


def test_a_full_disk_here(run: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_queue(run.database)

    def full(*_: Any, **__: Any) -> str:
        raise OSError(28, "No space left on device", str(tmp_path / "b.part"))

    monkeypatch.setattr(backup, "write", full)
    said = run("backup", tmp_path / "b")
    assert said.code == 1
    assert said.err.endswith("b.part: No space left on device\n")
    assert names(tmp_path) == {"queue.db", "queue.db.lock"}
