"""The one place that maps causes to HTTP."""

import logging
from collections.abc import Mapping
from types import MappingProxyType

from flask import Flask
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge

from dispatcher.config import BODY_LIMIT
from dispatcher.errors import DispatcherError, TooLarge
from dispatcher.routes import show
from dispatcher.routes.show import Reply

log = logging.getLogger("taskmill.http")
MESSAGE = 2048
NO_MORE: Mapping[str, str] = MappingProxyType({})
CODES = {404: "not_found", 405: "method_not_allowed"}


def reply(status: int, code: str, message: str, more: Mapping[str, str] = NO_MORE) -> Reply:
    """An error in our envelope, with more headers; `error` repeats the text for classic clients."""
    message = _sayable(message)
    told = show.plain({"status": "error", "code": code, "message": message, "error": message}, status)
    return told._replace(headers={**told.headers, **more})


def _sayable(message: str) -> str:
    """A message may quote the request: whatever that held, the reply is short and keeps to the JSON profile."""
    text = message.replace("\0", "\\0")
    return text if len(text) <= MESSAGE else f"{text[: MESSAGE // 2]} … {text[-MESSAGE // 2 :]}"


def install(app: Flask) -> None:
    """Every exception of a view becomes a reply."""
    app.register_error_handler(Exception, of)


def of(error: Exception) -> Reply:
    """Any exception as its reply; the unexpected one is logged and says nothing of our insides."""
    if isinstance(error, DispatcherError):
        return ours(error)
    if isinstance(error, RequestEntityTooLarge):
        return ours(TooLarge("request body", None, BODY_LIMIT))
    if isinstance(error, ClientDisconnected):
        return reply(400, "invalid", "the request body ended early")
    if isinstance(error, HTTPException):
        return _http(error)
    log.error("a request failed", exc_info=error)
    return reply(500, "internal", "the dispatcher failed; its log says why")


def ours(error: DispatcherError) -> Reply:
    """A cause as its reply."""
    more = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        more["WWW-Authenticate"] = "Bearer"
    return reply(error.status, error.code, str(error), more)


def _http(error: HTTPException) -> Reply:
    status = error.code or 500
    message = "no such path" if status == 404 else error.description or error.name
    allowed = {name: value for name, value in error.get_headers() if name == "Allow"}
    return reply(status, CODES.get(status, "invalid" if status < 500 else "internal"), message, allowed)
