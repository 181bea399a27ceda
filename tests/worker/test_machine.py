"""What a worker tells of its machine."""

from pathlib import Path

import pytest

from worker.machine import SETTLED_S, Speed, described


def test_load_and_memory_are_told(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       16384000 kB\nMemFree: 5 kB\nMemAvailable:    8192000 kB\n")
    told = described(meminfo)
    assert (told["memory_mb"], told["memory_free_mb"]) == (16000, 8000)
    assert told["cpus"] >= 1
    assert told["load"] >= 0


def test_where_there_is_no_meminfo_nothing_is_said_of_memory(tmp_path: Path) -> None:
    assert described(tmp_path / "none").keys() == {"cpus", "load"}


def test_speed_is_counted_from_one_question_to_the_next() -> None:
    now = [100.0]
    speed = Speed(lambda: now[0])
    speed.count(30)
    assert speed.per_minute() == 0.0
    now[0] += SETTLED_S
    assert speed.per_minute() == pytest.approx(180)
    assert speed.per_minute() == pytest.approx(180)  # asked again at once
    now[0] += 60
    assert speed.per_minute() == 0.0
