#!/usr/bin/env bash
# Run the tests, two files at a time. Further options are passed on to pytest; -n 0 runs them in one
# process.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash infra/venv.sh dev
unset PYTHONDONTWRITEBYTECODE # the tests start many processes, which would all compile the project
exec .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
