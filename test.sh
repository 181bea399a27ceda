#!/usr/bin/env bash
# All checks:  ./test.sh [--long] [pytest options]   (--long: the long tests too). Leaves nothing behind.
# shellcheck disable=SC2317  # functions are called through part()
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")" >/dev/null
./setup_venv.sh --dev

TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/taskmill-test.XXXXXX")  # for pytest and all that it starts
export TMPDIR
# hundreds of processes start: each module is compiled once, and not into the tree
export PYTHONPYCACHEPREFIX=$TMPDIR/pycache
unset PYTHONDONTWRITEBYTECODE
trap 'wait; rm -rf "$TMPDIR"' EXIT

need_chromium() {  # for the tests of the dashboard
    [[ -x /usr/bin/chromium ]] && return
    echo "test: installing chromium" >&2
    local as_root=()
    [[ $EUID -eq 0 ]] || as_root=(sudo -n)
    "${as_root[@]}" apt-get update -qq && "${as_root[@]}" apt-get install -y -qq --no-install-recommends chromium >/dev/null ||
        { echo "test: chromium is missing; install it with:  sudo apt install chromium" >&2; exit 1; }
}

part() {  # NAME COMMAND...: runs it, notes how long it took and whether it passed; the next part runs all the same
    local name=$1 began=$SECONDS verdict=ok
    shift
    echo "== $name"
    "$@" || verdict=FAILED
    printf '%-20s %4d s  %s\n' "$name" $((SECONDS - began)) "$verdict" >>"$TMPDIR/summary"
}

run_pytest() {
    local code=0
    .venv/bin/python tests/leftovers.py .venv/bin/python -m pytest "$@" 2>&1 | tee "$TMPDIR/pytest.log" || code=$?
    tail -n 1 "$TMPDIR/pytest.log" >>"$TMPDIR/closing"
    return "$code"
}

checks() {
    part "ruff check" .venv/bin/python -m ruff check .
    part "ruff format" .venv/bin/python -m ruff format --check .
    part "mypy" .venv/bin/python -m mypy
}

everything() {  # what measures times or loads the machine comes by itself, the rest on two processors at once
    .venv/bin/python tests/compiled.py
    .venv/bin/python -c "import cli.main, client.testing, dispatcher.__main__, dispatcher.running, worker.__main__"  # compiled for all
    part "several dispatchers" run_pytest tests/faults/test_several_*.py "$@"  # waits more than it computes
    checks >"$TMPDIR/checks" 2>&1 &
    part "tests" run_pytest tests --ignore tests/faults -n 2 --dist worksteal "$@"
    wait "$!"
    cat "$TMPDIR/checks"
    part "faults" run_pytest tests/faults --ignore-glob '*several*' "$@"
}

asks_for_some() {  # whether an argument names tests
    local argument
    for argument in "$@"; do
        [[ $argument != -* && -e ${argument%%::*} ]] && return
    done
    return 1
}

tree_state() {
    git status --porcelain 2>/dev/null || echo "no git here"
}

tree_unchanged() {
    [[ $before = "$(tree_state)" ]] || diff <(echo "$before") <(tree_state)
}

asks_for_some "$@" || need_chromium
before=$(tree_state)
if asks_for_some "$@"; then checks; part "pytest" run_pytest "$@"; else everything "$@"; fi
part "tree unchanged" tree_unchanged

printf '\n%s\n%-20s %4d s\n' "$(cat "$TMPDIR/summary")" "in all" "$SECONDS"
cat "$TMPDIR/closing"  # pytest's own closing lines
! grep -q FAILED "$TMPDIR/summary"
