#!/usr/bin/env bash
# Starts a worker:  ./start_worker.sh NAME [options]   (`--help` shows them; settings as in .env.example)
set -euo pipefail
# Runs in the repository: a folder `worker` where the user happens to stand must not be taken for ours.
# Relative paths in settings and options count from here as well, so they mean the same from everywhere.
cd -- "$(dirname -- "${BASH_SOURCE[0]}")" >/dev/null
./setup_venv.sh
exec .venv/bin/python -m worker "$@"
