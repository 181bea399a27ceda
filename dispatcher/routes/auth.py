"""Who may ask, and who may change: a bearer token (or, in a browser, the cookie that a login with it gave), checked
before the body is read; and no browser page of another origin.

Two tokens: DISPATCHER_TOKEN may do everything, DISPATCHER_READ_TOKEN may look. A cookie holds no token but a promise
signed with it, for a month; with a cookie only requests that carry our own header change anything, which no foreign
page can send. Without a token only loopback addresses are bound; then the Host header must name this machine, so that
no page in a browser reaches the dispatcher by a name of its own (DNS rebinding).
"""

import hmac
import time
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlsplit

from flask import Flask, Response, g, redirect, request
from werkzeug.wsgi import get_host

from dispatcher.config import is_loopback
from dispatcher.errors import Forbidden, ReadOnly, TooManyGuesses, Unauthorized
from dispatcher.routes.guesses import Guesses

Environ = dict[str, Any]  # of a WSGI request: each passes here, and Flask's objects for its headers cost much more

OPEN_PATHS = frozenset({"/health"})
LOGIN, LOGOUT = "/ui/login", "/ui/logout"
OPEN_PAGES = (LOGIN, "/ui/static/")  # what shows the login itself
COOKIE, HEADER = "taskmill", "X-Taskmill"
SESSION_S = 30 * 86400
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
LOOKS = frozenset({"/wait-tasks"})  # a POST for the length of its list: it changes nothing
FULL, READ = "full", "read"
NO_LINKS = frozenset({"/backup", "/integrity"})  # which cost much, for nobody who was merely led here
NOT_FOR_READERS = NO_LINKS  # nor for readers; what is in the file is more than what is shown, too


class Gate:
    """The tokens, and what comes with them; `local_only` where there is none, and only this machine is answered."""

    def __init__(self, token: str, read_token: str = "", local_only: bool = False) -> None:
        self._tokens = {FULL: token.encode(), READ: read_token.encode()}
        self._guesses, self._local_only = Guesses(), local_only

    def of_token(self, given: bytes) -> str | None:
        """What a token allows; compared on bytes, in constant time."""
        if hmac.compare_digest(given, self._tokens[FULL]):
            return FULL
        return READ if self._tokens[READ] and hmac.compare_digest(given, self._tokens[READ]) else None

    def of_shown(self, given: bytes, address: str) -> str | None:
        """What the token allows that a request from there shows. Raises TooManyGuesses."""
        self._guesses.let(address)
        access = self.of_token(given)
        (self._guesses.was_right if access else self._guesses.was_wrong)(address)
        return access

    def of_header(self, asked: Environ) -> str | None:
        """What a request's Authorization header allows; everything where no token is set. Raises TooManyGuesses."""
        if not self._tokens[FULL]:
            return FULL
        given = asked.get("HTTP_AUTHORIZATION", "").encode("utf-8", "surrogateescape")
        scheme, blank, token = given.partition(b" ")
        return self.of_shown(token, asked.get("REMOTE_ADDR") or "") if scheme == b"Bearer" and blank else None

    def refuse_foreign_pages(self, asked: Environ) -> None:
        """Refuse what a page of another site sent, or a name of its own that leads here. Raises Forbidden."""
        if (origin := asked.get("HTTP_ORIGIN")) is not None and _netloc(origin) != get_host(asked):
            raise Forbidden("Origin", "requests of other sites' pages are refused")
        if asked.get("HTTP_SEC_FETCH_SITE") in ("cross-site", "same-site") and not _is_followed_link(asked):
            raise Forbidden("Sec-Fetch-Site", "requests of other sites' pages are refused")
        if self._local_only and not _is_this_machine(asked.get("HTTP_HOST") or get_host(asked)):
            raise Forbidden("Host", "without a token only this machine's own names are answered")

    def let_program(self, asked: Environ) -> None:
        """Let a request change something that no browser sent. Raises what says why not."""
        self.refuse_foreign_pages(asked)
        access = self.of_header(asked)
        if access is None:
            raise Unauthorized
        if access == READ and asked["PATH_INFO"] not in LOOKS:
            raise ReadOnly

    def of_cookie(self) -> str | None:
        """What the cookie allows."""
        access, _, rest = request.cookies.get(COOKIE, "").partition(".")
        until, _, _ = rest.partition(".")
        if not self._tokens.get(access) or not (until.isascii() and until.isdigit() and len(until) < 16):
            return None
        cookie = request.cookies[COOKIE].encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(cookie, self.cookie(access, int(until)).encode()):
            return None
        return access if int(until) > time.time() else None

    def cookie(self, access: str, until: int) -> str:
        """The promise of an access until that second, signed with the token that gave it: so it ends with that token,
        and who holds a reader's cookie has nothing to try guesses of the other token on."""
        said = f"{access}.{until}"
        key = sha256(b"cookie\0" + self._tokens[access]).digest()
        return f"{said}.{hmac.new(key, said.encode(), sha256).hexdigest()}"

    def let_in(self, response: Response, access: str) -> None:
        """Give the cookie."""
        value = self.cookie(access, int(time.time()) + SESSION_S)
        secure = request.is_secure or request.headers.get("Origin", "").startswith("https://")  # by a TLS proxy
        response.set_cookie(COOKIE, value, max_age=SESSION_S, httponly=True, samesite="Strict", secure=secure, path="/")


def install(app: Flask, token: str, local_only: bool, read_token: str = "", read_only: bool = False) -> Gate:
    """Guard every route of the application; with `read_only` browsers change nothing."""
    gate = Gate(token, read_token, local_only and not token)

    @app.before_request
    def guard() -> Response | None:
        gate.refuse_foreign_pages(request.environ)
        is_open = request.path in OPEN_PATHS or request.path.startswith(OPEN_PAGES)
        by_header = _by_header(gate, is_open)
        g.access = by_header or gate.of_cookie()
        if read_only and g.access == FULL and (_is_page() or _from_browser()):
            g.access = READ
        if is_open:
            return None
        if g.access is None:
            return _to_login()
        _refuse_changes(g.access, by_cookie=by_header is None)
        return None

    return gate


def _by_header(gate: Gate, is_open: bool) -> str | None:
    try:
        return gate.of_header(request.environ)
    except TooManyGuesses:
        if is_open:  # says so little that it is not held up
            return None
        raise


def details_allowed() -> bool:
    """Whether the present request may be told more than that the dispatcher is there."""
    return g.get("access") is not None


def may_change() -> bool:
    """Whether the present request may change anything, for templates."""
    return bool(g.get("access") == FULL)


def _to_login() -> Response:
    """A page sends its reader to the login; everything else is told 401."""
    if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
        there = request.full_path.rstrip("?")
        return redirect(f"{LOGIN}?next={quote(there, safe='/')}", 303)  # type: ignore[return-value]
    raise Unauthorized


def _is_page() -> bool:
    """Whether a page is asked for, which over plain HTTP no header tells."""
    return request.path == "/" or request.path.startswith("/ui/")


def _from_browser() -> bool:
    """Whether a page sent this: every browser says so, and nobody else."""
    return any(name in request.headers for name in ("Sec-Fetch-Site", "Origin", HEADER)) or COOKIE in request.cookies


def _refuse_changes(access: str, by_cookie: bool) -> None:
    harmless = request.method in SAFE or request.path == LOGOUT or request.path in LOOKS
    if access == READ and (not harmless or request.path in NOT_FOR_READERS):
        raise ReadOnly
    if by_cookie and request.method not in SAFE and HEADER not in request.headers:
        raise Forbidden(HEADER, "is required where a cookie says who asks")


def _is_followed_link(asked: Environ) -> bool:
    """Whether a browser goes here with its whole window, and does not load us into another page."""
    whole = asked.get("HTTP_SEC_FETCH_MODE"), asked.get("HTTP_SEC_FETCH_DEST")
    path = "/" + asked["PATH_INFO"].lstrip("/")  # as it is routed
    return asked["REQUEST_METHOD"] == "GET" and whole == ("navigate", "document") and path not in NO_LINKS


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # like http://[x
        return None


@lru_cache(64)
def _is_this_machine(host: str) -> bool:
    return is_loopback(_host_name(host))


def _host_name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].lower()
