#!/usr/bin/env bash
# Take down a cluster and check that it is: infra/down.sh ray_cluster.yaml
# `ray down` alone stops Ray on the head of an on-premises cluster; the workers notice a minute
# later, and the tracking server stays. It keeps its database and artifacts in any case.
set -euo pipefail
[ $# = 1 ] || { echo "error: give the cluster's file, as for ray up" >&2; exit 2; }
if grep -Eq '^ *type: *local' "$1"; then
    ray exec "$1" 'bash ~/mianet/infra/stop.sh'
fi
ray down -y "$1"
