#!/usr/bin/env bash
# Bring data sets to this node: infra/stage.sh SOURCE [DATASET ...]; see infra/stage.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. infra/env.sh
exec python infra/stage.py "$@"
