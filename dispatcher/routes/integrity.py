"""`GET /integrity`: whether the database file is whole, looked at while the queue goes on."""

from collections.abc import Callable

from flask import Blueprint

from dispatcher.errors import NotAFile
from dispatcher.routes import body, show

Found = tuple[str | None, float]  # `ok`, the first fault, or None when not all was read; seconds


def blueprint(look: Callable[[], Found | None] | None) -> Blueprint:
    """The view; None, now or later, stands for a store that is no file."""
    views = Blueprint("integrity", __name__)

    @views.get("/integrity")
    def get_integrity() -> show.Reply:
        body.known_arguments()
        seen = look() if look is not None else None
        if seen is None:
            raise NotAFile("its database looks after that itself")
        found, seconds = seen
        whole = None if found is None else found == "ok"
        told = "not read to its end" if found is None else found
        return show.success({"whole": whole, "found": told, "seconds": round(seconds, 3)})

    return views
