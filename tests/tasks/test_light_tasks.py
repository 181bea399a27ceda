"""noop and sleep, and what importing a handler may cost and touch."""

import ast
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jsonschema_rs
import pytest

from tasks import compute_task, noop_task, prime_task, sleep_task
from tasks.context import Cancelled, Pulse

ROOT = Path(__file__).resolve().parents[2]


class Clock(SimpleNamespace):
    """Stands for the module `time`: sleeping is what moves it."""

    def __init__(self):
        super().__init__(now=100.0, naps=[])

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.naps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(sleep_task, "time", made)
    monkeypatch.setattr("tasks.context.time", made)
    return made


@pytest.mark.parametrize("payload", [{}, {"any": "thing"}, [1], None])
def test_noop_accepts_anything(payload):
    assert noop_task.execute(1, payload) == {}


def test_sleep_sleeps_as_long_as_told(context, clock):
    assert sleep_task.execute({"seconds": 1.5}, context) == {"slept": 1.5}
    assert clock.now == pytest.approx(101.5)
    assert max(clock.naps) <= 0.2
    assert context.progressed[:3] == [(0.0, 1.5), (0.2, 1.5), (0.4, 1.5)]


def test_sleep_of_nothing(context, clock):
    assert sleep_task.execute({"seconds": 0}, context) == {"slept": 0}
    assert (clock.naps, context.progressed) == ([], [])


def test_sleep_in_real_time(context):
    assert sleep_task.execute({"seconds": 0.001}, context) == {"slept": 0.001}


def test_sleep_wakes_when_cancelled(make_context, clock):
    with pytest.raises(Cancelled, match=r"cancelled after 0\.4 of 3600 s"):
        sleep_task.execute({"seconds": 3600}, make_context(cancel_after=2))
    assert clock.now == pytest.approx(100.4)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, "seconds is missing"),
        ({"seconds": -0.1}, "seconds must be from 0 to 86400, not -0.1"),
        ({"seconds": 86_401}, "seconds must be from 0 to 86400, not 86401"),
        ({"seconds": math.nan}, "seconds must be from 0 to 86400, not nan"),
        ({"seconds": 10**5000}, "seconds must be from 0 to 86400, not an integer of thousands of digits"),
        ({"seconds": "1"}, "seconds must be a number, not '1'"),
        ({"seconds": True}, "seconds must be a number, not True"),
    ],
)
def test_sleep_refuses_other_payloads(context, payload, message):
    with pytest.raises(ValueError, match=message):
        sleep_task.execute(payload, context)


def test_the_schema_of_sleep_agrees_with_the_handler():
    valid = jsonschema_rs.validator_for(sleep_task.PAYLOAD_SCHEMA).is_valid
    assert all(valid({"seconds": seconds}) for seconds in (0, 0.5, 86_400))
    assert not any(valid(payload) for payload in ({}, {"seconds": -1}, {"seconds": 86_401}, {"seconds": "1"}))


def test_a_pulse_is_due_once_a_period(clock):
    pulse = Pulse(1.0)
    assert not pulse.due()
    clock.sleep(1.0)
    assert pulse.due()
    assert not pulse.due()


def imported(path):
    """The top-level names of the packages that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("path", sorted((ROOT / "tasks").glob("*.py")), ids=lambda path: path.name)
def test_handlers_are_pure(path):
    assert set(imported(path)) <= sys.stdlib_module_names | {"tasks", "numpy", "primesieve"}


@pytest.mark.parametrize("handler", [noop_task, sleep_task, prime_task, compute_task])
def test_a_handler_has_no_other_payload_class_by_accident(handler):
    """A name `Payload` in a handler's module would be taken for its pydantic model."""
    assert not hasattr(handler, "Payload")


@pytest.mark.parametrize("name", ["noop", "sleep", "prime", "compute"])
def test_importing_a_handler_brings_no_heavy_library(name):
    code = f"import sys, tasks.{name}_task; print(*{{'numpy', 'pydantic', 'primesieve'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
