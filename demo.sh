#!/usr/bin/env bash
# Shows Taskmill at work: a dispatcher, two workers, six tasks. Runs until Ctrl-C;  --exit: ends by itself.
#
# All that it starts runs in the background in a process group of its own, so that Ctrl-C reaches only this script
# and a signal is answered at once, also while a step is running. Everything ends in clean_up, whatever the cause:
# steps and workers, then the dispatcher, politely; what is still there after a grace is killed.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")" >/dev/null

case ${1:-} in
    "" | --exit) ;;
    *) echo "usage: ./demo.sh [--exit]" >&2 && exit 2 ;;
esac

home=
dispatcher=
workers=()

start() {  # COMMAND...: in its own process group; its id is then in $!
    set -m
    "$@" </dev/null &
    set +m
}

run() {  # COMMAND...: to its end
    start "$@"
    wait $!
}

logged() {  # NAME COMMAND...
    local log=$home/$1.log
    shift
    exec "$@" >"$log" 2>&1
}

make_home() {  # the demo's own small world, whatever .env says (set to nothing means unset)
    home=$(mktemp -d "${TMPDIR:-/tmp}/taskmill-demo.XXXXXX")
    export DB_PATH=$home/taskmill.db CACHE_DIR=$home/cache LOG_LEVEL=INFO PRIMES_MAX_LIMIT=100000000
    export DISPATCHER_HOST=127.0.0.1 DISPATCHER_PORT=${DISPATCHER_PORT:-5000} DISPATCHER_TOKEN='' DISPATCHER_CA=''
    export WORKER_ID='' WORKER_QUEUES='' WORKER_TASK_TYPES='' WORKER_LABELS='' WORKER_DRAIN_SECONDS=3 TASKS_PATH=''
}

start_dispatcher() {  # PORT: false when it did not come up
    DISPATCHER_PORT=$1 start logged dispatcher ./start_dispatcher.sh
    dispatcher=$!
    until url=$(grep -om1 'listening on http://[^ "]*' "$home/dispatcher.log" 2>/dev/null); do
        kill -0 "$dispatcher" 2>/dev/null || return 1
        sleep 0.1
    done
    export DISPATCHER_URL=${url#listening on }
}

start_worker() {
    start logged "$1" ./start_worker.sh "$1"
    workers+=($!)
}

field() {  # PATH NAME...: those fields of the answer's data
    .venv/bin/python - "$DISPATCHER_URL$1" "${@:2}" <<'PYTHON'
import json, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=40) as answer:
    data = json.load(answer)["data"]
print(*(data.get(name) for name in sys.argv[2:]))
PYTHON
}

wait_for_workers() {
    until [[ $(field /stats active_workers) = "${#workers[@]}" ]]; do
        for pid in "$dispatcher" "${workers[@]}"; do kill -0 "$pid"; done
        sleep 0.2
    done
}

check() {  # TASK_ID COUNT: the task has completed and found that many primes
    local result
    result=$(field "/task/$1?wait=25" status count assigned_to)
    echo "task $1: $result"
    [[ $result = "completed $2 "* ]] || { echo "wrong: expected completed, $2 primes" >&2 && exit 1; }
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
    local status=$? others
    trap '' INT TERM HUP PIPE
    set +e
    ((status == 0 || status > 128)) || tail -n 15 "$home"/*.log >&2
    {
        others=$(jobs -pr | grep -vx "$dispatcher")
        # shellcheck disable=SC2086  # a list of numbers
        stop 10 $others
        [[ -z $dispatcher ]] || stop 6 "$dispatcher"
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

make_home
run ./setup_venv.sh
start_dispatcher "$DISPATCHER_PORT" || start_dispatcher 0
echo "The dispatcher listens on $DISPATCHER_URL; two workers join it."
start_worker worker-1
start_worker worker-2
wait_for_workers
echo "Five tasks, the primes up to 100,000:  python3 add_task.py 5 100000"
run .venv/bin/python add_task.py 5 100000
echo "One more, up to 100,000,000:  python3 add_task.py --type prime --data '{\"limit\": 100000000}' --wait"
run .venv/bin/python add_task.py --type prime --data '{"limit": 100000000}' --wait
echo "The results (state, number of primes, worker):"
for id in 1 2 3 4 5; do check $id 9592; done
check 6 5761455
[[ ${1:-} != --exit ]] || exit 0

trap 'exit 0' INT TERM HUP  # the ordinary end
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
wait "$dispatcher"
