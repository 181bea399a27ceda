"""The application factory: wiring only."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from flask import Flask
from werkzeug.routing import Rule

from common.places import module
from dispatcher import dashboard
from dispatcher.config import DispatcherSettings, is_loopback
from dispatcher.errors import NotAFile
from dispatcher.meters import Totals
from dispatcher.move.moves import Moves
from dispatcher.queue import Queue
from dispatcher.routes import (
    attempts,
    auth,
    backup,
    bulk,
    classic,
    control,
    errors,
    events,
    integrity,
    metrics,
    migrate,
    output,
    queues,
    schedules,
    status,
    submit,
    tasks,
    work,
    workers,
)
from dispatcher.routes.api import docs
from dispatcher.routes.direct import Direct
from dispatcher.store.sqlite import SqliteStore
from dispatcher.store.sqlite.copies import Copies, Copy
from dispatcher.store.sqlite.integrity import Examiner, Look

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

NOT_STORED = [("Cache-Control", "no-store")]


def create_app(queue: Queue, settings: DispatcherSettings, moves: Moves | None = None) -> Flask:
    """The HTTP face of a queue."""
    app = Flask(module("dispatcher"), static_folder=None)
    app.url_rule_class = _Matched
    app.url_map.merge_slashes = False  # a path is right or wrong; nothing is redirected
    errors.install(app)
    requests = Totals()
    direct = Direct(requests)
    local = is_loopback(settings.host)
    gate = auth.install(app, settings.token, local, settings.read_token, settings.dashboard_read_only)
    for views in (
        submit.blueprint(queue, direct),
        classic.blueprint(queue, settings.result_max_bytes),
        work.blueprint(queue, settings.result_max_bytes, direct),
        work.upload_blueprint(queue, settings),
        tasks.blueprint(queue, direct),
        output.blueprint(queue),
        events.blueprint(queue),
        control.blueprint(queue),
        workers.blueprint(queue),
        bulk.blueprint(queue, settings.retention_ms),
        queues.blueprint(queue),
        schedules.blueprint(queue),
        attempts.blueprint(queue),
        backup.blueprint(_copies(queue)),
        integrity.blueprint(_examiner(queue)),
        migrate.blueprint(moves or Moves(queue, settings.database_notify)),
        status.blueprint(queue, auth.details_allowed),
        dashboard.blueprint(queue, gate, bool(settings.token)),
        metrics.blueprint(queue, metrics.count_requests(app, requests)),
        docs.blueprint(),
    ):
        app.register_blueprint(views)

    app.wsgi_app = _hardened(direct.before(app.wsgi_app, gate))  # type: ignore[method-assign,assignment]  # as Flask says
    return app


def _hardened(wsgi: "WSGIApplication") -> "WSGIApplication":
    """Nothing is guessed from a body, no page of another site shows or runs it, and what changes something is not
    stored. Here, for an `after_request` costs each request more than the rest of its headers."""
    always = [("X-Content-Type-Options", "nosniff"), ("Cross-Origin-Resource-Policy", "same-origin")]

    def answer(environ: "WSGIEnvironment", start: "StartResponse") -> "Iterable[bytes]":
        def begin(status: str, headers: list[tuple[str, str]], error: Any = None) -> Any:
            said = environ["REQUEST_METHOD"] == "GET" or any(name == "Cache-Control" for name, _ in headers)
            return start(status, [*headers, *always, *([] if said else NOT_STORED)], error)

        return wsgi(environ, begin)

    return answer


class _Matched(Rule):
    """A rule that is matched and never turned into an address: to compile what would do that, for each of our rules,
    took longer than all else that makes an application."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        return _not_built


def _not_built(*_: object, **__: object) -> NoReturn:
    raise NotImplementedError("no address is made of a rule")


class _Copies(Copies):
    """What `GET /backup` hands out, of a store that is a file, until the queue moves out of it."""

    def __init__(self, queue: Queue, store: SqliteStore) -> None:
        self._queue, self._store = queue, store
        super().__init__(store.path, lambda: queue.draining or queue.store is not store)

    def ask(self, name: str, seconds: float) -> Copy:
        if self._queue.store is not self._store:
            raise NotAFile
        return super().ask(name, seconds)


def _copies(queue: Queue) -> Copies | None:
    return _Copies(queue, queue.store) if isinstance(queue.store, SqliteStore) else None


def _examiner(queue: Queue) -> Callable[[], Look | None] | None:
    """Looks at the store's file, until the queue moves out of it."""
    store = queue.store
    if not isinstance(store, SqliteStore):
        return None
    examiner = Examiner(store.path)
    return lambda: examiner.look() if queue.store is store else None
