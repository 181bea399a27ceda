"""The command line as such: help, errors in one line, exit codes, the page for operators."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from cli_kit import Commands

from cli import backup, main
from common.settings import ROOT

COMMANDS = ("backup", "restore", "doctor")


def test_help_names_every_command(run: Commands) -> None:
    said = run("--help")
    assert said.code == 0
    assert all(command in said.out for command in COMMANDS)
    assert run().out == said.out, "as without any words"
    for command in COMMANDS:
        told = run(command, "--help")
        assert told.code == 0
        assert f"Usage: taskmill {command}" in told.out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["bakcup"], "bakcup"),
        (["backup"], "Missing argument"),
        (["backup", "a", "b"], "unexpected extra argument"),
        (["restore", "--dry", "a"], "--dry"),
        (["backup", "a", "--url", "nowhere"], "is not the URL of a dispatcher"),
    ],
)
def test_errors_are_one_line(run: Commands, words: list[str], reason: str) -> None:
    said = run(*words)
    assert reason in said.fault
    assert said.code == 2
    assert said.out == ""


def test_a_bad_setting(run: Commands, tmp_path: Path) -> None:
    run.set(DISPATCHER_PORT="many")
    for words in (["restore", "x"], ["backup", tmp_path / "b"]):
        said = run(*words)
        assert "DISPATCHER_PORT=many" in said.fault
        assert said.code == 2


def test_a_fault_of_ours_is_not_hidden(run: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(backup.files, "check_target", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("backup", tmp_path / "b")
    assert main.app is not None


def test_the_script_runs_from_anywhere(tmp_path: Path) -> None:
    env = {**os.environ, "DISPATCHER_URL": "http://127.0.0.1:9", "DB_PATH": str(tmp_path / "none.db")}
    told = subprocess.run(
        [ROOT / "taskmill", "restore", "b"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert told.stderr == f"taskmill: {tmp_path}/b cannot be read: No such file or directory\n"
    assert told.returncode == 1


def test_the_page_for_operators_names_every_option() -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    for command in COMMANDS:
        assert f"taskmill {command}" in page
        options = set(re.findall(r'"(--[a-z-]+)"', (ROOT / "cli" / f"{command}.py").read_text()))
        assert {option for option in options if option not in page} == set()
