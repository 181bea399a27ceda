"""The requests that come by the thousand (claims, reports, heartbeats, submits), answered before Flask's machinery.

That costs each request several times what these views do themselves (docs/decisions/0011-direct-requests.md). So a view
of these takes the body as it was sent and returns a Reply. It is a view of Flask's like any other; but where there is
nothing for Flask to do, it is called straight away, past the same gate and under the same errors and counts. Whatever
is unusual goes the long way: another method, a browser's headers, a body of undeclared length.
"""

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Blueprint
from werkzeug.exceptions import ClientDisconnected

from dispatcher.config import BODY_LIMIT
from dispatcher.errors import TooLarge
from dispatcher.meters import Totals
from dispatcher.routes import body, errors
from dispatcher.routes.auth import Environ, Gate
from dispatcher.routes.show import Reply

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

View = Callable[[bytes], Reply]
BROWSERS = ("HTTP_COOKIE", "HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE", "HTTP_X_TASKMILL")  # every one sends some of these
LENGTH = re.compile("[0-9]{1,15}").fullmatch
STATUS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class Direct:
    """These views, by path; what they answer is counted in `totals`."""

    def __init__(self, totals: Totals) -> None:
        self._views: dict[str, View] = {}
        self._totals = totals

    def post(self, views: Blueprint, path: str) -> Callable[[View], View]:
        """Make a function the view of POST requests to a path, in Flask and here."""

        def register(view: View) -> View:
            views.post(path, endpoint=view.__name__)(lambda: view(body.read()))
            self._views[path] = view
            return view

        return register

    def before(self, flask: "WSGIApplication", gate: Gate) -> "WSGIApplication":
        """A WSGI application that answers what it can, and leaves the rest to Flask's."""

        def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
            path = environ["PATH_INFO"]
            view = self._views.get(path)
            if view is None or not _is_usual(environ):
                return flask(environ, start)
            text, status, headers = _reply(view, gate, environ)
            self._totals.add("POST", path, f"{status // 100}xx")
            sent = text.encode()
            start(STATUS[status], [*headers.items(), ("Content-Length", str(len(sent)))])
            return [sent]  # granian sends a list at once, all else piece by piece

        return answer


def _is_usual(asked: Environ) -> bool:
    usual = asked["REQUEST_METHOD"] == "POST" and asked.get("HTTP_HOST") and LENGTH(asked.get("CONTENT_LENGTH", ""))
    return bool(usual) and not any(name in asked for name in BROWSERS)


def _reply(view: View, gate: Gate, asked: Environ) -> Reply:
    try:
        gate.let_program(asked)
        return view(_body(asked))
    except Exception as error:  # each is mapped to its reply, here as in Flask
        return errors.of(error)


def _body(asked: Environ) -> bytes:
    """The whole body. Raises TooLarge and ClientDisconnected."""
    declared = int(asked["CONTENT_LENGTH"])
    if declared > BODY_LIMIT:
        raise TooLarge("request body", declared, BODY_LIMIT)
    sent: bytes = asked["wsgi.input"].read(declared)
    if len(sent) < declared:
        raise ClientDisconnected
    return sent
