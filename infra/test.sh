#!/usr/bin/env bash
# Run the tests. Further options are passed on to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash infra/venv.sh dev
exec .venv/bin/python -m pytest "$@"
