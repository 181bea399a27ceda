"""The one place that maps causes to HTTP."""

import logging

from flask import Flask, Response
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge

from dispatcher.config import BODY_LIMIT
from dispatcher.errors import DispatcherError, TooLarge
from dispatcher.routes import show

log = logging.getLogger("taskmill.http")
MESSAGE = 2048
CODES = {404: "not_found", 405: "method_not_allowed"}


def reply(status: int, code: str, message: str, retry_after: int | None = None) -> Response:
    """An error in our envelope; `error` repeats the text for classic clients."""
    message = _sayable(message)
    response = show.plain({"status": "error", "code": code, "message": message, "error": message}, status)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response


def _sayable(message: str) -> str:
    """A message may quote the request: whatever that held, the reply is short and keeps to the JSON profile."""
    text = message.replace("\0", "\\0")
    return text if len(text) <= MESSAGE else f"{text[: MESSAGE // 2]} … {text[-MESSAGE // 2 :]}"


def install(app: Flask) -> None:
    """Every exception of a view becomes a reply; the unexpected one is logged and says nothing of our insides."""
    app.register_error_handler(DispatcherError, ours)
    app.register_error_handler(RequestEntityTooLarge, lambda _: ours(TooLarge("request body", None, BODY_LIMIT)))
    app.register_error_handler(ClientDisconnected, lambda _: reply(400, "invalid", "the request body ended early"))
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def ours(error: DispatcherError) -> Response:
    """A cause as its reply."""
    response = reply(error.status, error.code, str(error), error.retry_after)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    message = "no such path" if status == 404 else error.description or error.name
    response = reply(status, CODES.get(status, "invalid" if status < 500 else "internal"), message)
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


def _unexpected(error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return reply(500, "internal", "the dispatcher failed; its log says why")
