#!/usr/bin/env bash
# All checks:  ./test.sh [--long] [pytest options]   (--long: the long tests too). Leaves nothing behind.
# shellcheck disable=SC2317  # functions are called through part()
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")" >/dev/null
./setup_venv.sh --dev

TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/taskmill-test.XXXXXX")  # for pytest and all that it starts
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
summary=
failed=0

part() {  # NAME COMMAND...: runs it, notes how long it took and whether it passed; the next part runs all the same
    local name=$1 began=$SECONDS verdict=ok
    shift
    echo "== $name"
    "$@" || verdict=FAILED
    [[ $verdict = ok ]] || failed=1
    summary+=$(printf '%-20s %4d s  %s' "$name" $((SECONDS - began)) "$verdict")$'\n'
}

run_pytest() {
    .venv/bin/python tests/leftovers.py .venv/bin/python -m pytest "$@" 2>&1 | tee "$TMPDIR/pytest.log"
}

tree_state() {
    git status --porcelain 2>/dev/null || echo "no git here"
}

tree_unchanged() {
    [[ $before = "$(tree_state)" ]] || diff <(echo "$before") <(tree_state)
}

before=$(tree_state)
part "ruff check" .venv/bin/python -m ruff check .
part "ruff format" .venv/bin/python -m ruff format --check .
part "mypy" .venv/bin/python -m mypy
part "pytest" run_pytest "$@"
part "tree unchanged" tree_unchanged

printf '\n%s%-20s %4d s\n' "$summary" "in all" "$SECONDS"
tail -n 1 "$TMPDIR/pytest.log"  # pytest's own closing line
exit $failed
