#!/usr/bin/env bash
# Starts the dispatcher; settings come from the environment and .env, `--help` shows the options.
set -euo pipefail
# Runs in the repository: a folder `dispatcher` where the user happens to stand must not be taken for ours.
# Relative paths in settings and options count from here as well, so they mean the same from everywhere.
cd -- "$(dirname -- "${BASH_SOURCE[0]}")" >/dev/null
./setup_venv.sh
exec .venv/bin/python -m dispatcher "$@"
