#!/usr/bin/env bash
# The tracking server of a cluster, on its head: MLflow before PostgreSQL, restarted when it ends.
#   infra/tracking.sh start ARTIFACTS    a bucket, such as s3://mine/mianet, or a folder
#   infra/tracking.sh stop
# PostgreSQL listens to a socket of this machine alone and knows its user by the operating system,
# so there is no password. MLflow listens on 127.0.0.1 and on the node's inside address.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. infra/common.sh
. infra/env.sh
database=mianet
pid_file=$state/tracking.pid
mkdir -p "$state"

healthy() { curl -fsS -m 5 "http://127.0.0.1:$MIANET_TRACKING_PORT/health" >/dev/null 2>&1; }
alive() { [ -s "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }
as_postgres() { (cd / && as_root runuser -u postgres -- "$@"); }
postgres_cluster() { pg_lsclusters -h | awk -v name="$database" '$2 == name'; }

start_postgres() {
    local version
    if [ -z "$(postgres_cluster)" ]; then
        version=$(find /usr/lib/postgresql -maxdepth 1 -name '[0-9]*' -printf '%f\n' | sort -n | tail -1)
        as_root pg_createcluster "$version" "$database" -e UTF8 --locale C.UTF-8 -- \
            --auth=peer > /dev/null
        as_root pg_conftool "$version" "$database" set listen_addresses ''
    fi
    read -r version _ port status _ <<< "$(postgres_cluster)"
    [ "$status" = online ] || as_root pg_ctlcluster "$version" "$database" start
    as_postgres psql -p "$port" -qtAc "SELECT 1 FROM pg_roles WHERE rolname = '$(id -un)'" | grep -q 1 ||
        as_postgres createuser -p "$port" "$(id -un)"
    as_postgres psql -p "$port" -qtAc "SELECT 1 FROM pg_database WHERE datname = '$database'" | grep -q 1 ||
        as_postgres createdb -p "$port" -O "$(id -un)" "$database"
}

serve() {
    local inside binds=()
    inside=$(python -c 'import ray.util; print(ray.util.get_node_ip_address())')
    export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false  # seven more processes, for what is not used
    [ "$inside" = 127.0.0.1 ] || binds=(-b "$inside:$MIANET_TRACKING_PORT")
    setsid bash -c 'while :; do "$@"; sleep 2; done' tracking \
        mlflow server --host 127.0.0.1 --port "$MIANET_TRACKING_PORT" --workers 2 \
        --backend-store-uri "postgresql+psycopg2:///$database?host=/var/run/postgresql&port=$port" \
        --artifacts-destination "$1" --gunicorn-opts "${binds[*]} --timeout 120" \
        >> "$state/tracking.log" 2>&1 < /dev/null &
    echo $! > "$pid_file"
}

start() {
    [ $# = 1 ] || fail "infra/tracking.sh start must be given a bucket or folder for artifacts"
    start_postgres
    if alive; then
        echo "the tracking server is already running; nothing changed"
        return
    fi
    serve "$1"
    for _ in $(seq 90); do
        healthy && echo "the tracking server answers on port $MIANET_TRACKING_PORT" && return
        sleep 1
    done
    tail -20 "$state/tracking.log" >&2
    fail "the tracking server must answer within 90 s, but does not; see $state/tracking.log"
}

stop() {
    if alive; then
        kill -- "-$(cat "$pid_file")" 2>/dev/null || true
        rm -f "$pid_file"
    fi
    read -r version _ _ status _ <<< "$(postgres_cluster)"
    [ "${status:-down}" != online ] || as_root pg_ctlcluster "$version" "$database" stop -m fast
}

"$@"
