"""A farm at work moves: real dispatcher, workers, command."""

import json
import secrets
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from move_kit import KILL_POINTS, ask, of_database, of_file, taskmill, wait_until, without_times

from client.errors import ClientError
from client.testing import LocalCluster
from dispatcher.errors import CannotOpen
from dispatcher.store.postgres import PostgresStore
from dispatcher.store.sqlite import SqliteStore

Farm = Callable[..., LocalCluster]


class Load:
    """A client that submits as long as it may, and what it was promised."""

    def __init__(self, cluster: LocalCluster, ledger: Path) -> None:
        self.cluster, self.ledger = cluster, ledger
        self.ids: list[int] = []
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.01):
                self.ids += self._submit({"task_type": "moving", "task_data": {"ledger": str(self.ledger)}})
        except ClientError as error:
            self.error = error

    def _submit(self, task: dict[str, Any]) -> list[int]:
        return self.cluster.client.submit_many([task] * 5)

    def wait_for_more(self, where: str) -> None:
        before = len(self.ids)
        wait_until(lambda: len(self.ids) >= before + 20 or self.error, f"tasks {where}")

    def check(self, attempts: int | None = 1) -> None:
        """Everything that was promised is done, once."""
        self.stop()
        assert self.error is None
        ended = list(self.cluster.client.results(self.ids, timeout=30))
        assert Counter(task["status"] for task in ended) == {"completed": len(self.ids)}
        assert [task["result"] for task in ended] == [{"task": task["task_id"]} for task in ended]
        if attempts:
            assert {task["attempts"] for task in ended} == {attempts}
            runs = Counter(map(int, self.ledger.read_text().split()))
            assert {task_id: runs[task_id] for task_id in self.ids} == dict.fromkeys(self.ids, 1)


class HastyLoad(Load):
    """Larger batches, and a client that tries again at once rather than with growing pauses."""

    def _submit(self, task: dict[str, Any]) -> list[int]:
        tasks = [{**task, "idempotency_key": secrets.token_hex(8)} for _ in range(100)]
        while not self._stop.wait(0.02):
            with suppress(OSError, HTTPException):
                return list(_post(self.cluster, "/submit-tasks", {"tasks": tasks})["data"]["task_ids"])
        return []


def test_a_farm_at_work_moves_and_nothing_is_lost_or_done_twice(farm: Farm, tmp_path: Path, database: str) -> None:
    cluster = farm(workers=2)
    ledger, gate = tmp_path / "ledger", tmp_path / "gate"
    data = {"ledger": str(ledger), "gate": str(gate)}
    long = cluster.client.submit("moving", data)
    cluster.until(lambda: cluster.client.task(long)["status"] == "in_progress", "the long task runs")
    waiting = cluster.client.submit_many({"task_type": "nobody-serves-this"} for _ in range(3000))
    outcome: dict[str, object] = {}
    watcher = threading.Thread(target=lambda: outcome.update(cluster.client.wait(long, timeout=30)))
    watcher.start()
    with Load(cluster, ledger) as load:
        wait_until(lambda: len(load.ids) >= 50, "tasks")
        secret = database.replace("postgres@", "postgres:s3cr3t-w0rd@")
        said = taskmill(cluster.env, "migrate", "--to", secret)
        assert said.code == 0, (said, cluster.logs())
        load.wait_for_more("after the move")
        gate.touch()
        watcher.join()
        assert (outcome["status"], outcome["attempts"]) == ("completed", 1)
        load.check()
    told = _get(cluster, "/migrate")["data"]
    assert cluster.client.stats()["pending_tasks"] == len(waiting)
    assert ask(database, "SELECT count(*) FROM tasks") == [(1 + len(waiting) + len(load.ids),)]
    assert told["frozen_seconds"] < 5
    speed = told["verified_rows"] / told["seconds"]
    sys.stdout.write(f"\nfrozen for {told['frozen_seconds']} s, {speed:.0f} rows/s under load\n")
    seen = said.out + said.err + "".join(log.read_text() for log in cluster.folder.glob("*.log"))
    assert "s3cr3t-w0rd" not in seen
    assert "DATABASE_URL=postgresql://postgres:(password)@" in said.out


def test_a_claim_that_waits_is_served_from_the_new_store(farm: Farm, tmp_path: Path, database: str) -> None:
    """Nothing is claimed anew: the one claim that was waiting before the move gets what is submitted after it."""
    cluster = farm()
    asked = {
        "worker_id": "w",
        "instance_id": "abcdef",
        "request_id": 1,
        "protocol": 1,
        "max_tasks": 1,
        "wait_seconds": 25,
    }
    answers: list[bytes] = []

    def claim() -> None:
        request = Request(
            f"{cluster.client.url}/get-tasks", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        with urlopen(request, timeout=30) as reply:
            answers.append(reply.read())

    waiter = threading.Thread(target=claim)
    waiter.start()
    cluster.until(lambda: _get(cluster, "/health")["waiting_claims"] == 1, "it waits")
    assert taskmill(cluster.env, "migrate", "--to", database).code == 0
    assert _get(cluster, "/health")["store"] == "postgresql"
    assert not answers
    cluster.client.submit("noop")
    waiter.join()
    assert b'"task_id":1' in answers[0]


def _get(cluster: LocalCluster, path: str) -> dict[str, Any]:
    with urlopen(f"{cluster.client.url}{path}", timeout=10) as reply:
        found: dict[str, Any] = json.loads(reply.read())
    return found


def test_after_the_move_the_file_is_refused_and_a_restart_on_the_database_goes_on(
    farm: Farm, tmp_path: Path, database: str
) -> None:
    cluster = farm(workers=1)
    ledger = tmp_path / "ledger"
    first = cluster.client.submit("moving", {"ledger": str(ledger)})
    cluster.client.wait(first, timeout=30)
    assert taskmill(cluster.env, "migrate", "--to", database).code == 0
    assert cluster.dispatcher.stop() == 0
    path = Path(cluster.env["DB_PATH"])
    with pytest.raises(CannotOpen, match=r"has moved to postgresql://.*: set DATABASE_URL"):
        SqliteStore(path)
    again = taskmill(cluster.env, "migrate", "--to", database)
    assert (again.code, "had moved already" in again.out) == (0, True), again
    cluster.env["DATABASE_URL"] = database
    cluster.client.close()
    cluster.start_dispatcher()
    assert cluster.client.task(first)["status"] == "completed"
    second = cluster.client.submit("moving", {"ledger": str(ledger)})
    assert second == first + 1
    assert cluster.client.wait(second, timeout=30)["attempts"] == 1
    refused = taskmill(cluster.env, "migrate", "--to", database)
    assert refused.code == 2
    assert "there is nothing to move" in refused.err


@pytest.mark.parametrize("point", ["copying", "frozen", "between the two marks", "before the switch"])
def test_a_dispatcher_killed_during_a_move_loses_nothing(farm: Farm, tmp_path: Path, database: str, point: str) -> None:
    cluster = farm(PYTHONPATH=str(KILL_POINTS), TASKMILL_TEST_KILL=point)
    cluster.env |= {"PYTHONPATH": "", "TASKMILL_TEST_KILL": ""}
    with HastyLoad(cluster, tmp_path / "ledger") as load:
        wait_until(lambda: len(load.ids) >= 1200, "tasks")
        claimed = _claim(cluster, 5)
        said = taskmill(cluster.env, "migrate", "--to", database)
        assert (said.code, "run the same command again" in said.err) == (1, True), said
        cluster.dispatcher.popen.wait(10)
        if point in ("between the two marks", "before the switch"):
            _only_the_database_is_left(cluster, database, point == "before the switch")
        else:
            _start_again(cluster)
            load.wait_for_more("on the file")
        said = taskmill(cluster.env, "migrate", "--to", database)
        assert said.code == 0, (said, cluster.logs())
        assert ("taken up where it was interrupted" in said.out) == (point != "before the switch")
        if cluster.dispatcher.popen.poll() is not None:
            cluster.env["DATABASE_URL"] = database
            _start_again(cluster)
        load.wait_for_more("in the database")
        load.stop()
    assert load.error is None
    assert ask(database, "SELECT id FROM tasks ORDER BY id") == [(task_id,) for task_id in sorted(load.ids)]
    assert _succeed(cluster, claimed) == ["accepted"] * 5
    assert {cluster.client.task(task["task_id"])["attempts"] for task in claimed["tasks"]} == {1}


def _only_the_database_is_left(cluster: LocalCluster, database: str, is_finished: bool) -> None:
    with pytest.raises(CannotOpen, match="has moved to"):
        SqliteStore(Path(cluster.env["DB_PATH"]))
    if not is_finished:
        with pytest.raises(CannotOpen, match="move that is not finished"):
            PostgresStore(database)


def _claim(cluster: LocalCluster, number: int) -> dict[str, Any]:
    asked = {"worker_id": "w", "instance_id": "a" * 32, "request_id": 1, "protocol": 1, "max_tasks": number}
    return dict(_post(cluster, "/get-tasks", asked)["data"])


def _succeed(cluster: LocalCluster, claimed: dict[str, Any]) -> list[str]:
    """The verdicts."""
    outcome = {"store_id": claimed["store_id"], "status": "completed", "result": {}}
    outcomes = [{**outcome, "task_id": t["task_id"], "lease_id": t["lease_id"]} for t in claimed["tasks"]]
    told = _post(cluster, "/submit-results", {"worker_id": "w", "instance_id": "a" * 32, "outcomes": outcomes})
    return [one["verdict"] for one in told["data"]["verdicts"]]


def _post(cluster: LocalCluster, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = Request(f"{cluster.client.url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as reply:
        found: dict[str, Any] = json.loads(reply.read())
    return found


def _start_again(cluster: LocalCluster) -> None:
    """On the same port: the former client speaks to it as well."""
    former = cluster.client
    cluster.start_dispatcher()
    former.close()


def test_without_a_dispatcher_the_command_moves_the_file_itself(farm: Farm, database: str) -> None:
    cluster = farm()
    cluster.client.submit_many({"task_type": "noop", "tags": ["a"]} for _ in range(1500))
    nowhere = {**cluster.env, "DISPATCHER_URL": "http://127.0.0.1:9"}
    held = taskmill(nowhere, "migrate", "--to", database)  # one that is silent keeps its file
    assert (held.code, "a dispatcher holds" in held.err) == (1, True), held
    assert cluster.dispatcher.stop() == 0
    path = Path(cluster.env["DB_PATH"])
    contents = of_file(path)
    dry = taskmill(nowhere, "migrate", "--to", database, "--dry-run", "--from", f"sqlite:///{path}")
    assert (dry.code, "nothing was changed" in dry.out) == (0, True), dry
    said = taskmill(nowhere, "migrate", "--to", database, "--from", f"sqlite:///{path}")
    assert said.code == 0, said
    assert without_times(of_database(database, path), path) == without_times(contents, path)
