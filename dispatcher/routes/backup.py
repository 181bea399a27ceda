"""`GET /backup`: a consistent copy of the database, made while the queue goes on.

Nobody may keep a request waiting for as long as the copy of a large database takes. So a copy has a name, which its
taker chose: while it is being made the answer is 202 with the share that is done, and asking again under the same name
goes on waiting.
"""

import secrets
from collections.abc import Iterator
from typing import Protocol

from flask import Blueprint, Response, request
from werkzeug.exceptions import MethodNotAllowed

from dispatcher.errors import NotAFile
from dispatcher.routes import body, show

WAIT_S = 20.0


class Copy(Protocol):
    """One copy on its way."""

    name: str
    share: float
    size: int
    sha256: str

    def take(self) -> Iterator[bytes] | None:
        """Its bytes, once it is made."""

    def close(self) -> None:
        """Let go of it."""


class Copies(Protocol):
    """Where copies come from."""

    def ask(self, name: str, seconds: float) -> Copy:
        """The copy of that name, waited for."""


def blueprint(copies: Copies | None) -> Blueprint:
    """The view; without copies (a store that is no file) it says what to do instead."""
    views = Blueprint("backup", __name__)

    @views.get("/backup")
    def get_backup() -> Response | show.Reply:
        if request.method == "HEAD":
            raise MethodNotAllowed(["GET"])  # nobody makes a copy to tell its size
        body.known_arguments("copy")
        if copies is None:
            raise NotAFile
        name = body.name("copy", request.args.get("copy", secrets.token_hex(8)))
        copy = copies.ask(name, WAIT_S)
        pieces = copy.take()
        if pieces is None:
            return show.success({"copy": copy.name, "share": round(copy.share, 3)}, 202, "the copy is being made")
        return _download(copy, pieces)

    return views


def _download(copy: Copy, pieces: Iterator[bytes]) -> Response:
    headers = {"Content-Length": str(copy.size), "Taskmill-Sha256": copy.sha256, "Cache-Control": "no-store"}
    response = Response(pieces, content_type="application/vnd.sqlite3", headers=headers)
    response.call_on_close(copy.close)  # also when the client has gone away
    return response
