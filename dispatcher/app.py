"""The application factory: wiring only."""

from flask import Flask, request

from common.places import module
from dispatcher import dashboard
from dispatcher.config import DispatcherSettings, is_loopback
from dispatcher.errors import NotAFile
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
from dispatcher.store.sqlite import SqliteStore
from dispatcher.store.sqlite.copies import Copies, Copy


def create_app(queue: Queue, settings: DispatcherSettings, moves: Moves | None = None) -> Flask:
    """The HTTP face of a queue."""
    app = Flask(module("dispatcher"), static_folder=None)
    app.url_map.merge_slashes = False  # a path is right or wrong; nothing is redirected
    errors.install(app)
    local = is_loopback(settings.host)
    gate = auth.install(app, settings.token, local, settings.read_token, settings.dashboard_read_only)
    for views in (
        submit.blueprint(queue),
        classic.blueprint(queue, settings.result_max_bytes),
        work.blueprint(queue, settings.result_max_bytes),
        work.upload_blueprint(queue, settings),
        tasks.blueprint(queue),
        output.blueprint(queue),
        events.blueprint(queue),
        control.blueprint(queue),
        workers.blueprint(queue),
        bulk.blueprint(queue, settings.retention_ms),
        queues.blueprint(queue),
        schedules.blueprint(queue),
        attempts.blueprint(queue),
        backup.blueprint(_copies(queue)),
        migrate.blueprint(moves or Moves(queue, settings.database_notify)),
        status.blueprint(queue, auth.details_allowed),
        dashboard.blueprint(queue, gate, bool(settings.token)),
        metrics.blueprint(queue, metrics.count_requests(app)),
        docs.blueprint(),
    ):
        app.register_blueprint(views)

    @app.after_request
    def harden(response):  # type: ignore[no-untyped-def]
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"  # no page of another site shows or runs it
        if request.method != "GET":
            response.headers["Cache-Control"] = "no-store"
        return response

    return app


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
