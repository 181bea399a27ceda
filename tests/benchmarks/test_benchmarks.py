"""What the benchmarks stand on: the fast filling, the pages that are made of their figures, the simulation."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import filling
import page
import simulate_workers
from simulate_workers import Cost, Costs, Layout, Load

from dispatcher.model import TaskFilter
from dispatcher.queue import Queue
from dispatcher.queue.claim import Claim
from dispatcher.store.sqlite import SqliteStore

COSTS = Costs(Cost(0.0003), Cost(0.0002), Cost(0.0005), Cost(0.00003), Cost(0.00001))
ONE = Layout("one", "sqlite")


@pytest.mark.parametrize(
    ("kind", "ready", "others"), [("waiting", 700, 0), ("unserved", 700, 0), ("future", 0, 0), ("held", 0, 1)]
)
def test_filled_queue_is_as_if_submitted(tmp_path: Path, kind: str, ready: int, others: int) -> None:
    path = tmp_path / "queue.db"
    filling.fill(path, 700, getattr(filling, kind))
    store = SqliteStore(path)
    queue = Queue(store)
    with store.read() as reader:
        counts = list(reader.counts().values())
    assert sum(n["pending"] for n in counts) == 700 + others
    assert sum(n.get("ready", 0) for n in counts) == ready + others
    listed = queue.tasks(TaskFilter(queue="default"), None, 1000)
    assert len({task["task_id"] for task in listed}) == 700 + others
    granted = queue.claim(Claim("w", "i-w", 1, 1000)).tasks
    assert len(granted) == ready + others
    assert [task.task_id for task in granted] == sorted(task.task_id for task in granted)
    store.close()


def simulated(load: Load, seed: int = 1) -> dict[str, float]:
    asked = simulate_workers.kinds(COSTS, ONE, load)
    return simulate_workers.simulate(ONE, load, asked, 10.0, seed)


def test_simulation_repeats_itself_and_slows_under_load() -> None:
    quiet, busy = Load(100, 10), Load(1500, 2)
    assert simulated(quiet) == simulated(quiet) != simulated(quiet, seed=2)
    assert simulated(quiet)["report_p99_ms"] < 5 < simulated(busy)["report_p99_ms"]


def test_busy_is_what_the_costs_say() -> None:
    load = Load(1000, 10)
    dispatcher, database = simulate_workers.busy(ONE, load, simulate_workers.kinds(COSTS, ONE, load))
    assert dispatcher == pytest.approx(1000 * (0.0003 / 30 + 0.0002 / 25) + 200 * (0.0005 + 0.00003 + 0.00001))
    assert database == 0


def test_commits_queue_for_the_cores_of_the_database() -> None:
    database = simulate_workers.Database(2)
    assert [database.run(0.0, 1.0) for _ in range(3)] == [1.0, 1.0, 2.0]


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    told: dict[str, dict[str, Any]] = {
        "disk": {"tasks": 10, "bytes_per_task": 231.4},
        "scaling": {"tasks": 16, "cores": 2, "children": {"1": {"seconds": 2.0, "speedup": 1.0},
                                                         "2": {"seconds": 1.0, "speedup": 2.0}}},
    }  # fmt: skip
    for name, of in told.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(of))
    return tmp_path


def test_the_pages_are_those_of_the_kept_figures(tmp_path: Path) -> None:
    page.write(page.RESULTS, tmp_path)
    for made in tmp_path.iterdir():
        assert made.read_text() == (page.DOCS / made.name).read_text(), f"{made.name}: run benchmarks/page.py"


def test_page_shows_what_was_measured_and_nothing_else(figures: Path) -> None:
    page.write(figures, figures)
    text = (figures / "speed.md").read_text()
    assert "231 bytes" in text
    assert "| 2 | 1.00 s | 2.00 \N{MULTIPLICATION SIGN} |" in text
    assert "Beside the peers" not in text
    assert "<polyline" in (figures / "speed-scaling.svg").read_text()
    before, after = (part.strip() for part in text.split("<!-- figures begin -->"))
    assert before.startswith("# Speed")
    assert "## By itself" in after
