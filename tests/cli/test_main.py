"""The command line as such: help, errors in one line, exit codes, the page for operators."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_kit import Commands

from cli import backup, main
from cli.table import COMMANDS
from common.settings import ROOT

CARE = ("backup", "restore", "doctor")


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
    for command in CARE:
        assert f"taskmill {command}" in page
        options = set(re.findall(r'"(--[a-z-]+)"', (ROOT / "cli" / f"{command}.py").read_text()))
        assert {option for option in options if option not in page} == set()


def words_of(command: click.Command) -> set[str]:
    """The options and sub-commands that a command has."""
    flags = {flag for one in command.params for flag in one.opts if flag.startswith("--")}
    below = getattr(command, "commands", {})
    return flags.union(below, *(words_of(one) for one in below.values()))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_commands_names_all(name: str) -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    assert re.search(rf"^\| .*`{name}\b", page, re.M)
    command = main.app.get_command(click.Context(main.app), name)
    assert command is not None
    assert {word for word in words_of(command) if not re.search(rf"{word}\b", page)} == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name: str) -> None:
    command = main.app.get_command(click.Context(main.app), name)
    assert command is not None
    assert (command.help or "").startswith(COMMANDS[name][1].rstrip("."))
    assert f"taskmill {name}" in (command.epilog or ""), "an example"


@pytest.mark.parametrize("line", ["--help", "completion bash"])
def test_nothing_heavy_is_loaded_before_it_is_needed(line: str) -> None:
    script = "import sys; from cli.main import main; main(); print(*sys.modules, file=sys.stderr)"
    told = subprocess.run(
        [sys.executable, "-c", script, *line.split()], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"rich", "httptools", "apsw", "psycopg", "pydantic", "flask", "requests", "dispatcher.queue"}
    assert heavy & set(told.stderr.split()) == set()


@pytest.mark.parametrize(("typed", "offered"), [
    ("can", {"cancel"}), ("queue mail p", {"pause"}), ("cancel --st", {"--status"}),
    ("tasks --status comp", {"completed"}), ("schedule x set --catch-up o", {"once"}),
])  # fmt: skip
def test_completion(typed: str, offered: set[str]) -> None:
    words = ["taskmill", *typed.split()]
    env = {"_TASKMILL_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    told = subprocess.run(
        [sys.executable, "-m", "cli"], cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=True
    )
    assert {line.partition(",")[2] for line in told.stdout.splitlines()} == offered


def test_completion_is_printed_for_the_shells(run: Commands) -> None:
    for shell in ("bash", "zsh", "fish"):
        said = run("completion", shell)
        assert said.code == 0
        assert f"_TASKMILL_COMPLETE={shell}_complete" in said.out
    assert run("completion", "tcsh").code == 2
