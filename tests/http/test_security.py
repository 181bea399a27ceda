"""Who is let in, and what strangers learn: the token, browser pages, the start, replies, logs (faults.md S1 to S19)."""

import contextlib
import logging
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from http_helpers import LOCAL, Api, Process

from common.settings import SettingError, load
from dispatcher import __main__ as program
from dispatcher.config import DispatcherSettings, check

TOKEN = "s3cret-T0ken.with_64~chars"
UNAUTHORIZED = {
    "status": "error",
    "code": "unauthorized",
    "message": "a valid bearer token is required (setting DISPATCHER_TOKEN)",
    "error": "a valid bearer token is required (setting DISPATCHER_TOKEN)",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "ODD")
WRONG = {
    "none": {},
    "empty": {"Authorization": ""},
    "blank": {"Authorization": " "},
    "scheme alone": {"Authorization": "Bearer"},
    "empty token": {"Authorization": "Bearer "},
    "another": {"Authorization": "Bearer wrong"},
    "token alone": {"Authorization": TOKEN},
    "lower-case scheme": {"Authorization": f"bearer {TOKEN}"},
    "basic": {"Authorization": f"Basic {TOKEN}"},
    "prefix": {"Authorization": f"Bearer {TOKEN[:-1]}"},
    "longer": {"Authorization": f"Bearer {TOKEN}x"},
    "upper case": {"Authorization": f"Bearer {TOKEN.upper()}"},
    "two blanks": {"Authorization": f"Bearer  {TOKEN}"},
    "twice": {"Authorization": f"Bearer {TOKEN}, Bearer {TOKEN}"},
    "quoted": {"Authorization": f'Bearer "{TOKEN}"'},
    "not ASCII": {"Authorization": f"Bearer {TOKEN}é"},
    "odd bytes": {"Authorization": "Bearer \x80\xff"},
    "a megabyte": {"Authorization": "Bearer " + "x" * 2**20},
    "cookie": {"Cookie": f"token={TOKEN}; Authorization=Bearer {TOKEN}"},
    "another header": {"X-Authorization": f"Bearer {TOKEN}", "Proxy-Authorization": f"Bearer {TOKEN}"},
}


class Untouched:
    """A body that nobody may read before the token was checked."""

    def read(self, _size: int = -1) -> bytes:
        raise AssertionError("the body was read")

    readline = readlines = __iter__ = read


@pytest.fixture
def guarded(make_api: Callable[..., Api]) -> Api:
    return make_api(token=TOKEN, host="0.0.0.0")


def every_path(api: Api) -> list[str]:
    rules = {re.sub(r"<[^>]+>", "1", rule.rule) for rule in api.app.url_map.iter_rules()}
    return sorted(rules - {"/health", "/ui/login", "/ui/static/1"})


# -- the token --


@pytest.mark.parametrize("name", WRONG)
def test_every_route_and_method_needs_the_token(guarded: Api, name: str) -> None:
    paths = [*every_path(guarded), "/nothing", "/", "//health", "/health/", "/health/x", "/HEALTH", "/health%00"]
    assert len(paths) > 20
    assert guarded.get("/stats").status == 200  # else so many wrong tokens would be held up
    before = guarded.version()
    body = {"wsgi.input": Untouched(), "CONTENT_LENGTH": "7"}
    for path in paths:
        for method in METHODS if name in ("none", "prefix") else ("GET", "POST"):
            reply = guarded.ask(method, path, headers=WRONG[name], environ_overrides=body)
            assert reply.status == 401, (method, path)
            assert reply.headers["WWW-Authenticate"] == "Bearer"
            assert method == "HEAD" or reply.json == UNAUTHORIZED
            assert "Allow" not in reply.headers
    assert guarded.version() == before


def test_the_token_in_a_query_does_not_count(guarded: Api) -> None:
    for name in ("token", "access_token", "Authorization"):
        assert guarded.ask("GET", "/stats", headers={}, query_string={name: TOKEN}).status == 401


def test_with_the_token_everything_works(guarded: Api) -> None:
    lease = guarded.lease()
    assert guarded.verdicts(guarded.outcome(lease["lease_id"])) == ["accepted"]
    for path in ("/stats", "/tasks", "/task/1", "/task/1/result", "/openapi.json", "/health"):
        assert guarded.get(path).status == 200


def test_health_is_open_and_tells_strangers_nothing(guarded: Api) -> None:
    for headers in ({}, WRONG["another"], WRONG["not ASCII"]):
        reply = guarded.ask("GET", "/health", headers=headers)
        assert reply.json == {"status": "healthy", "service": "dispatcher"}
        assert guarded.ask("GET", "/health?ready=1", headers=headers).status == 200
    told = guarded.get("/health").json
    assert {"version", "store_id", "sqlite_version", "uptime_seconds", "ready"} <= told.keys()


def test_without_a_token_none_is_needed(api: Api) -> None:
    assert api.ask("GET", "/stats", headers=WRONG["another"]).status == 200


# -- browsers --


STRANGE_ORIGINS = [
    "http://evil.example", "https://evil.example:5000", "null", "", "http://127.0.0.1:5001", "http://localhost:5000",
    "http://127.0.0.1:5000.evil.example", "http://127.0.0.1:5000@evil.example", "http://user@127.0.0.1:5000", "http://[",
    "http://[::1", "127.0.0.1:5000", "file://", "http://127.0.0.1:5000, http://127.0.0.1:5000",
]  # fmt: skip


@pytest.mark.parametrize("token", ["", TOKEN])
def test_pages_of_other_origins_are_refused(make_api: Callable[..., Api], token: str) -> None:
    api = make_api(token=token)
    before = api.version()
    for origin in STRANGE_ORIGINS:
        for path in ("/submit-task", "/cancel-tasks", "/heartbeat"):
            body = {"task_type": "noop", "worker_id": "w"}
            reply = api.post(path, body, headers={**api.headers, "Origin": origin}, content_type="text/plain")
            assert (reply.status, reply.json["code"]) == (403, "forbidden"), origin
            assert reply.fault.startswith("Origin: ")
        assert api.ask("GET", "/stats", headers={**api.headers, "Origin": origin}).status == 403
    assert api.version() == before


def test_a_page_of_the_dispatcher_itself_is_served_and_no_other_may_read_it(api: Api) -> None:
    reply = api.ask("GET", "/stats", headers={"Origin": LOCAL})
    assert reply.status == 200
    preflight = api.ask("OPTIONS", "/submit-task", headers={"Access-Control-Request-Method": "POST"})
    for answer in (reply, preflight):
        assert not [name for name, _ in answer.headers.items() if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:5000", "localhost:5000", "LOCALHOST", "[::1]:5000", "127.9.9.9"]
)
def test_names_of_this_machine_are_answered(api: Api, host: str) -> None:
    assert api.ask("GET", "/stats", headers={"Host": host}).status == 200


STRANGE_HOSTS = [
    "evil.example", "evil.example:5000", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0",
    "[::2]", "[", "]", "a b", "", "localhost@evil.example", "2130706433", "127.0.0.1, evil.example",
]  # fmt: skip


def test_other_names_are_refused_without_a_token(api: Api, guarded: Api) -> None:
    """A page in a browser whose own name was made to lead here (DNS rebinding)."""
    for host in STRANGE_HOSTS:
        named = {"environ_overrides": {"HTTP_HOST": host}}
        for path in ("/stats", "/health"):
            reply = api.ask("GET", path, **named)
            assert reply.status == 403, host
            assert reply.fault.startswith("Host: ")
        assert guarded.ask("GET", "/stats", **named).status == 200
        assert guarded.ask("GET", "/stats", headers={}, **named).status == 401


def test_forwarded_names_do_not_count(api: Api) -> None:
    headers = {"X-Forwarded-Host": "localhost", "X-Forwarded-For": "127.0.0.1", "Forwarded": "host=localhost"}
    assert api.ask("GET", "/stats", headers=headers, environ_overrides={"HTTP_HOST": "evil.example"}).status == 403


# -- replies --


def test_a_failure_says_nothing_of_our_insides(api: Api, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the secret /path/to/insides")

    for name in ("submitted", "task", "claim"):
        monkeypatch.setattr(api.queue, name, fail)
    asked = {"worker_id": "w", "instance_id": "i", "request_id": 1, "max_tasks": 1}
    with caplog.at_level(logging.ERROR):
        replies = [
            api.post("/submit-task", {"task_type": "noop"}),
            api.get("/task/1"),
            api.post("/get-tasks", asked),
        ]
    for reply in replies:
        assert reply.status == 500
        assert reply.json == {
            "status": "error",
            "code": "internal",
            "message": "the dispatcher failed; its log says why",
            "error": "the dispatcher failed; its log says why",
        }
        assert b"Traceback" not in reply.body
    assert caplog.text.count("RuntimeError: the secret /path/to/insides") == 3


def test_every_reply_is_of_one_kind_and_names_no_software(guarded: Api) -> None:
    guarded.submit()
    asked = [("GET", "/stats"), ("GET", "/task/1"), ("GET", "/nothing"), ("PUT", "/stats"), ("POST", "/submit-task"),
             ("GET", "/task/x"), ("GET", "/tasks?limit=0"), ("GET", "/health"), ("GET", "/task/1/result")]  # fmt: skip
    for method, path in asked:
        for headers in (guarded.headers, {}):
            reply = guarded.ask(method, path, headers=headers)
            assert reply.headers["Content-Type"] == "application/json"
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            named = " ".join(f"{name}: {value}" for name, value in reply.headers.items()).lower()
            assert not re.search(r"server|powered|werkzeug|flask|python|granian|cookie|etag", named)


def test_no_debugger_is_there(guarded: Api) -> None:
    assert not guarded.app.debug
    assert guarded.app.static_folder is None
    for path in ("/console", "/none?__debugger__=yes&cmd=resource&f=style.css", "/static/../dispatcher/app.py"):
        assert guarded.get(path).status == 404


def test_a_schema_is_never_fetched(api: Api) -> None:
    """S15: a published schema may name an address; the dispatcher does not go there."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/schema"
        references = [address, "file:///etc/passwd", "https://example.invalid/x"]
        schemas: dict[str, Any] = {f"t{n}": {"$ref": reference} for n, reference in enumerate(references)}
        schemas["t9"] = {"$schema": address, "type": "object"}
        api.beat(1, register={"task_types": schemas})
        assert all(api.submit(name, task_data={"a": 1}) for name in schemas)
        with pytest.raises(BlockingIOError):
            trap.accept()


def test_what_callers_send_makes_no_lines_in_the_log(api: Api, caplog: Any) -> None:
    """S17: one event, one line."""
    lines = "a\r\nERROR forged: all is well\x1b[31m"
    with caplog.at_level(logging.DEBUG, "taskmill"):
        api.beat(1, register={"task_types": {"t": {"type": lines, "$ref": lines, lines: 1, "pattern": f"({lines}"}}})
        api.ask("GET", "/tasks", query_string={lines: lines})
        api.post("/submit-task", {lines: lines})
    assert caplog.records
    for record in caplog.records:
        assert not re.search(r"[\r\n\x1b]", record.getMessage()), record.getMessage()


# -- the start --

LOOPBACKS = ["127.0.0.1", "127.1.2.3", "::1", "localhost"]
OPEN = ["0.0.0.0", "::", "192.168.1.5", "lab.example", "127.0.0.1.example", "127.1"]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`main` with settings and arguments: the exit code and what it wrote to stderr; it does not really serve."""

    def start(*argv: str, **settings: str) -> tuple[int, str]:
        monkeypatch.setattr(program, "environment", lambda: settings)
        monkeypatch.setattr(program, "_run", lambda settings: 0)
        code = program.main(argv)
        return code, capsys.readouterr().err

    return start


@pytest.mark.parametrize("host", [*LOOPBACKS, *OPEN])
@pytest.mark.parametrize("token", ["", TOKEN])
@pytest.mark.parametrize("insecure", [False, True])
@pytest.mark.parametrize("given", ["setting", "argument"])
def test_only_what_lets_no_stranger_in_starts(start: Any, host: str, token: str, insecure: bool, given: str) -> None:
    settings = {"DISPATCHER_TOKEN": token} if token else {}
    argv = ["--insecure"] if insecure else []
    if given == "setting":
        settings["DISPATCHER_HOST"] = host
    else:
        argv += ["--host", host]
    code, said = start(*argv, **settings)
    if host in LOOPBACKS or token or insecure:
        assert (code, said) == (0, "")
    else:
        assert code == 2
        assert re.fullmatch(r"dispatcher: setting DISPATCHER_HOST=\S+: binding .* needs DISPATCHER_TOKEN .*\n", said)


@pytest.mark.parametrize("token", ["with blank", "tab\there", "ümlaut", "\x01", "new\nline", "🔑"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(start: Any, token: str) -> None:
    code, said = start(DISPATCHER_TOKEN=token)
    assert code == 2
    assert said.startswith("dispatcher: setting DISPATCHER_TOKEN=(hidden): ")
    assert token not in said
    assert said.count("\n") == 1


BAD_SETTINGS = [
    *(("DISPATCHER_PORT", value) for value in ("-1", "65536", "http", "50.5", "0x50")),
    *(("DISPATCHER_THREADS", value) for value in ("0", "x", "20001")),
    *(("DEFAULT_LEASE_DURATION", value) for value in ("0", "-1", "soon", "nan", "inf", "1e300", "2x")),
    *(("WORKER_DEATH_TIMEOUT", value) for value in ("0", "never", "1e300")),
    *(("DEFAULT_MAX_ATTEMPTS", value) for value in ("0", "1001", "1.5")),
    *(("RESULT_MAX_BYTES", value) for value in ("0", "64MiB")),
    *(("RETENTION_COMPLETED", value) for value in ("-1", "x", "1e300")),
    ("RETENTION_FAILED", "1e300"),
    ("LOG_LEVEL", "LOUD"),
    ("LOG_FORMAT", "xml"),
    ("WEBHOOK_URL", "https://hooks.example/x"),
    *(("WEBHOOK_ALLOW", value) for value in ("internal", "10.0.0.1/8", "10.0.0.0/33")),
    *(("DISPATCHER_HOST", value) for value in ("a..b", "a" * 64, "." * 3)),
]


@pytest.mark.parametrize(("name", "value"), BAD_SETTINGS)
def test_a_bad_setting_is_one_clear_line(start: Any, name: str, value: str) -> None:
    code, said = start("--insecure", **{name: value})
    assert code == 2
    assert said.startswith(f"dispatcher: setting {name}={value}: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("port", ["-1", "65536", "70000"])
def test_a_bad_port_argument_is_one_clear_line(start: Any, port: str) -> None:
    code, said = start(f"--port={port}")
    assert (code, said) == (2, f"dispatcher: setting DISPATCHER_PORT={port}: must be from 0 to 65535\n")


def test_the_token_is_not_in_what_the_settings_look_like() -> None:
    settings = load(DispatcherSettings, {"DISPATCHER_TOKEN": TOKEN})
    check(settings, insecure=False)
    assert settings.token == TOKEN
    assert TOKEN not in repr(settings)
    with pytest.raises(SettingError) as refused:
        check(load(DispatcherSettings, {"DISPATCHER_TOKEN": f"{TOKEN} "}), insecure=False)
    assert TOKEN not in str(refused.value)


def test_the_token_is_never_written_down(run: Callable[..., Process], tmp_path: Path) -> None:
    process = run(DISPATCHER_TOKEN=TOKEN, LOG_LEVEL="DEBUG").ready()
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert process.ask("GET", "/stats").status == 401
    assert process.ask("GET", "/stats", headers={"Authorization": f"Bearer {TOKEN}x"}).status == 401
    assert process.ask("GET", "/stats", headers={"Authorization": "Bearer é"}).status == 401
    long = {"Authorization": "Bearer " + "x" * 2**20}
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before it was sent to its end
        assert process.ask("GET", "/stats", headers=long).status in (401, 431)
    assert process.ask("GET", "/health").json == {"status": "healthy", "service": "dispatcher"}
    body = {"task_type": "noop", "task_data": {"a": 1}, "odd": TOKEN[:4]}
    assert process.ask("POST", "/submit-task", body, right).status == 400
    answer = process.ask("POST", "/submit-task", {"task_type": "noop"}, right)
    assert answer.status == 201
    assert answer.headers.get("Server") in (None, "taskmill")
    arguments = Path(f"/proc/{process.process.pid}/cmdline").read_bytes()
    assert process.stop() == 0
    written = [path.read_bytes() for path in tmp_path.iterdir()] + [arguments, "\n".join(process.lines).encode()]
    assert len(written) >= 4
    assert not [text for text in written if TOKEN.encode() in text]
