"""add_task.py: what it submits, what it says, how it ends."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from client_fakes import Dispatcher, FakeTransport, in_turn

from client import arguments, cli
from client.config import ClientSettings
from client.errors import BadReply, Refused, Unreachable
from common import submitting

GONE = Unreachable("http://fake:5000", "connection refused")


Run = Callable[..., int]


Output = pytest.CaptureFixture[str]


# --- the classic form


def test_the_classic_form(run: Run, capsys: Output) -> None:
    dispatcher = Dispatcher()
    assert run(["2", "5000", "trial_division"], dispatcher) == 0
    assert [task["task_data"] for task in dispatcher.submitted] == [{"limit": 5000, "method": "trial_division"}] * 2
    assert {task["task_type"] for task in dispatcher.submitted} == {"prime"}
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "Added task 1: prime up to 5000 (trial_division)",
        "Added task 2: prime up to 5000 (trial_division)",
    ]


def test_the_classic_defaults(run: Run, capsys: Output) -> None:
    assert run(["1"]) == 0
    assert "Added task 1: prime up to 100000 (sieve)\n" in capsys.readouterr().out


def test_the_default_method_is_a_setting(run: Run, given: dict[str, str]) -> None:
    given["PRIMES_DEFAULT_METHOD"] = "trial_division"
    dispatcher = Dispatcher()
    run(["1"], dispatcher)
    assert dispatcher.submitted[0]["task_data"]["method"] == "trial_division"


@pytest.mark.parametrize(
    "argv",
    [
        ["3", "100001"],
        ["--type", "prime", "--data", '{"limit": 100001}'],
        ["--type", "compute", "--data", '{"limit": 100001}'],
    ],
)
def test_a_limit_above_the_highest_is_refused_before_submitting(
    run: Run, given: dict[str, str], capsys: Output, argv: list[str]
) -> None:
    given["PRIMES_MAX_LIMIT"] = "100000"
    dispatcher = Dispatcher()
    assert run(argv, dispatcher) == 2
    assert not dispatcher.calls
    assert "LIMIT 100001 is above PRIMES_MAX_LIMIT, which is 100000" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["resize", "compute"])
def test_a_limit_of_something_else_is_nobodys_business(run: Run, name: str) -> None:
    assert run(["--type", name, "--data", '{"type": "pi", "limit": 999999999}']) == 0


def test_many_tasks_are_summed_up(run: Run, capsys: Output) -> None:
    assert run(["2500", "10"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == [
        f"Added {n} tasks, {ids}: prime up to 10 (sieve)" for n, ids in ((2000, "1 to 2000"), (500, "2001 to 2500"))
    ]


# --- options


EVERY_OPTION = [
    "--type", "report", "--data", '{"n": 1}', "--queue", "bulk", "--priority", "-5", "--delay", "1m30s",
    "--max-attempts", "2", "--timeout", "5m", "--tag", "a", "--tag", "b", "--idempotency-key", "k-1",
    "--backoff", "first=10s,factor=1.5,max=15m,jitter=0", "--wait-limit", "1h", "--total-limit", "1d",
    "--memory", "1.5G", "--require", "gpu", "--require", "host:lab3", "--key", "user:42",
]  # fmt: skip
ON_THE_WIRE = {
    "task_type": "report", "task_data": {"n": 1}, "queue": "bulk", "priority": -5, "delay_seconds": 90.0,
    "max_attempts": 2, "timeout_seconds": 300.0, "tags": ["a", "b"], "idempotency_key": "k-1",
    "backoff": {"first_seconds": 10.0, "factor": 1.5, "max_seconds": 900.0, "jitter": 0.0}, "wait_seconds": 3600.0,
    "total_seconds": 86400.0, "memory_mb": 1536, "requires": ["gpu", "host:lab3"], "key": "user:42",
}  # fmt: skip


def test_all_options_reach_the_wire(run: Run) -> None:
    dispatcher = Dispatcher()
    assert run(EVERY_OPTION, dispatcher) == 0
    assert dispatcher.submitted == [ON_THE_WIRE]


def test_all_options_reach_the_wire_of_many(run: Run) -> None:
    dispatcher = Dispatcher()
    assert run([*EVERY_OPTION, "--count", "2"], dispatcher) == 0
    assert dispatcher.submitted == [{**ON_THE_WIRE, "idempotency_key": f"k-1-{n}"} for n in range(2)]


def test_every_field_of_a_submit_has_its_option() -> None:
    from dispatcher.routes.models import EDITABLE, SubmitTask

    assert {option.field for option in submitting.SUBMIT} == SubmitTask.model_fields.keys()
    assert {option.field for option in submitting.EDIT} == EDITABLE


@pytest.mark.parametrize(("words", "fields"), [
    (["--unique-key", "u"], {"unique_key": "u"}),
    (["--unique-key", "u", "--unique-for", "1h"], {"unique_key": "u", "unique_for": 3600.0}),
    (["--unique-key", "u", "--unique-for", "unfinished"], {"unique_key": "u", "unique_for": "unfinished"}),
    (["--backoff", "10s"], {"backoff": {"first_seconds": 10.0}}),
])  # fmt: skip
def test_shorter_forms(run: Run, words: list[str], fields: dict[str, object]) -> None:
    dispatcher = Dispatcher()
    assert run(["--type", "noop", *words], dispatcher) == 0
    assert dispatcher.submitted[0].items() >= fields.items()


def test_a_twin_is_told(run: Run, capsys: Output) -> None:
    dispatcher = Dispatcher()
    dispatcher.answers["/submit-task"] = in_turn({"task_id": 7, "created": False})
    words = ["--type", "noop", "--unique-key", "u"]
    assert run(words, dispatcher) == 0
    assert capsys.readouterr().out.startswith("Task 7 exists already with this --unique-key; nothing was added\n")
    assert run([*words, "--json"], dispatcher) == 0
    assert json.loads(capsys.readouterr().out) == {"task_id": 7, "task_type": "noop", "created": False}


def test_a_time_goes_in_utc(run: Run) -> None:
    dispatcher = Dispatcher()
    assert run(["1", "--at", "2030-01-01T08:00:00+02:00"], dispatcher) == 0
    assert dispatcher.submitted[0]["run_at"] == "2030-01-01T06:00:00Z"


@pytest.mark.parametrize("argv", [["3", "--type", "noop"], ["--type", "noop", "3"], ["--type", "noop", "--count", "3"]])
def test_the_count_of_typed_tasks(run: Run, argv: list[str]) -> None:
    dispatcher = Dispatcher()
    assert run(argv, dispatcher) == 0
    assert [task["task_type"] for task in dispatcher.submitted] == ["noop"] * 3


def test_a_typed_task_is_one_without_a_count(run: Run, capsys: Output) -> None:
    dispatcher = Dispatcher()
    assert run(["--type", "noop"], dispatcher) == 0
    assert [task["task_data"] for task in dispatcher.submitted] == [{}]
    assert "Added task 1: noop\n" in capsys.readouterr().out


def test_positionals_and_options_mix(run: Run) -> None:
    dispatcher = Dispatcher()
    assert run(["2", "--queue", "bulk", "500", "--priority", "1", "sieve"], dispatcher) == 0
    assert dispatcher.submitted[1]["task_data"] == {"limit": 500, "method": "sieve"}


def test_a_users_key_names_each_task_of_several(run: Run) -> None:
    dispatcher = Dispatcher()
    run(["2", "--idempotency-key", "order"], dispatcher)
    assert [task["idempotency_key"] for task in dispatcher.submitted] == ["order-0", "order-1"]


def test_data_from_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"big": 36893488147419103232}')
    dispatcher = Dispatcher()
    assert run(["--type", "noop", "--data", f"@{tmp_path}/data.json"], dispatcher) == 0
    assert dispatcher.submitted[0]["task_data"] == {"big": 2**65}


def test_data_from_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO('{"t": "é"}'.encode())))
    dispatcher = Dispatcher()
    assert run(["--type", "noop", "--data", "-"], dispatcher) == 0
    assert dispatcher.submitted[0]["task_data"] == {"t": "é"}


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ([], "say how many tasks"),
        (["0"], "0 is below 1"),
        (["many"], "'many' is not a whole number"),
        (["1", "-5"], ""),
        (["1", "10", "guess"], "invalid choice: 'guess'"),
        (["1", "10", "sieve", "more"], "unrecognized arguments: more"),
        (["1", "--data", "{}"], "--data needs --type"),
        (["1", "10", "--type", "noop"], "LIMIT and METHOD belong to prime"),
        (["1", "--count", "2"], "given twice"),
        (["--type", "noop", "--data", "{bad"], "--data: not valid JSON"),
        (["--type", "noop", "--data", '{"a": 1, "a": 2}'], "duplicate key 'a'"),
        (["--type", "noop", "--data", '{"a": NaN}'], "NaN is not JSON"),
        (["--type", "noop", "--data", "[1]"], "--data: must be a JSON object, not list"),
        (["--type", "noop", "--data", "@/no/such/file"], "--data: @/no/such/file: No such file"),
        (["1", "--delay", "90"], "--delay: '90' is not a duration"),
        (["1", "--timeout", "soon"], "--timeout: 'soon' is not a duration"),
        (["1", "--at", "2030-01-01T06:00:00"], "not a time with a zone"),
        (["1", "--at", "tomorrow"], "not a time with a zone"),
        (["1", "--delay", "1s", "--at", "2030-01-01T06:00:00Z"], "--at: not together with --delay"),
        (["1", "--memory", "500"], "--memory: '500' is not an amount of memory"),
        (["1", "--backoff", "first=1s,first=2s"], "--backoff: 'first=2s': write each of"),
        (["1", "--backoff", "pause=1s"], "--backoff: 'pause=1s': write each of"),
        (["1", "--backoff", "factor=two"], "--backoff: 'two' is not a number"),
        (["1", "--backoff", "10"], "--backoff: '10' is not a duration"),
        (["1", "--wait-limit", "60"], "--wait-limit: '60' is not a duration"),
        (["1", "--total-limit", "60"], "--total-limit: '60' is not a duration"),
        (["1", "--unique-key", "u", "--unique-for", "ever"], "--unique-for: 'ever' is not a duration"),
        (["1", "--unique-for", "1h"], "--unique-for: says how long a --unique-key counts"),
        (["2", "--unique-key", "u"], "--unique-key: there is one task of a key at a time, not 2"),
        (["1", "--max-attempts", "0"], "--max-attempts: 0 is below 1"),
        (["1", "--priority", "high"], "--priority: 'high' is not a whole number"),
        (["1", "--token", "s3cret"], "unrecognized arguments"),
        (["1", "--wai"], "unrecognized arguments"),
    ],
)
def test_bad_usage_submits_nothing(run: Run, capsys: Output, argv: list[str], reason: str) -> None:
    dispatcher = Dispatcher()
    assert run(argv, dispatcher) == 2
    assert not dispatcher.calls
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [("PRIMES_MAX_LIMIT", "lots"), ("PRIMES_DEFAULT_METHOD", "guess"), ("DISPATCHER_URL", "nowhere")],
)
def test_a_bad_setting_is_named(given: dict[str, str], capsys: Output, name: str, value: str) -> None:
    given[name] = value
    assert cli.main(["1"]) == 2
    assert value in capsys.readouterr().err


def test_help_names_exit_codes_and_examples(run: Run, capsys: Output) -> None:
    assert run(["--help"]) == 0
    told = capsys.readouterr().out
    for part in ("examples:", "exit codes:", "130", "DISPATCHER_TOKEN", "trial_division", "--json"):
        assert part in told


# --- exit codes of trouble


@pytest.mark.parametrize(
    ("trouble", "code", "said"),
    [
        (GONE, 3, "Start it with: ./start_dispatcher.sh"),
        (BadReply("http://fake:5000", "not JSON"), 3, "did not answer like a dispatcher"),
        (Refused(503, "unavailable", "stopping"), 3, "stopping"),
        (Refused(401, "unauthorized", "no token"), 4, "no token"),
        (Refused(400, "invalid", "queue: bad name"), 2, "--queue: queue: bad name"),
        (Refused(400, "invalid", "tasks[0].requires[1]: bad"), 2, "--require: tasks[0].requires[1]: bad"),
        (Refused(429, "backlog_full", "queue mail is full"), 4, "refused this: queue mail is full"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_trouble_has_its_exit_code(run: Run, capsys: Output, trouble: BaseException, code: int, said: str) -> None:
    assert run(["1"], FakeTransport(submit_task=in_turn(trouble))) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert not captured.out


def test_an_interrupted_wait_keeps_what_was_submitted(run: Run, capsys: Output) -> None:
    dispatcher = Dispatcher()
    dispatcher.answers["/wait-tasks"] = in_turn(KeyboardInterrupt())
    assert run(["1", "--wait"], dispatcher) == 130
    assert "what was submitted goes on" in capsys.readouterr().err


def test_an_unreachable_dispatcher_is_waited_for_a_little_and_said_once(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_SUBMIT_PATIENCE", 0.2)
    assert cli.main(["1", "--url", "http://127.0.0.1:1"]) == 3
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if "trying for up to" in line] == told[:1]


# --- what to do next


def test_no_active_worker_gives_a_hint(run: Run, capsys: Output) -> None:
    assert run(["1"], Dispatcher(active=0)) == 0
    told = capsys.readouterr().out
    assert "./start_worker.sh worker-1" in told
    assert "curl http://fake:5000/task/1" in told


def test_an_active_worker_needs_no_hint(run: Run, capsys: Output) -> None:
    run(["1"], Dispatcher(active=2))
    assert "start_worker" not in capsys.readouterr().out


def test_a_hint_is_not_worth_an_error(run: Run) -> None:
    dispatcher = Dispatcher()
    dispatcher.answers["/stats"] = in_turn(Refused(500, "internal", "oops"))
    assert run(["1"], dispatcher) == 0


def test_orders_are_plain_data() -> None:
    order = arguments.read(["2", "--json", "--url", "http://x:1"], ClientSettings())
    assert (order.count, order.json, order.wait, order.url, order.key) == (2, True, False, "http://x:1", None)
