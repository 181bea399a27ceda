"""Who may ask: one bearer token, checked before the body is read; and no browser page of another origin.

Without a token only loopback addresses are bound; then the Host header must name this machine, so that no page in a
browser reaches the dispatcher by a name of its own (DNS rebinding).
"""

import hmac
from urllib.parse import urlsplit

from flask import Flask, request

from dispatcher.config import is_loopback
from dispatcher.errors import Forbidden, Unauthorized

OPEN_PATHS = frozenset({"/health"})


def install(app: Flask, token: str, local_only: bool) -> None:
    """Guard every route of the application."""
    expected = f"Bearer {token}".encode()

    @app.before_request
    def guard() -> None:
        _refuse_foreign_pages(local_only and not token)
        if token and request.path not in OPEN_PATHS and not is_authorized(expected):
            raise Unauthorized


def is_authorized(expected: bytes) -> bool:
    """Whether the request carries the token; compared on bytes, in constant time."""
    given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
    return hmac.compare_digest(given, expected)


def _refuse_foreign_pages(local_only: bool) -> None:
    origin = request.headers.get("Origin")
    if origin is not None and _netloc(origin) != request.host:
        raise Forbidden("Origin", "requests of other sites' pages are refused")
    if local_only and not is_loopback(_host_name(request.host)):
        raise Forbidden("Host", "without a token only this machine's own names are answered")


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # like http://[x
        return None


def _host_name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].lower()
