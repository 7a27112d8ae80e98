#!/usr/bin/env bash
# Make this machine a node of a cluster: system packages, the pinned Python packages, the token and
# the environment. Quick when there is nothing to do. `infra/node.sh head` adds what a head needs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. infra/common.sh

packages=()
"${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
command -v git >/dev/null || packages+=(git)
command -v rsync >/dev/null || packages+=(rsync)
if [ "${1:-worker}" = head ]; then
    command -v curl >/dev/null || packages+=(curl)
    command -v pg_createcluster >/dev/null || packages+=(postgresql)
fi
if [ ${#packages[@]} -gt 0 ]; then
    as_root apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install "${packages[@]}" > /dev/null
fi

bash infra/venv.sh cluster

token=$HOME/.ray/auth_token
[ -s "$token" ] || fail "a node must have Ray's token, but there is no $token; run infra/token.sh" \
    "where you run ray up, then run ray up again"
chmod 700 "$HOME/.ray"
chmod 600 "$token"

# The first line, since many a ~/.bashrc ends early for shells that nobody types into.
line=". '$PWD/infra/env.sh'"
touch "$HOME/.bashrc"
if ! grep -qxF "$line" "$HOME/.bashrc"; then
    printf '%s\n' "$line" "$(cat "$HOME/.bashrc")" > "$HOME/.bashrc"
fi
echo "node ready: $(.venv/bin/python --version), $(.venv/bin/python -c \
    'from importlib.metadata import version; print("Ray", version("ray"))')"
