#!/usr/bin/env bash
# Makes .venv with the pinned requirements; `--dev` adds what the tests need. Instant when it is up to date.
#
# A copy of the requirements, written last, says that they are installed. While the venv is being changed it
# carries a mark: one that still has it was interrupted, and is emptied and made anew.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" >/dev/null && pwd -P)
venv=$root/.venv
mark=$venv/unfinished
wanted=requirements
[[ ${1:-} != --dev ]] || wanted=requirements-dev

die() {
    echo "setup: $1" >&2
    exit 1
}

contents() {  # of the requirements that are wanted; the longer list includes the shorter
    cat "$root/requirements.txt"
    [[ $wanted = requirements ]] || cat "$root/$wanted.txt"
}

up_to_date() {
    [[ ! -e $mark && -x $venv/bin/python ]] && contents | cmp -s - "$venv/$wanted"
}

find_python() {
    python=${PYTHON:-python3}
    if [[ -z ${PYTHON:-} ]] && is_plain_build python3 && suits /usr/bin/python3; then
        python=/usr/bin/python3
        echo "setup: taking $python; $(command -v python3) was built without optimizations, which costs a third of" \
            "the speed (PYTHON=python3 takes it all the same)" >&2
    fi
    command -v "$python" >/dev/null || die "python3 is missing; Taskmill needs Python 3.10 or later"
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        die "$python is Python $version; Taskmill needs 3.10 or later (PYTHON=/path/to/python chooses another)"
    # Debian and Ubuntu split it off.
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        die "Python $version lacks its venv module; install it with:  sudo apt install python$version-venv"
}

is_plain_build() {  # by hand, or by pyenv as it is by default; distributions name their flags in other places
    "$1" -c 'import sys, sysconfig; told = sysconfig.get_config_var("CONFIG_ARGS")
sys.exit(sys.base_prefix == "/usr" or told is None or "--enable-optimizations" in told)' 2>/dev/null
}

suits() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

lock() {  # held until this process ends: two scripts may come at once
    if command -v flock >/dev/null; then
        exec 9<"$root"
        flock 9
        return
    fi
    until mkdir "$root/.venv.lock" 2>/dev/null; do
        kill -0 "$(cat "$root/.venv.lock/pid" 2>/dev/null || echo $$)" 2>/dev/null || rm -rf "$root/.venv.lock"
        sleep 0.2
    done
    echo $$ >"$root/.venv.lock/pid"
    trap 'rm -rf "$root/.venv.lock"' EXIT
}

make_venv() {
    mkdir -p "$venv"
    touch "$mark"
    find "$venv" -mindepth 1 -maxdepth 1 ! -path "$mark" -exec rm -rf {} +
    "$python" -m venv "$venv" || die "making $venv failed"
}

install() {
    echo "setup: installing $wanted.txt into $venv (takes up to a minute)" >&2
    # One that was made completely, perhaps by hand, is kept.
    { [[ ! -e $mark ]] && "$venv/bin/python" -c 'import pip' 2>/dev/null; } || make_venv
    touch "$mark"
    rm -f "$venv/requirements" "$venv/requirements-dev"
    if ! pip_install; then
        rm "$mark"  # pip gave up by itself (no network?): what it leaves is whole, and can be tried again
        die "pip could not install $wanted.txt"
    fi
    cp "$root/requirements.txt" "$venv/requirements"
    contents >"$venv/$wanted"
    rm "$mark"
}

pip_install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --root-user-action=ignore \
        -r "$root/$wanted.txt"
}

up_to_date && exit
trap 'exit 130' INT TERM HUP  # at once, so that an interrupted pip is not mistaken for one that gave up
find_python
lock
up_to_date || install
