"""Access by cookie and by the token of readers, and what browsers may change."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from http_helpers import LOCAL, Api, Reply

from common.settings import SettingError, load
from dispatcher.config import DispatcherSettings, check
from dispatcher.routes.auth import COOKIE, FULL, HEADER, READ, SESSION_S, Gate

TOKEN, READ_TOKEN = "may-do-everything", "may-look"
HTML = {"Accept": "text/html,*/*"}
PAGE = {HEADER: "page"}


@pytest.fixture
def guarded(make_api: Callable[..., Api]) -> Api:
    return make_api(token=TOKEN, read_token=READ_TOKEN, host="0.0.0.0")


def log_in(api: Api, token: str, there: str = "/ui/tasks") -> Reply:
    form = f"token={token}&next={there}"
    return api.ask("POST", "/ui/login", form, headers={"Content-Type": "application/x-www-form-urlencoded"})


def cookie(api: Api, token: str) -> dict[str, str]:
    """The header of a browser that has logged in."""
    told = log_in(api, token).headers["Set-Cookie"]
    return {"Cookie": told.partition(";")[0]}


def test_pages_send_strangers_to_the_login_and_programs_get_401(guarded: Api) -> None:
    for path in ("/", "/ui/tasks?q=status:failed", "/ui/task/1", "/nothing"):
        reply = guarded.ask("GET", path, headers=HTML)
        assert reply.status == 303
        assert reply.headers["Location"].startswith("/ui/login?next=/")
        assert guarded.ask("GET", path, headers={}).status == 401
        assert guarded.ask("POST", path, headers=HTML).status == 401


def test_a_login_gives_a_cookie_that_holds_no_token(guarded: Api) -> None:
    reply = log_in(guarded, TOKEN)
    assert (reply.status, reply.headers["Location"]) == (303, "/ui/tasks")
    told = reply.headers["Set-Cookie"]
    assert re.search(r"; HttpOnly", told)
    assert re.search(r"; SameSite=Strict", told)
    assert TOKEN not in told
    assert guarded.ask("GET", "/ui/tasks", headers=cookie(guarded, TOKEN)).status == 200


@pytest.mark.parametrize(
    "there", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:1", "", "/a%0d%0ab"]
)
def test_a_login_leads_nowhere_else(guarded: Api, there: str) -> None:
    assert log_in(guarded, TOKEN, there).headers["Location"] == "/"


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "%C3%A9", "x" * 3000])
def test_a_wrong_token_lets_nobody_in(guarded: Api, token: str) -> None:
    reply = log_in(guarded, token)
    assert reply.status == 401
    assert "Set-Cookie" not in reply.headers


def test_a_login_of_a_great_size_is_refused(guarded: Api) -> None:
    assert log_in(guarded, "x" * 100_000).status in (400, 413)


def test_with_a_cookie_changes_need_the_header_of_our_pages(guarded: Api) -> None:
    headers = cookie(guarded, TOKEN)
    task = {"task_type": "noop"}
    assert guarded.ask("POST", "/submit-task", task, headers=headers).status == 403
    assert guarded.ask("POST", "/submit-task", task, headers={**headers, **PAGE}).status == 201
    foreign = {**headers, **PAGE, "Origin": "http://evil.example"}
    assert guarded.ask("POST", "/submit-task", task, headers=foreign).status == 403
    assert guarded.ask("GET", "/stats", headers=headers).status == 200


FORGED: list[Callable[[str], str]] = [
    lambda good: good[:-1] + ("0" if good[-1] != "0" else "1"),
    lambda good: good.replace(READ, FULL, 1),
    lambda good: re.sub(r"\.\d+\.", f".{int(time.time()) + 10 * SESSION_S}.", good),
    lambda good: f"{FULL}.{10**15}.{'0' * 64}",
    lambda good: f"{FULL}.\u0661.x",
    lambda good: "..",
    lambda good: "",
    lambda good: READ_TOKEN,
]


@pytest.mark.parametrize("forge", FORGED)
def test_forged_cookies_are_none(guarded: Api, forge: Callable[[str], str]) -> None:
    good = cookie(guarded, READ_TOKEN)["Cookie"].partition("=")[2]
    assert guarded.ask("GET", "/stats", headers={"Cookie": f"{COOKIE}={good}"}).status == 200
    bad = forge(good).encode().decode("latin-1")
    assert guarded.ask("GET", "/stats", headers={"Cookie": f"{COOKIE}={bad}"}).status == 401


def test_cookies_end_with_their_time_and_with_their_token(guarded: Api) -> None:
    old = Gate(TOKEN, READ_TOKEN).cookie(FULL, int(time.time()) - 1)
    other = Gate("another", READ_TOKEN).cookie(FULL, int(time.time()) + 100)
    for value in (old, other):
        assert guarded.ask("GET", "/stats", headers={"Cookie": f"{COOKIE}={value}"}).status == 401


@pytest.mark.parametrize("by", ["header", "cookie"])
def test_who_may_look_changes_nothing(guarded: Api, by: str) -> None:
    guarded.submit()
    headers: dict[str, Any] = (
        {"Authorization": f"Bearer {READ_TOKEN}"} if by == "header" else cookie(guarded, READ_TOKEN)
    )
    headers |= PAGE
    for path in ("/stats", "/tasks", "/task/1", "/health", "/ui/task/1", "/"):
        assert guarded.ask("GET", path, headers=headers).status == 200
    before = guarded.version()
    for rule in guarded.app.url_map.iter_rules():
        path = re.sub(r"<any[^>]+>", "cancel", rule.rule)
        path = re.sub(r"<[^>]+>", "1", path)
        for method in (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}:
            if path != "/wait-tasks" and not path.startswith("/ui/log"):  # in and out
                assert guarded.ask(method, path, {}, headers=headers).status == 403, (method, path)
    assert guarded.ask("POST", "/wait-tasks", {"task_ids": [1]}, headers=headers).data == {"tasks": [], "open": 1}
    for path in ("/backup", "/integrity"):
        assert guarded.ask("GET", path, headers=headers).status == 403
    assert guarded.version() == before


def test_who_may_look_logs_out(guarded: Api) -> None:
    headers = cookie(guarded, READ_TOKEN)
    assert guarded.ask("POST", "/ui/logout", headers=headers).status == 403  # another site's page could send that
    reply = guarded.ask("POST", "/ui/logout", headers={**headers, **PAGE})
    assert reply.status == 200
    assert reply.headers["Set-Cookie"].startswith(f"{COOKIE}=;")


def test_a_readers_cookie_has_nothing_to_guess_the_other_token_on() -> None:
    until = int(time.time()) + 100
    assert Gate("a", READ_TOKEN).cookie(READ, until) == Gate("b", READ_TOKEN).cookie(READ, until)
    assert Gate("a", READ_TOKEN).cookie(FULL, until) != Gate("b", READ_TOKEN).cookie(FULL, until)


def test_without_a_readers_token_there_is_no_readers_cookie(make_api: Callable[..., Api]) -> None:
    api = make_api(token=TOKEN, host="0.0.0.0")
    forged = Gate("any", "").cookie(READ, int(time.time()) + 100)
    assert api.ask("GET", "/stats", headers={"Cookie": f"{COOKIE}={forged}"}).status == 401


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_behind_a_tls_proxy_the_cookie_is_for_tls_alone(guarded: Api, scheme: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": LOCAL.replace("http", scheme)}
    reply = guarded.ask("POST", "/ui/login", f"token={TOKEN}", headers=form)
    assert ("; Secure" in reply.headers["Set-Cookie"]) == (scheme == "https")


FOREIGN = [
    ("GET", "/backup", "navigate", "document"), ("GET", "/events", "no-cors", "image"),
    ("GET", "/stats", "cors", "empty"),
    ("GET", "/task/1/result", "no-cors", "script"), ("GET", "/ui/tasks", "navigate", "iframe"),
    ("POST", "/submit-task", "navigate", "document"),
]  # fmt: skip


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(("method", "path", "mode", "dest"), FOREIGN)
def test_a_page_of_another_site_steers_nothing_even_without_origin(
    api: Api, site: str, method: str, path: str, mode: str, dest: str
) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    assert api.ask(method, path, {"task_type": "noop"} if method == "POST" else None, headers=headers).status == 403


def test_a_link_with_a_slash_too_many_leads_no_further(api: Api) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for path in ("//backup", "///integrity"):
        assert api.ask("GET", "/x", headers=headers, environ_overrides={"PATH_INFO": path}).status == 403


def test_a_link_of_another_site_is_followed(api: Api) -> None:
    api.submit()
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    reply = api.ask("GET", "/ui/task/1", headers=headers)
    assert reply.status == 200
    assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_dashboard_to_look_at_changes_nothing_for_browsers_alone(make_api: Callable[..., Api]) -> None:
    api = make_api(dashboard_read_only=True)
    task = {"task_type": "noop"}
    for header in ({HEADER: "page"}, {"Origin": LOCAL}, {"Sec-Fetch-Site": "same-origin"}):
        assert api.ask("POST", "/submit-task", task, headers=header).status == 403
    assert api.post("/submit-task", task).status == 201
    for said in ({"Sec-Fetch-Site": "none"}, {}):  # over plain HTTP a browser says nothing
        page = api.ask("GET", "/ui/task/1", headers={**HTML, **said})
        assert page.status == 200
        assert b"data-url" not in page.body


def test_pages_carry_a_strict_policy(api: Api) -> None:
    for path in ("/", "/ui/tasks", "/ui/login", "/ui/static/live.js", "/ui/task/9"):
        headers = api.ask("GET", path, headers=HTML).headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_no_page_has_inline_script_or_style_or_goes_elsewhere(api: Api) -> None:
    api.submit()
    for path in (
        "/",
        "/ui/tasks",
        "/ui/workers",
        "/ui/queues",
        "/ui/schedules",
        "/ui/submit",
        "/ui/login",
        "/ui/task/1",
    ):
        text = api.get(path).body.decode()
        assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|javascript:", text), path
        assert not re.search(r"""(src|href)=["'](https?:)?//""", text), path


def test_settings_of_tokens_are_checked() -> None:
    for values, reason in (
        ({"DISPATCHER_READ_TOKEN": "x"}, "without DISPATCHER_TOKEN"),
        ({"DISPATCHER_READ_TOKEN": "x", "DISPATCHER_TOKEN": "x"}, "must not be DISPATCHER_TOKEN"),
        ({"DISPATCHER_READ_TOKEN": "x y", "DISPATCHER_TOKEN": "x"}, "printable ASCII"),
    ):
        with pytest.raises(SettingError, match=reason):
            check(load(DispatcherSettings, values), insecure=False)
