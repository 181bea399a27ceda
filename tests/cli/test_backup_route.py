"""`GET /backup`: one copy at a time, never at the cost of the queue."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import apsw
import pytest
from cli_kit import names, wait_until
from flask import Flask
from werkzeug.test import TestResponse

from common.settings import load
from dispatcher.app import create_app
from dispatcher.config import DispatcherSettings
from dispatcher.errors import CopyRuns, NoRoom, StorageFull, Unavailable
from dispatcher.queue import Queue
from dispatcher.queue.submit import Submission, submit
from dispatcher.queue.terms import Terms
from dispatcher.routes import backup as route
from dispatcher.routes import errors
from dispatcher.store.sqlite import SqliteStore, backup, copies
from dispatcher.store.sqlite.copies import Copies

LOCAL = "http://127.0.0.1:5000"


class Gate:
    """Stands in for 'is the dispatcher stopping?': holds a copy up until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened, self.stopping = threading.Event(), threading.Event(), False

    def __call__(self) -> bool:
        self.reached.set()
        assert self.opened.wait(10)
        return self.stopping


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "queue.db")
    add(made, 50)
    yield made
    made.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


@pytest.fixture
def ask(store: SqliteStore) -> Iterator[Callable[..., TestResponse]]:
    app = create_app(Queue(store), load(DispatcherSettings, {}))
    with ExitStack() as cleanup:

        def ask(path: str = "/backup", method: str = "GET", **options: Any) -> TestResponse:
            made = app.test_client().open(path, method=method, base_url=LOCAL, **options)
            cleanup.callback(made.close)
            return made

        yield ask


def add(store: SqliteStore, number: int) -> None:
    store.write(lambda tx: submit(tx, [Submission("noop", '"' + "x" * 10_000 + '"')] * number, Terms()))


def taken(copy: copies.Copy) -> bytes:
    pieces = copy.take()
    assert pieces is not None
    return b"".join(pieces)


def test_the_answer_is_a_whole_backup(ask: Callable[..., TestResponse], tmp_path: Path) -> None:
    reply = ask()
    assert reply.content_type == "application/vnd.sqlite3"
    assert reply.headers["Cache-Control"] == "no-store"
    (tmp_path / "b").write_bytes(reply.data)
    assert backup.inspect(tmp_path / "b").tasks == {"pending": 50}
    assert names(tmp_path) == {"b", "queue.db", "queue.db-wal", "queue.db-shm", "queue.db.lock"}
    assert ask().status_code == 200, "the next one may begin"


def test_what_is_refused(ask: Callable[..., TestResponse]) -> None:
    assert ask(method="HEAD").status_code == 405
    assert ask("/backup?all=1").json["message"] == "all: unknown argument"
    assert ask("/backup?copy=a%20b").status_code == 400


def test_it_needs_the_token(store: SqliteStore) -> None:
    app = create_app(Queue(store), load(DispatcherSettings, {}, token="s3cret"))
    assert app.test_client().get("/backup").status_code == 401


def test_one_at_a_time(ask: Callable[..., TestResponse]) -> None:
    first = ask("/backup?copy=one")
    assert (ask("/backup?copy=two").status_code, ask("/backup?copy=one").status_code) == (503, 503)
    first.close()
    assert ask("/backup?copy=two").status_code == 200


def test_a_store_that_is_no_file_says_what_to_do() -> None:
    app = Flask("other")
    errors.install(app)
    app.register_blueprint(route.blueprint(None))
    reply = app.test_client().get("/backup")
    assert reply.status_code == 400
    assert "pg_dump" in reply.json["message"]


def test_no_copy_fills_the_disk(ask: Callable[..., TestResponse], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=copies.SPARE_BYTES))
    reply = ask()
    assert (reply.status_code, reply.json["code"]) == (507, "storage_full")
    assert "too full for a copy" in reply.json["message"]
    monkeypatch.undo()
    assert ask().status_code == 200


def test_a_disk_that_fills_up_meanwhile(store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> str:
        raise apsw.FullError("database or disk is full")

    monkeypatch.setattr(backup, "copy", full)
    made = Copies(store.path, lambda: False)
    with pytest.raises(StorageFull):
        made.ask("one", 10)
    monkeypatch.undo()
    assert taken(made.ask("two", 10))
    assert not [name for name in names(tmp_path) if "copy" in name]


def test_nobody_waits_for_a_copy(
    ask: Callable[..., TestResponse], store: SqliteStore, gate: Gate, tmp_path: Path
) -> None:
    """Neither the writer, nor the one who asked: it comes back, and gets the moment at which it first asked."""
    made = Copies(store.path, gate)
    copy = made.ask("one", 0)
    assert gate.reached.wait(10)
    assert copy.take() is None
    add(store, 1)
    with pytest.raises(CopyRuns):
        made.ask("two", 0)
    assert not [name for name in names(tmp_path) if "copy" in name], "its file has no name"
    gate.opened.set()
    (tmp_path / "b").write_bytes(taken(made.ask("one", 10)))
    assert backup.inspect(tmp_path / "b").tasks["pending"] in (50, 51)
    assert copy.over.is_set()


def test_until_it_is_made_the_answer_says_how_far_it_is(
    store: SqliteStore, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Flask("waits")
    errors.install(app)
    app.register_blueprint(route.blueprint(Copies(store.path, gate)))
    monkeypatch.setattr(route, "WAIT_S", 0.0)
    reply = app.test_client().get("/backup?copy=one")
    assert reply.status_code == 202
    assert reply.json["data"] == {"copy": "one", "share": 0.0}
    monkeypatch.undo()
    gate.opened.set()
    whole = app.test_client().get("/backup?copy=one")
    assert whole.status_code == 200
    assert len(whole.data) == whole.content_length


def test_a_copy_that_nobody_asks_for_any_more_is_given_up(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "PATIENCE_S", 0.0)
    made = Copies(store.path, lambda: False)
    with pytest.raises(Unavailable, match="nobody asked"):
        made.ask("one", 10)
    monkeypatch.undo()
    assert taken(made.ask("two", 10))


def test_a_copy_that_nobody_fetches_is_dropped(store: SqliteStore, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies.Copy, "_go_on", lambda self, share, path: path.unlink(missing_ok=True))
    monkeypatch.setattr(copies, "PATIENCE_S", 0.0)
    made = Copies(store.path, lambda: False)
    copy = made.ask("one", 10)
    wait_until(copy.over.is_set, "the copy to be dropped")
    monkeypatch.undo()
    assert taken(made.ask("two", 10))


def test_a_dispatcher_that_stops_makes_no_copy(store: SqliteStore, gate: Gate) -> None:
    gate.stopping = True
    gate.opened.set()
    with pytest.raises(Unavailable, match="stopping"):
        Copies(store.path, gate).ask("one", 10)


def test_causes_are_told_like_those_that_they_are() -> None:
    assert (NoRoom().status, NoRoom().code, CopyRuns().code) == (507, "storage_full", "unavailable")
