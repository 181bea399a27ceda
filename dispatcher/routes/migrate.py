"""`/migrate`: the queue moves into a database, while it goes on (docs/moving.md)."""

from collections.abc import Mapping
from typing import Any, Protocol

from flask import Blueprint

from dispatcher.errors import NotFound
from dispatcher.routes import body, show
from dispatcher.routes.models import Migrate


class Moves(Protocol):
    """Who moves."""

    def begin(self, to: str, source: str | None, dry_run: bool) -> None:
        """Start a move, unless this very one runs already."""

    def told(self) -> Mapping[str, Any] | None:
        """How the present move stands, or the last one."""


def blueprint(moves: Moves) -> Blueprint:
    """The views."""
    views = Blueprint("migrate", __name__)

    @views.post("/migrate")
    def begin_move() -> show.Reply:
        asked = body.parse(Migrate)
        moves.begin(asked.to, asked.source, asked.dry_run)
        return show.success(moves.told() or {}, 202)

    @views.get("/migrate")
    def get_move() -> show.Reply:
        body.known_arguments()
        told = moves.told()
        if told is None:
            raise NotFound("a move")
        return show.success(told)

    return views
