"""The instance folder: who holds its lock, who may take it, and what is refused as a cache folder."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from doubles import wait_until

from common import file_systems
from common.settings import ROOT
from worker import instance
from worker.instance import InstanceError

HOLDER = """
import subprocess, sys
from pathlib import Path
from worker import instance
made = instance.create(Path(sys.argv[1]), "lab-1")
command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
child = subprocess.Popen(command, pass_fds=[made.lock], stdin=subprocess.PIPE)
print(made.folder, child.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_living_instance_cannot_be_obtained(cache: Path) -> None:
    living = instance.create(cache, "lab-1")
    assert list(instance.folders(cache)) == [living.folder]
    assert instance.obtain(living.folder) is None
    living.leave()
    assert instance.obtain(living.folder) is not None


def test_two_workers_of_one_name_and_two_names_on_one_host(cache: Path) -> None:
    made = [instance.create(cache, name) for name in ("lab-1", "lab-1", "lab-2")]
    assert sorted(instance.folders(cache)) == sorted(one.folder for one in made)


def test_the_lock_is_free_only_when_worker_and_children_are_gone(cache: Path) -> None:
    """kill -9 of the worker alone does not free it: its child still holds the descriptor."""
    command = [sys.executable, "-c", HOLDER, str(cache)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as holder:
        assert holder.stdout
        folder, child = holder.stdout.readline().split()
        os.kill(int(child), signal.SIGSTOP)  # it cannot notice that its parent has gone
        holder.kill()
        holder.wait()
        assert instance.obtain(Path(folder)) is None
        os.kill(int(child), signal.SIGKILL)
        wait_until(lambda: instance.obtain(Path(folder)), what="the lock did not come free")


def test_of_two_siblings_one_gets_the_lock(cache: Path) -> None:
    instance.create(cache, "lab-1").leave()
    [folder] = instance.folders(cache)
    got = [instance.obtain(folder) for _ in range(3)]
    assert [one is not None for one in got] == [True, False, False]


def test_a_dropped_folder_cannot_be_obtained(cache: Path) -> None:
    """Its lock file was opened before it went, and locked after: that lock counts for nothing."""
    made = instance.create(cache, "lab-1")
    made.drop()
    assert instance.obtain(made.folder) is None
    assert not list(made.folder.parent.iterdir())


def test_stale_temporary_folders_go_and_held_ones_stay(cache: Path) -> None:
    home = instance.create(cache, "lab-1").folder.parent
    for name in (".tmp-a", ".tmp-b", ".tmp-c"):
        (home / name).mkdir()
    (home / ".tmp-b" / "lock").touch()
    (home / ".tmp-c" / "lock").touch()
    held = instance.obtain(home / ".tmp-c")
    instance.clean_up(cache)
    assert held
    assert sorted(path.name for path in home.glob(".tmp-*")) == [".tmp-c"]


def test_a_renewed_instance_keeps_folder_and_lock(cache: Path) -> None:
    made = instance.create(cache, "lab-1")
    first = made.folder.name
    second = made.renew()
    assert made.ids() == [first, second]
    made.leave()
    dead = instance.obtain(made.folder)
    assert dead
    assert dead.ids() == [first, second]


def test_stores_are_noted_once(cache: Path) -> None:
    made = instance.create(cache, "lab-1")
    for store_id in ("a", "b", "a"):
        made.note_store(store_id)
    assert made.stores() == ["a", "b"]


def test_started_leases_are_noted_and_only_open_ones_survive_the_rewriting(cache: Path) -> None:
    made = instance.create(cache, "lab-1")
    made.note_started(["1-1", "2-2"], list)
    assert made.started() == ["1-1", "2-2"]
    many = [f"{number}-{'f' * 32}" for number in range(30_000)]
    made.note_started(many, lambda: ["2-2"])
    made.note_started(["9-9"], list)
    assert sorted(made.started()) == sorted([*many, "2-2", "9-9"])
    for _ in range(2):
        made.note_started(many, lambda: ["9-9"])
    assert sorted(made.started()) == sorted([*many, "9-9"])


def test_a_line_cut_by_the_end_of_the_process_says_nothing(cache: Path) -> None:
    made = instance.create(cache, "lab-1")
    (made.folder / "started").write_text("1-1\n2-")
    assert made.started() == ["1-1"]


@pytest.mark.parametrize(("kind", "refused"), [("fuse.sshfs", True), ("ext4", False)])
def test_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, refused: bool
) -> None:
    monkeypatch.setattr(file_systems, "kind_of", lambda folder: kind)
    with pytest.raises(InstanceError, match="network file system") if refused else nullcontext():
        instance.refuse_network_folder(tmp_path)


def test_a_folder_that_others_can_write_is_refused(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(InstanceError, match="writable for everybody"):
        instance.create(cache, "lab-1")


def test_folders_are_private(cache: Path) -> None:
    made = instance.create(cache, "lab-1")
    assert [path.stat().st_mode & 0o777 for path in (cache, made.folder, made.outbox, made.spool)] == [0o700] * 4


def test_a_cache_folder_that_is_a_file_is_told_in_one_line(cache: Path) -> None:
    cache.touch()
    with pytest.raises(InstanceError, match="cannot be used"):
        instance.create(cache, "lab-1")
