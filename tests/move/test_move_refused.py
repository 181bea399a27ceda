"""What is refused, what fails, and that the queue goes on all the same."""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from move_kit import ask, finish, move, of_database, of_file, tables_of, taskmill, wait_until
from postgres_server import running

from common.settings import load
from dispatcher.app import create_app
from dispatcher.config import DispatcherSettings
from dispatcher.errors import CannotOpen, Unavailable
from dispatcher.maintenance.reaper import Reaper
from dispatcher.move.errors import Away, CannotMove
from dispatcher.move.moves import Moves
from dispatcher.move.source import Source
from dispatcher.move.target import Target, for_settings
from dispatcher.queue import Queue
from dispatcher.queue.submit import Submission
from dispatcher.store.postgres import PostgresStore
from dispatcher.store.postgres.connecting import shown
from dispatcher.store.sqlite import SqliteStore

SECRET = "s3cr3t"


@pytest.fixture
def queue(store: SqliteStore) -> Queue:
    made = Queue(store)
    made.submit([Submission("noop", "{}") for _ in range(1200)])
    return made


@pytest.fixture
def moves(queue: Queue) -> Iterator[Moves]:
    made = Moves(queue, notify=False)
    yield made
    made.stop()
    queue.store.close()


@pytest.fixture
def api(queue: Queue, moves: Moves) -> Any:
    return create_app(queue, load(DispatcherSettings, {}), moves).test_client()


def over(api: Any) -> dict[str, Any]:
    """How the move ended."""
    wait_until(lambda: api.get("/migrate").json["data"]["phase"] in ("done", "failed", "checked"), "the end")
    found: dict[str, Any] = api.get("/migrate").json["data"]
    return found


def goes_on(queue: Queue) -> None:
    assert len(queue.submit([Submission("noop", "{}")])) == 1


# targets


def test_a_database_with_another_queue_is_refused(store: SqliteStore, queue: Queue, database: str) -> None:
    with closing(PostgresStore(database, notify=False)) as other:
        Queue(other).submit([Submission("noop", "{}")])
        with pytest.raises(CannotMove, match=f"holds a queue already .store {other.store_id}"):
            move(store, database)
    goes_on(queue)
    assert ask(database, "SELECT count(*) FROM tasks") == [(1,)]


def test_a_database_with_strangers_rows_is_refused(store: SqliteStore, queue: Queue, database: str) -> None:
    _execute(database, "CREATE TABLE results AS SELECT 1 AS x")
    with pytest.raises(CannotMove, match=r"is not empty .it has rows in results"):
        move(store, database)
    assert tables_of(database) == {"results"}
    goes_on(queue)


def test_a_part_of_another_queue_is_refused(store: SqliteStore, queue: Queue, database: str, tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "other.db")) as other, pytest.raises(CannotMove, match="stopped"):
        move(other, database, lambda: True)
    with pytest.raises(CannotMove, match=f"holds a part of another queue .store {other.store_id}"):
        move(store, database)
    with pytest.raises(CannotOpen, match="target of a move that is not finished"):
        PostgresStore(database)
    goes_on(queue)


def test_a_table_of_another_shape_is_refused(store: SqliteStore, queue: Queue, database: str) -> None:
    _execute(database, "CREATE TABLE task_types (name text PRIMARY KEY)")
    with pytest.raises(CannotMove, match="task_types has other columns"):
        move(store, database)
    goes_on(queue)


def _execute(url: str, sql: str) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(sql)


# over HTTP


def test_a_dry_run_over_http_changes_nothing(api: Any, queue: Queue, database: str) -> None:
    assert api.get("/migrate").status_code == 404
    reply = api.post("/migrate", json={"to": database, "dry_run": True})
    assert reply.status_code == 202
    told = over(api)
    assert (told["phase"], told["note"], told["tables"]["tasks"]) == (
        "checked",
        "is empty",
        {"rows": 1200, "copied": 0},
    )
    assert tables_of(database) == set()
    goes_on(queue)


def test_a_dispatcher_moves_and_goes_on_without_a_restart(api: Any, queue: Queue, database: str) -> None:
    reaper = Reaper(queue)
    reaper.run_once(queue.now())
    old, store_id = queue.store, queue.store.store_id
    assert api.post("/migrate", json={"to": database}).status_code == 202
    told = over(api)
    assert (told["phase"], told["error"]) == ("done", None)
    assert isinstance(queue.store, PostgresStore)
    assert queue.store.store_id == store_id
    assert api.post("/submit-task", json={"task_type": "noop"}).json["data"]["task_id"] == 1201
    assert reaper.run_once(queue.now()) == 0
    wait_until(lambda: _is_closed(old), "the file is let go")
    again = api.post("/migrate", json={"to": database})
    assert (again.status_code, again.json["data"]) == (202, told)
    other = api.post("/migrate", json={"to": "postgresql://elsewhere/q"})
    assert (other.status_code, other.json["code"]) == (400, "unsupported")
    assert "pg_dump" in api.get("/backup?copy=x").json["message"]


def _is_closed(store: Any) -> bool:
    return bool(store._closed)


def test_only_this_dispatchers_file_is_moved(api: Any, database: str) -> None:
    reply = api.post("/migrate", json={"to": database, "from": "/somewhere/else.db"})
    assert (reply.status_code, "this dispatcher's queue is" in reply.json["message"]) == (400, True)


def test_one_move_at_a_time(api: Any, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()
    look = Target.look

    def slow(self: Target, *arguments: Any) -> str:
        begun.set()
        assert go.wait(10)
        return look(self, *arguments)

    monkeypatch.setattr(Target, "look", slow)
    try:
        assert api.post("/migrate", json={"to": database}).status_code == 202
        assert begun.wait(10)
        assert api.post("/migrate", json={"to": database}).status_code == 202  # the same one
        other = api.post("/migrate", json={"to": "postgresql://elsewhere/q"})
        assert (other.status_code, other.json["code"]) == (409, "conflict")
    finally:
        go.set()
    assert over(api)["phase"] == "done"


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://u:{SECRET}@h/d",
        f"postgresql://u:{SECRET}/x@h/d",
        f"postgresql://u:{SECRET}%zz@h/d",
        f"postgresql://u:1{SECRET}@h:{SECRET}/d",
        f"postgresql://u@h/d?nonsense={SECRET}",
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(api: Any, url: str, caplog: pytest.LogCaptureFixture) -> None:
    reply = api.post("/migrate", json={"to": url})
    assert reply.status_code == 400
    assert "must be a URL like postgresql://" in reply.json["message"]
    assert SECRET not in reply.get_data(as_text=True) + caplog.text + shown(url)


def test_the_password_is_shown_nowhere(api: Any, queue: Queue, database: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"postgresql://someone:{SECRET}#?%2F@127.0.0.1:9/nothing"
    for body in ({"to": url}, {"to": f"postgresql://127.0.0.1:9/nothing?user=x&password={SECRET}"}):
        reply = api.post("/migrate", json=body)
        told = over(api)
        assert (told["phase"], told["to"]) == ("failed", "postgresql://127.0.0.1:9/nothing")
        assert "cannot be used now" in told["error"]
        assert SECRET not in reply.get_data(as_text=True) + json.dumps(told)
    assert SECRET not in caplog.text
    assert SECRET not in repr(told) + for_settings(url)
    goes_on(queue)


def test_the_command_repeats_no_password_either() -> None:
    said = taskmill({}, "migrate", "--to", f"postgresql://u:{SECRET}/x@h/d")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert SECRET not in said.out + said.err


# what fails in the middle


def test_a_database_that_goes_away_in_the_middle_leaves_the_queue_where_it_is(
    api: Any, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatcher.move.target.PATIENCE_S", 0.5)
    with running() as server:
        put, puts = Target.put, list[int]()

        def stop_and_put(self: Target, *arguments: Any) -> None:
            puts.append(1)
            if len(puts) == 2:
                server.stop()
            put(self, *arguments)

        monkeypatch.setattr(Target, "put", stop_and_put)
        api.post("/migrate", json={"to": server.url})
        told = over(api)
        assert told["phase"] == "failed"
        assert "cannot be used now" in told["error"]
        goes_on(queue)
        monkeypatch.setattr(Target, "put", put)
        server.start()
        api.post("/migrate", json={"to": server.url})
        told = over(api)
        assert (told["phase"], told["note"]) == ("done", "taken up where it was interrupted")
        goes_on(queue)
        queue.store.close()


def test_what_fails_in_the_freeze_ends_the_freeze(
    api: Any, queue: Queue, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = Target.counts

    def fail(self: Target) -> dict[tuple[int, str], int]:
        with pytest.raises(Unavailable, match="is moving"):
            queue.submit([Submission("noop", "{}")])
        assert queue.task(1)["status"] == "pending"  # reads go on
        refused = api.post("/submit-task", json={"task_type": "noop"})
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        return {**counts(self), (1, "failed"): 1}

    monkeypatch.setattr(Target, "counts", fail)
    api.post("/migrate", json={"to": database})
    assert "differ from a recount" in over(api)["error"]
    goes_on(queue)


def test_behind_the_commit_point_a_database_that_is_away_is_waited_for(
    api: Any, queue: Queue, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, tries = Target.finish, list[int]()

    def away_twice(self: Target, *arguments: Any) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise Away("away")
        last(self, *arguments)

    monkeypatch.setattr(Target, "finish", away_twice)
    api.post("/migrate", json={"to": database})
    assert over(api)["phase"] == "done"
    goes_on(queue)


def test_the_answer_of_the_last_step_may_get_lost(
    store: SqliteStore, queue: Queue, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, tries = Target.finish, list[int]()

    def twice(self: Target, *arguments: Any) -> None:
        last(self, *arguments)
        tries.append(1)
        if len(tries) == 1:
            raise Away("the answer was lost")

    monkeypatch.setattr(Target, "finish", twice)
    move(store, database)
    assert ask(database, "SELECT sum(n) FROM counts WHERE state = 'pending'") == [(1200,)]


def test_the_last_step_is_taken_by_whoever_comes_next(
    store: SqliteStore, queue: Queue, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self: Target, *arguments: Any) -> None:
        raise CannotMove("killed")

    last = Target.finish
    monkeypatch.setattr(Target, "finish", die)
    with pytest.raises(CannotMove, match="killed"):
        move(store, database)
    monkeypatch.setattr(Target, "finish", last)
    with pytest.raises(Unavailable):
        goes_on(queue)  # it has left
    store.close()
    with pytest.raises(CannotMove, match=r"has moved to .*: name that database"):
        finish(store.path, "postgresql://elsewhere/other")
    assert finish(store.path, database).phase == "done"
    assert finish(store.path, database).note == "had moved already"
    assert of_database(database, store.path) == of_file(store.path)


def test_a_stopping_dispatcher_ends_its_move(
    api: Any, queue: Queue, moves: Moves, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Target.put

    def drain_and_put(self: Target, *arguments: Any) -> None:
        queue.drain()
        put(self, *arguments)

    monkeypatch.setattr(Target, "put", drain_and_put)
    api.post("/migrate", json={"to": database})
    assert "stopped before the switch" in over(api)["error"]
    moves.stop()
    with closing(Source(queue.store.path, None)) as source:  # type: ignore[attr-defined]
        assert source.moved_to() is None


def test_a_move_needs_the_token(queue: Queue, moves: Moves, database: str) -> None:
    app = create_app(queue, load(DispatcherSettings, {}, token="t0k3n"), moves).test_client()
    assert app.post("/migrate", json={"to": database}).status_code == 401
    assert app.get("/migrate").status_code == 401
    asked = app.post("/migrate", json={"to": database, "dry_run": True}, headers={"Authorization": "Bearer t0k3n"})
    assert asked.status_code == 202


def test_a_dispatcher_that_comes_late_to_its_new_database_waits_for_it(
    api: Any, queue: Queue, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt, tries = Queue.adopt, list[int]()

    def away_once(self: Queue, store: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise Unavailable("away")
        adopt(self, store)

    monkeypatch.setattr(Queue, "adopt", away_once)
    api.post("/migrate", json={"to": database})
    assert over(api)["phase"] == "done"
    goes_on(queue)
