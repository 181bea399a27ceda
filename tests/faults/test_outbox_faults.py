"""The outbox of real workers, hurt: what can be delivered is, the rest is kept and shown, nothing is executed (I7)."""

import hashlib
import json
import os
import pickle
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import Any

import pytest
from overlapping import overlapping
from tcp_proxy import Fault, Message, Proxy
from warm import Cluster

from client.testing import LocalCluster
from client.transport import Transport
from worker import instance
from worker.instance import Instance
from worker.model import Outcome
from worker.siblings import open_outbox

HANDLERS = Path(__file__).parent / "handlers"
SETTINGS = {"TASKS_PATH": str(HANDLERS), "WORKER_HEARTBEAT_INTERVAL": "1", "CACHE_RETRY_INTERVAL": "0.2"}
SOON = 20.0
LONG = pytest.mark.long


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def on_a_farm(scenario: Callable[..., Any]) -> Callable[..., None]:
    """The test of a scenario that needs a dispatcher: it gets a farm, and its parameters."""

    @wraps(scenario)
    def run(folder: Path, **parameters: Any) -> Any:
        with Cluster(workers=0, concurrency=2, parent=folder, settings=SETTINGS) as farm:
            return scenario(farm, **parameters)

    own = [one for name, one in signature(scenario).parameters.items() if name != "farm"]
    run.__signature__ = Signature(own)  # type: ignore[attr-defined]
    return overlapping(run)


def submit(farm: LocalCluster, count: int, **data: Any) -> list[int]:
    data |= {"ledger": str(farm.folder / "ledger")}
    return farm.client.submit_many({"task_type": "net_ledger", "task_data": {"n": n, **data}} for n in range(count))


def executions(farm: LocalCluster) -> Counter[int]:
    ledger = farm.folder / "ledger"
    return Counter(map(int, ledger.read_text().split())) if ledger.exists() else Counter()


def ended(farm: LocalCluster, ids: list[int]) -> dict[int, dict[str, Any]]:
    tasks = {task["task_id"]: task for task in farm.client.results(ids, timeout=SOON)}
    assert {task["status"] for task in tasks.values()} == {"completed"}
    return tasks


def records(farm: LocalCluster, worker: str) -> list[dict[str, Any]]:
    """What lies in quarantine."""
    return [json.loads(path.read_text()) for path in (farm.folder / "cache" / worker / "quarantine").glob("*.json")]


def quarantined(farm: LocalCluster, worker: str) -> int:
    """How much of it the dispatcher shows."""
    workers = farm.client.stats()["workers"]
    return next((one["metadata"]["quarantined"] for one in workers if one["worker_id"] == worker), -1)


class Dead:
    """A worker that was killed with finished outcomes in its outbox, one entry each; its leases are real."""

    def __init__(self, farm: LocalCluster, name: str, tasks: int) -> None:
        self.own: Instance = instance.create(farm.folder / "cache", name)
        self.ids = submit(farm, tasks)
        asked = {"worker_id": name, "instance_id": self.own.folder.name, "request_id": 1, "max_tasks": tasks}
        transport = Transport(farm.client.url)
        data = transport.call("POST", "/get-tasks", json.dumps({**asked, "protocol": 1}).encode())
        transport.close()
        self.leases = sorted(data["tasks"], key=lambda lease: lease["task_id"])
        assert [lease["task_id"] for lease in self.leases] == self.ids
        self._store = data["store_id"]
        self.own.note_store(self._store)
        self.own.note_started([lease["lease_id"] for lease in self.leases], list)

    def finish(self, spooled: int = 0) -> None:
        """Fills the outbox, the last outcomes with their results in spool files, and dies."""
        outbox = open_outbox(self.own)
        for place, lease in enumerate(self.leases):
            outbox.put([self._outcome(lease, place, place >= len(self.leases) - spooled)])
        outbox.close()
        self.own.leave()

    def _outcome(self, lease: dict[str, Any], n: int, in_spool: bool) -> Outcome:
        named = {"store_id": self._store, "task_id": lease["task_id"], "lease_id": lease["lease_id"]}
        fields: dict[str, Any] = {**named, "status": "completed", "run_seconds": 0.01}
        result, spool = {"n": n, "from": "outbox"}, None
        if in_spool:
            text, spool = json.dumps(result).encode(), self.own.spool / f"result-{n}"
            spool.write_bytes(text)
            digest = hashlib.sha256(text).hexdigest()
            fields["result_ref"] = {"bytes": len(text), "sha256": digest, "media_type": "application/json"}
        else:
            fields["result"] = result
        return Outcome(lease["lease_id"], "net_ledger", "completed", json.dumps(fields), 0.01, spool)

    def sql(self, statement: str, *values: object) -> list[Any]:
        connection = sqlite3.connect(self.own.outbox / "cache.db")
        try:
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def damage(self, count: int, mark: Path) -> list[int]:
        """Hurts entries of every tenth task (`count` in all) and spool files at the end; the ids of the tasks."""
        bomb = pickle.dumps(Bomb(mark))
        (self.own.outbox / "planted.val").write_bytes(bomb)
        hurt = list(range(0, 10 * count, 10))
        for kind, place in enumerate(hurt):
            key = b"%016d" % (place + 1)
            if kind % 5 == 0:
                value = bytearray(self.sql("SELECT value FROM Cache WHERE key = ?", key)[0][0])
                value[kind] ^= 0x10
                self.sql("UPDATE Cache SET value = ? WHERE key = ?", bytes(value), key)
            elif kind % 5 == 1:
                self.sql("UPDATE Cache SET value = substr(value, 1, ?) WHERE key = ?", kind, key)
            elif kind % 5 == 2:
                self.sql("UPDATE Cache SET value = ?, mode = 4 WHERE key = ?", bomb, key)
            elif kind % 5 == 3:
                self.sql("UPDATE Cache SET key = ?, raw = 0 WHERE key = ?", pickle.dumps((kind, Bomb(mark))), key)
            else:
                name = "planted.val" if kind % 2 else "missing.val"
                self.sql("UPDATE Cache SET value = NULL, mode = 4, filename = ? WHERE key = ?", name, key)
        return [self.ids[place] for place in hurt]


@pytest.mark.parametrize("entries", [200, pytest.param(1000, marks=LONG)])
@on_a_farm
def test_only_what_was_damaged_is_computed_again(farm: LocalCluster, entries: int) -> str:
    dead, mark = Dead(farm, "old", entries), farm.folder / "executed"
    dead.finish(spooled=20)
    hurt = dead.damage(entries // 10 - 10, mark)
    for n in range(entries - 10, entries):
        (dead.own.spool / f"result-{n}").unlink()
    hurt += dead.ids[-10:]

    began = time.monotonic()
    farm.start_worker("old")
    tasks = ended(farm, dead.ids)
    told = f"{entries} entries, {len(hurt)} of them damaged: all done in {time.monotonic() - began:.1f} s"

    assert executions(farm) == Counter(hurt)
    for n, task_id in enumerate(dead.ids):
        known = {"n": n} if task_id in hurt else {"n": n, "from": "outbox"}
        assert farm.client.result_of(tasks[task_id]) == known
    farm.until(lambda: quarantined(farm, "old") == len(hurt), "the quarantine is shown")
    assert len(records(farm, "old")) == len(hurt) == entries // 10
    assert not mark.exists()
    farm.until(lambda: not dead.own.folder.exists(), "the dead one's folder goes")
    return told


@pytest.mark.parametrize("damage", ["garbage", pytest.param("torn", marks=LONG), pytest.param("empty", marks=LONG)])
@on_a_farm
def test_a_corrupt_database_is_set_aside_and_its_tasks_run_again(farm: LocalCluster, damage: str) -> None:
    dead = Dead(farm, "old", 50)
    dead.finish()
    file = dead.own.outbox / "cache.db"
    size = file.stat().st_size
    with file.open("r+b") as content:
        if damage == "torn":
            content.truncate(size // 2)
        else:
            content.write(os.urandom(size) if damage == "garbage" else b"")
            content.truncate(size if damage == "garbage" else 0)
    worker = farm.start_worker("old")
    tasks = ended(farm, dead.ids)
    saved = {one for one, task in tasks.items() if task["result"].get("from") == "outbox"}
    assert executions(farm) == Counter(set(dead.ids) - saved), farm.logs()
    if damage != "empty":  # an empty file is a database without entries
        farm.until(lambda: quarantined(farm, "old") == 1, "the quarantine is shown")
        assert (farm.folder / "cache/old/quarantine/cache.db.corrupt-1").stat().st_size
    assert worker.stop() == 0


@on_a_farm
def test_a_worker_with_too_much_to_deliver_stops_claiming_until_it_is_delivered(farm: LocalCluster) -> None:
    ids = submit(farm, 500, bytes=20_000, seconds=0.01)
    claims: list[dict[str, Any]] = []
    beats: list[dict[str, Any]] = []

    def hear(request: Message, reply: Message) -> None:
        {"/get-tasks": claims, "/heartbeat": beats}.get(request.path, []).append(json.loads(request.body))

    with Proxy(int(farm.env["DISPATCHER_PORT"]), heard=hear) as proxy:
        proxy.fault = Fault("drop", paths=("/submit-results",))
        small = {"CACHE_MAX_BYTES": str(2**20), "WORKER_HEARTBEAT_INTERVAL": "0.2"}
        worker = farm.start_worker("full", DISPATCHER_URL=proxy.url, **small)
        farm.until(lambda: "no more tasks are claimed" in worker.output(), "the mark is reached")
        farm.until(lambda: bool(claims) and claims[-1]["max_tasks"] == 0, "it asks for nothing")
        farm.until(lambda: not beats[-1]["host"]["running"], "it has finished what it had")
        began, waiting = len(beats), farm.client.stats()["pending_tasks"]
        assert waiting > 100
        farm.until(lambda: len(beats) >= began + 3, "time passes")
        assert farm.client.stats()["pending_tasks"] == waiting
        assert not any(claim["max_tasks"] for claim in claims[-1:])
        assert beats[-1]["host"]["outbox"] == len(executions(farm)) == 500 - waiting
        proxy.fault = Fault()
        assert set(ended(farm, ids)) == set(ids)
        assert executions(farm) == Counter(ids)
        assert worker.stop() == 0


@on_a_farm
def test_only_answered_refusals_age_an_outcome_and_none_is_dropped(farm: LocalCluster) -> None:
    """Away for longer than CACHE_TTL_SECONDS: nothing ages. Refused for as long: set aside, kept, and shown."""
    lifetime = 1.0
    restart(farm, "right")
    worker = farm.start_worker("old", CACHE_TTL_SECONDS=str(lifetime))
    farm.until(lambda: farm.client.stats()["active_workers"] == 1, "the worker comes up")
    ids = submit(farm, 12, seconds=0.2)
    farm.until(lambda: len(executions(farm)) >= 2, "it works")
    assert farm.dispatcher.stop() == 0
    time.sleep(2 * lifetime)  # the fault itself
    assert not records(farm, "old")

    restart(farm, "wrong")
    farm.until(lambda: "is refused" in worker.output(), "the worker is refused")
    kept = len(executions(farm))
    farm.until(lambda: outcomes_in(farm, "old") == kept, "all it had is in quarantine")
    assert all("unauthorized" in record["reason"] for record in records(farm, "old"))

    assert farm.dispatcher.stop() == 0
    restart(farm, "right")
    tasks = ended(farm, ids)
    assert all(tasks[one]["result"] == {"n": n} for n, one in enumerate(ids))
    farm.until(lambda: quarantined(farm, "old") == len(records(farm, "old")) > 0, "the quarantine is shown")
    assert outcomes_in(farm, "old") == kept
    assert sum(executions(farm).values()) <= len(ids) + kept
    assert worker.stop() == 0


def restart(farm: LocalCluster, token: str) -> None:
    farm.client.close()
    farm.dispatcher.stop()
    farm.env["DISPATCHER_TOKEN"] = token
    farm.start_dispatcher()


def outcomes_in(farm: LocalCluster, worker: str) -> int:
    return sum(len(record["outcomes"]) for record in records(farm, worker))
