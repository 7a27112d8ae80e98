#!/usr/bin/env bash
# Make .venv beside the project with the pinned packages; quick when there is nothing to do.
#   infra/venv.sh        what a search needs
#   infra/venv.sh dev    and what the tests and linters need
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extra=${1:-}
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: Python 3.11 or newer is needed, but $python is $("$python" --version 2>&1); set PYTHON" >&2
    exit 2
}
stamp=$({ "$python" --version; cat pyproject.toml constraints.txt; } | cksum)
done_file=.venv/.installed${extra:+-$extra}
if [ "$(cat "$done_file" 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi
[ -x .venv/bin/python ] || "$python" -m venv .venv || {
    echo "error: $python cannot create virtual environments; install its venv package (python3-venv)" >&2
    exit 2
}
echo "installing into .venv, once; this takes a minute or more" >&2
.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable ".${extra:+[$extra]}"
echo "$stamp" > "$done_file"
