"""`taskmill doctor`: on a healthy system, and on every kind of sick one."""

import json
import resource
import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import apsw
import pytest
from cli_kit import Commands, Scripted, Worker, make_queue, reply
from postgres_server import Schemas

from cli import checks, database
from client.testing import LocalCluster
from common import file_systems
from dispatcher.config import VERSION
from dispatcher.store.postgres import PostgresStore, migrations
from dispatcher.store.sqlite import SqliteStore
from worker import instance
from worker.model import Outcome
from worker.outbox import Outbox
from worker.quarantine import Quarantine

Farm = Callable[..., LocalCluster]


def findings(run: Commands, code: int) -> dict[str, list[tuple[str, str]]]:
    """(state, text) of each check, by name."""
    said = run("doctor", "--json")
    assert said.code == code, said
    assert said.err == ""
    told = json.loads(said.out)
    by_name: dict[str, list[tuple[str, str]]] = {}
    for one in told["checks"]:
        by_name.setdefault(one["name"], []).append((one["state"], f"{one['found']} | {one['remedy']}"))
    states = [one["state"] for one in told["checks"]]
    assert {state: states.count(state) for state in ("ok", "warn", "fail")} == {
        k: told[k] for k in ("ok", "warn", "fail")
    }
    return by_name


def worst(run: Commands, code: int, name: str) -> tuple[str, str]:
    found = findings(run, code)[name]
    return max(found, key=lambda one: ("ok", "warn", "fail").index(one[0]))


def test_a_healthy_system(run: Commands, farm: Farm) -> None:
    cluster = farm(1)
    run.use(cluster)
    found = findings(run, 0)
    assert set(found) == {
        "settings", "dispatcher", "clock", "sqlite", "wal", "integrity", "disk", "workers", "versions",
        "outboxes", "quarantine", "limits",
    }  # fmt: skip
    assert {state for one in found.values() for state, _ in one} == {"ok"}, found
    assert f"{cluster.client.url} is ready, version {VERSION}" in found["dispatcher"][0][1]
    assert found["workers"][0][1].startswith("1 alive, 0 busy; 0 tasks ready")
    assert found["integrity"] == [("ok", "the dispatcher's file: ok | ")], "asked of the one that runs"


def test_the_table_is_plain_without_a_terminal(run: Commands) -> None:
    said = run("doctor")
    assert said.code == 1
    lines = said.out.splitlines()
    assert lines[0].split() == ["check", "found", "what", "to", "do"]
    assert any(line.startswith("dispatcher  fail  no answer") and "./start_dispatcher.sh" in line for line in lines)
    assert "\x1b" not in said.out


def test_settings_that_cannot_be_read(run: Commands) -> None:
    run.set(DISPATCHER_PORT="many", WORKER_CONCURRENCY="0", DISPATCHER_URL="nowhere")
    told = " ".join(text for _, text in findings(run, 1)["settings"])
    assert "DISPATCHER_PORT=many" in told
    assert "WORKER_CONCURRENCY=0" in told
    run.set(DISPATCHER_PORT="", WORKER_CONCURRENCY="", DISPATCHER_HOST="0.0.0.0")
    told = " ".join(text for _, text in findings(run, 1)["settings"])
    assert "DISPATCHER_URL" in told
    assert "needs DISPATCHER_TOKEN" in told


def test_a_wrong_token_is_named_and_not_shown(run: Commands, farm: Farm) -> None:
    run.use(farm(DISPATCHER_TOKEN="s3cret"))
    run.set(DISPATCHER_TOKEN="wr0ng")
    state, text = worst(run, 1, "dispatcher")
    assert state == "fail"
    assert "set the same DISPATCHER_TOKEN" in text
    assert "wr0ng" not in run("doctor").out


def test_without_a_dispatcher_the_file_is_looked_at(run: Commands) -> None:
    make_queue(run.database)
    assert worst(run, 1, "database")[0] == "ok"
    store = SqliteStore(run.database)
    try:
        assert "is in use by another dispatcher, which could not be asked" in worst(run, 1, "database")[1]
    finally:
        store.close()
    assert worst(run, 1, "integrity") == ("ok", f"{run.database}: ok | ")
    run.database.write_bytes(b"?" * 5000)
    assert worst(run, 1, "database")[0] == "fail"


def test_a_damaged_page_is_found(run: Commands) -> None:
    make_queue(run.database, tasks=200)
    with closing(apsw.Connection(str(run.database))) as db:
        db.pragma("journal_mode", "delete")
        page, size = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'tasks'").get, db.pragma("page_size")
    with run.database.open("r+b") as file:
        file.seek((page - 1) * size + 8)
        file.write(b"\xff" * 200)
    state, text = worst(run, 1, "integrity")
    assert state == "fail"
    assert "restore a backup" in text


def test_a_file_too_large_to_be_read_is_no_fault(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    make_queue(run.database, tasks=2000)
    monkeypatch.setattr(checks, "LOOK_S", -1.0)
    state, text = worst(run, 1, "integrity")
    assert state == "warn"
    assert "not read to its end" in text


def test_workers_of_other_versions() -> None:
    def one(name: str, version: str | None, status: str = "alive") -> dict[str, Any]:
        return {"worker_id": name, "status": status, **({"version": version} if version else {})}

    same, classic, dead = one("a", VERSION), one("b", None), one("c", "0.0.1", "dead")
    seen = checks.Seen({"version": VERSION}, {"workers": [same, classic, dead]}, None)
    assert [found.state for found in checks.versions(seen)] == ["ok"]
    olds = [one(f"old-{n}", "0.0.1") for n in range(7)]
    [found] = checks.versions(seen._replace(stats={"workers": [same, *olds]}))
    assert found.state == "warn"
    assert f"old-4 …: version 0.0.1, the dispatcher has {VERSION}" in found.found


def test_a_newer_schema(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    make_queue(run.database)
    monkeypatch.setattr(checks, "steps", lambda: [(0, "")])
    assert "upgrade Taskmill" in worst(run, 1, "database")[1]


def health(**fields: Any) -> bytes:
    told = {"status": "healthy", "service": "dispatcher", "ready": True, "version": VERSION, "uptime_seconds": 7300}
    return json.dumps({**told, "sqlite_version": "3.54.1", **fields}).encode()


@pytest.mark.parametrize(
    ("fields", "check", "state", "words"),
    [
        ({}, "dispatcher", "ok", "up 2.0 h"),
        ({"ready": False}, "dispatcher", "fail", "cannot write to its store"),
        ({"version": "0.0.1"}, "dispatcher", "warn", "restart it after an upgrade"),
        ({"sqlite_version": "3.51.2"}, "sqlite", "fail", "needs 3.51.3"),
        ({"sqlite_version": "3.50.7"}, "sqlite", "ok", "version 3.50.7"),
        ({"wal_bytes": checks.WAL_WARN - 1}, "wal", "ok", "256.0 MiB"),
        ({"wal_bytes": checks.WAL_WARN}, "wal", "warn", "256 MiB, which slows every read"),
        ({"wal_bytes": 1}, "integrity", "ok", "not looked at"),  # by one that is older than the question
        ({"service": "something else"}, "dispatcher", "fail", "is no dispatcher"),
    ],
)
def test_what_a_dispatcher_says(
    run: Commands, scripted: Callable[..., Scripted], fields: dict[str, Any], check: str, state: str, words: str
) -> None:
    run.set(DISPATCHER_URL=scripted(reply(health(**fields))).url)
    found, text = worst(run, 1 if state == "fail" else 0, check)
    assert found == state
    assert words in text


@pytest.mark.parametrize(
    ("whole", "state", "words"),
    [
        (True, "ok", "the dispatcher's file: ok"),
        (False, "fail", "the dispatcher's file: as found | ./taskmill restore"),
        (None, "warn", "the dispatcher's file was not read to its end in 9 s | ./taskmill backup"),
    ],
)
def test_how_a_dispatcher_finds_its_file(
    run: Commands, scripted: Callable[..., Scripted], whole: bool | None, state: str, words: str
) -> None:
    seen = {"whole": whole, "found": "ok" if whole else "as found", "seconds": 9.2}
    told = json.dumps({"status": "success", "data": seen}).encode()
    first = reply(health(wal_bytes=1))
    run.set(DISPATCHER_URL=scripted(first, first, reply(told)).url)
    found, text = worst(run, 1 if state == "fail" else 0, "integrity")
    assert (found, text[: len(words)]) == (state, words)


@pytest.mark.parametrize(("off", "state"), [(0, "ok"), (20, "warn"), (-20, "warn"), (600, "fail"), (-600, "fail")])
def test_clocks_that_differ(run: Commands, scripted: Callable[..., Scripted], off: int, state: str) -> None:
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=off), usegmt=True)
    run.set(DISPATCHER_URL=scripted(reply(health(), Date=date)).url)
    found, text = worst(run, 1 if state == "fail" else 0, "clock")
    assert found == state
    assert off == 0 or ("before" if off > 0 else "behind") in text


def test_work_that_nobody_takes(run: Commands, farm: Farm) -> None:
    cluster = farm()
    run.use(cluster)
    assert worst(run, 0, "workers")[0] == "warn"
    cluster.client.submit("noop")
    state, text = worst(run, 1, "workers")
    assert state == "fail"
    assert "0 alive, 0 busy; 1 tasks ready" in text
    worker = Worker(cluster.client.url)
    worker.claim()
    worker.line.close()
    assert worst(run, 0, "workers")[0] == "ok"


@pytest.mark.parametrize(("leases", "words"), [(0, "slow in default"), (1, "start more workers")])
def test_work_that_waits_long(leases: int, words: str) -> None:
    stats = {
        "workers": [{"status": "alive", "leases": leases}, {"status": "dead", "leases": 0}],
        "ready_tasks": 5,
        "oldest_waiting_seconds": 600.0,
        "queues": [{"queue": "default", "task_type": "slow", "ready": 5}, {"queue": "q", "task_type": "noop"}],
    }
    [found] = checks.workers(stats)
    assert found.state == "warn"
    assert words in f"{found.found} {found.remedy}"


def test_outcomes_that_nobody_delivers(run: Commands, tmp_path: Path) -> None:
    assert worst(run, 1, "outboxes")[0] == "ok"
    held = instance.create(tmp_path / "cache", "w-1")
    outbox = Outbox(held.outbox, Quarantine(held.quarantine, held.folder.name))
    body = {"store_id": "s", "task_id": 1, "lease_id": "1-0", "status": "completed"}
    outbox.put([Outcome("1-0", "noop", "completed", json.dumps(body), 0.1)])
    outbox.close()
    assert worst(run, 1, "outboxes")[0] == "ok", "its worker lives"
    held.leave()
    state, text = worst(run, 1, "outboxes")
    assert state == "warn"
    assert f"1 reports of a worker that is gone wait in {held.folder}" in text
    assert worst(run, 1, "quarantine")[0] == "ok"
    Quarantine(held.quarantine, held.folder.name).keep(b"1", {"reason": "refused"})
    assert "1 outcomes were set aside" in worst(run, 1, "quarantine")[1]


def test_disks(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    for free, state in ((checks.DISK_FAIL - 1, "fail"), (checks.DISK_WARN - 1, "warn"), (checks.DISK_WARN, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        assert worst(run, 1, "disk")[0] == state
    monkeypatch.setattr(file_systems, "kind_of", lambda path: "nfs4")
    assert "network file system (nfs4)" in worst(run, 1, "disk")[1]


def test_limits(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 1024))
    told = " ".join(text for _, text in findings(run, 1)["limits"])
    assert "ulimit -Hn" in told
    assert "ulimit -u" in told
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, resource.RLIM_INFINITY))
    assert worst(run, 1, "limits") == ("ok", "any number of open files for 1200 threads | ")


def test_a_queue_in_a_database_server(run: Commands) -> None:
    run.set(DATABASE_URL="postgresql://user:s3cret@db/queue")
    found = findings(run, 1)
    assert "sqlite" not in found
    assert found["database"][0][0] == "fail"
    assert len(found["disk"]) == 1
    assert "s3cret" not in run("doctor").out


def test_several_dispatchers_are_all_asked(run: Commands, scripted: Callable[..., Scripted]) -> None:
    urls = [scripted(reply(health(version=version))).url for version in (VERSION, "0.0.1")]
    run.set(DISPATCHER_URL=",".join(urls))
    assert [state for state, _ in findings(run, 0)["dispatcher"]] == ["ok", "warn"]


def test_the_doctor_changes_nothing(run: Commands, tmp_path: Path) -> None:
    make_queue(run.database)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    run("doctor")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_healthy_database(run: Commands, schemas: Schemas) -> None:
    url = schemas.new()
    store = PostgresStore(url)
    run.set(DATABASE_URL=url)
    found = findings(run, 1)  # no dispatcher runs, and a server of tests does not wait for its disk
    assert found["database"][0][0] == "ok"
    assert f"schema {migrations.steps()[-1][0]}" in found["database"][0][1]
    assert found["durability"][0][0] == "fail"
    assert "fsync" in found["durability"][0][1]
    for name in ("old snapshots", "connections", "dead rows", "standbys"):
        assert found[name][0][0] == "ok", found
    store.close()
    schemas.give_back()


def test_an_old_snapshot_is_told(schemas: Schemas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "OLD_SNAPSHOT_S", -1)
    states = {one.name: one.state for one in database.examine(schemas.new())}
    assert states["old snapshots"] == "warn"
    schemas.give_back()
