"""Several dispatchers on one PostgreSQL, all of it hurt at random moments of a seeded run; then the accounts must
balance (I1 to I7), as in `test_chaos.py`."""

import time
from pathlib import Path

import pytest
from chaos import Plan, report
from overlapping import SEED, overlapping
from postgres_server import running
from several_farm import SeveralFarm
from several_faults import SeveralRun

SHORT = Plan(5, 3_000, workers=4, least_pause=0.3, longest_pause=4.0, largest_submit=100, least=800)
LONG = Plan(150, 195_000, workers=8, least_pause=1.0, longest_pause=10.0, drain_seconds=90, largest_submit=1_000,
            least=50_000)  # fmt: skip
DURABLE = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on"}
ON_DISK = Path("/var/tmp")


def _play(
    folder: Path, plan: Plan, faults: int, settings: dict[str, str] | None = None, place: Path | None = None
) -> str:
    """The figures of a run without problems, with at least so many faults and acknowledged tasks."""
    began = time.monotonic()
    with running(settings, place) as server, SeveralFarm(folder, server, workers=plan.workers) as farm:
        run = SeveralRun(farm, SEED, plan)
        row, problems = run.play()
        logs = farm.logs() if problems else ""
        report(row, run.history, farm.executions())
    assert not problems, "\n".join([str(row), *problems[:20], logs])
    assert row.faults >= faults
    assert row.acknowledged >= plan.least
    return f"faults of several dispatchers on PostgreSQL: {row}, seconds {time.monotonic() - began:.0f}"


@overlapping
def test_several_dispatchers_lose_and_double_nothing(folder: Path) -> str:
    return _play(folder, SHORT, 6)


@pytest.mark.long
def test_fifty_thousand_tasks_survive_three_dispatchers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = _play(tmp_path, LONG, 200, DURABLE, ON_DISK)
    with capsys.disabled():
        print(f"\n{told}")  # noqa: T201
