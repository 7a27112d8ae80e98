#!/usr/bin/env bash
# Search MIANet's hyperparameters on the embedded numbers, train the best and test it.
# Further options are passed on to tuning/search.py.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/infra/venv.sh"
exec "$root/.venv/bin/python" "$root/tuning/search.py" \
    --dataset numbers --trials 32 --max-epochs 30 "$@"
