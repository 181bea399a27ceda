"""The pages under one roof: their security headers, what every template may use, and the page of an error."""

from typing import Any

from flask import Blueprint, Response, make_response, render_template, request

from dispatcher.dashboard import form, login, one, overview, queues, tasks, words, workers
from dispatcher.errors import DispatcherError
from dispatcher.queue import Queue
from dispatcher.routes import auth, errors, show

POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
        "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin", "Cache-Control": "no-store",
           "Cross-Origin-Opener-Policy": "same-origin"}  # fmt: skip


def blueprint(queue: Queue, gate: auth.Gate, guarded: bool) -> Blueprint:
    """All pages; `guarded`: there is a token, so that one can log out."""
    views = Blueprint("dashboard", __name__, template_folder="templates", static_folder="static",
                      static_url_path="/ui/static")  # fmt: skip
    for part in (overview, tasks, one, workers, queues, form):
        part.add(views, queue)
    login.add(views, gate)
    _add_filters(views, queue)

    @views.context_processor
    def common() -> dict[str, Any]:
        return {"may_change": auth.may_change(), "guarded": guarded, "now": queue.now().wall}

    @views.errorhandler(DispatcherError)
    def refused(error: DispatcherError) -> Response | show.Reply:
        if "text/html" not in request.headers.get("Accept", ""):
            return errors.ours(error)
        return make_response(render_template("error.html", error=error), error.status)

    views.after_request(_harden)
    return views


def _add_filters(views: Blueprint, queue: Queue) -> None:
    views.app_template_filter("ago")(lambda ms: words.ago(ms, queue.now().wall))
    for name in ("duration", "number", "moment", "share", "size", "state_word", "order_word"):
        views.app_template_filter(name)(getattr(words, name))


def _harden(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.path.startswith("/ui/static/"):
        response.headers["Cache-Control"] = "no-cache"  # asked for again each time, and answered 304
    return response
