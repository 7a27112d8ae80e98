#!/usr/bin/env bash
# Run `ray start …` unless it runs with these very arguments, token and packages; so `ray up` on a
# cluster that runs changes nothing, and does not end its searches.
#   infra/once.sh ray start --address="$RAY_HEAD_IP:6379"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. infra/common.sh
. infra/env.sh
mkdir -p "$state"
wanted=$({ echo "$@"; cat "$HOME/.ray/auth_token" .venv/.installed-cluster; } | sha256sum)
if pgrep -u "$(id -u)" -x raylet >/dev/null && [ "$(cat "$state/ray" 2>/dev/null)" = "$wanted" ]; then
    echo "Ray is already running with these settings; nothing changed"
    exit 0
fi
ray stop --force >/dev/null
ulimit -n 65536 2>/dev/null || true
"$@"
echo "$wanted" > "$state/ray"
