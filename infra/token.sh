#!/usr/bin/env bash
# Make the token that lets drivers, clients and nodes into a Ray cluster, readable by you alone.
# It stays what it is when there is one; `ray up` brings it to the nodes.
set -euo pipefail
file=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
umask 077
mkdir -p "$(dirname "$file")"
[ -s "$file" ] || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$file"
chmod 600 "$file"
echo "$file"
