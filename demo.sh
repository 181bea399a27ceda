#!/usr/bin/env bash
# Shows Taskmill at work: a dispatcher, two workers, six tasks. Runs until Ctrl-C;  --exit: ends by itself.
#
# All that it starts runs in the background in a process group of its own, so that Ctrl-C reaches only this script
# and a signal is answered at once, also while a step is running. Everything ends in clean_up, whatever the cause:
# the step, the workers, then the dispatcher, politely; what is still there after a grace is killed.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")" >/dev/null

case ${1:-} in
    "" | --exit) ;;
    *) echo "usage: ./demo.sh [--exit]" >&2 && exit 2 ;;
esac

home=$(mktemp -d "${TMPDIR:-/tmp}/taskmill-demo.XXXXXX")
step=()  # process ids
workers=()
dispatcher=()

# The demo's own small world, whatever .env says (set to nothing means unset).
export DB_PATH=$home/taskmill.db CACHE_DIR=$home/cache PRIMES_MAX_LIMIT=100000000
export DISPATCHER_HOST=127.0.0.1 DISPATCHER_PORT=${DISPATCHER_PORT:-5000}
export DISPATCHER_TOKEN='' DISPATCHER_CA='' WORKER_ID='' TASKS_PATH=''
export WORKER_QUEUES='' WORKER_TASK_TYPES='' WORKER_LABELS=''

start() {  # COMMAND...: in its own process group; its id is then in $!
    set -m
    "$@" </dev/null &
    set +m
}

run() {  # COMMAND...: to its end
    start "$@"
    step=($!)
    wait $!
    step=()
}

say_and_run() {
    echo "\$ $*"
    run "$@"
}

logged() {  # NAME COMMAND...
    local log=$home/$1.log
    shift
    exec "$@" >"$log" 2>&1
}

start_dispatcher() {  # on PORT; false when it did not come up
    DISPATCHER_PORT=$1 start logged dispatcher ./start_dispatcher.sh
    dispatcher=($!)
    until url=$(grep -om1 'listening on http://[^ ]*' "$home/dispatcher.log" 2>/dev/null); do
        kill -0 "${dispatcher[0]}" 2>/dev/null || return 1
        sleep 0.1
    done
    export DISPATCHER_URL=${url#listening on }
}

start_worker() {
    start logged "$1" ./start_worker.sh "$1"
    workers+=($!)
}

check() {  # TASK_ID COUNT: the task has completed and found that many primes
    .venv/bin/python - "$DISPATCHER_URL/task/$1?wait=25" "$2" <<'PYTHON'
import json, sys, urllib.request
data = json.load(urllib.request.urlopen(sys.argv[1], timeout=40))["data"]
count, expected = data.get("count"), int(sys.argv[2])
print(f"task {data['task_id']}: {data['status']}, {count:,} primes, by {data['assigned_to']}")
sys.exit(0 if (data["status"], count) == ("completed", expected) else f"wrong: expected {expected:,}")
PYTHON
}

stop() {  # GRACE_SECONDS PID...
    local tries=$(($1 * 10)) pid
    shift
    for pid in "$@"; do kill -TERM -- "-$pid"; done
    for pid in "$@"; do
        while kill -0 "$pid" && ((tries-- > 0)); do sleep 0.1; done
        kill -KILL -- "-$pid"
    done
}

clean_up() {
    local status=$?
    trap '' INT TERM HUP PIPE
    set +e
    ((status == 0 || status > 128)) || tail -n 15 "$home"/*.log >&2
    {
        stop 3 "${step[@]+"${step[@]}"}"
        stop 10 "${workers[@]+"${workers[@]}"}"
        stop 6 "${dispatcher[@]+"${dispatcher[@]}"}"
        wait
    } 2>/dev/null
    rm -rf "$home"
    exit "$status"
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
trap 'exit 141' PIPE

run ./setup_venv.sh
start_dispatcher "$DISPATCHER_PORT" || start_dispatcher 0
echo "The dispatcher listens on $DISPATCHER_URL; two workers join it."
start_worker worker-1
start_worker worker-2
say_and_run .venv/bin/python add_task.py 5 100000
say_and_run .venv/bin/python add_task.py --type prime --data '{"limit": 100000000}' --wait

for id in 1 2 3 4 5; do check $id 9592; done
check 6 5761455
[[ ${1:-} != --exit ]] || exit 0

cat <<EOT

All is right. The dispatcher and both workers keep running; go on in another terminal:
  export DISPATCHER_URL=$DISPATCHER_URL
  python3 add_task.py 3 1000000 --wait
  curl $DISPATCHER_URL/stats
  curl $DISPATCHER_URL/task/6
  curl -H 'Content-Type: application/json' -d '{"task_type": "prime", "task_data": {"limit": 1000}}' $DISPATCHER_URL/submit-task
  ./start_worker.sh worker-3
Ctrl-C ends it all.
EOT
trap 'exit 0' INT TERM HUP  # the ordinary end
wait "${dispatcher[0]}"
