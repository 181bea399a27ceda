"""The application factory: wiring only."""

from flask import Flask, request

from dispatcher.config import DispatcherSettings, is_loopback
from dispatcher.queue import Queue
from dispatcher.routes import auth, backup, classic, control, errors, status, submit, tasks, work
from dispatcher.store.sqlite import SqliteStore
from dispatcher.store.sqlite.copies import Copies


def create_app(queue: Queue, settings: DispatcherSettings) -> Flask:
    """The HTTP face of a queue."""
    app = Flask("dispatcher", static_folder=None)
    app.url_map.merge_slashes = False  # a path is right or wrong; nothing is redirected
    errors.install(app)
    auth.install(app, settings.token, is_loopback(settings.host))
    expected = f"Bearer {settings.token}".encode()
    for views in (
        submit.blueprint(queue),
        classic.blueprint(queue),
        work.blueprint(queue),
        work.upload_blueprint(queue, settings),
        tasks.blueprint(queue),
        control.blueprint(queue),
        backup.blueprint(_copies(queue)),
        status.blueprint(queue, lambda: not settings.token or auth.is_authorized(expected)),
    ):
        app.register_blueprint(views)

    @app.after_request
    def harden(response):  # type: ignore[no-untyped-def]
        response.headers["X-Content-Type-Options"] = "nosniff"
        if request.method != "GET":
            response.headers["Cache-Control"] = "no-store"
        return response

    return app


def _copies(queue: Queue) -> Copies | None:
    """What `GET /backup` hands out, of a store that is a file."""
    return Copies(queue.store.path, lambda: queue.draining) if isinstance(queue.store, SqliteStore) else None
