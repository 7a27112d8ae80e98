#!/usr/bin/env bash
# Install the Debian packages that tests want beside Python's: a browser for the report's page,
# PostgreSQL for the record, an SSH server and namespaces' tools for the rehearsal of a cluster.
# Where that is not possible it says so and goes on: the tests that need them skip.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=()
want() { command -v "$1" >/dev/null || packages+=("$2"); }
PATH=$PATH:/usr/sbin:/sbin
want sshd openssh-server
want ssh openssh-client
want rsync rsync
want curl curl
want ip iproute2
want nsenter util-linux
want pg_createcluster postgresql
want chromium chromium
[ ${#packages[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed, since root and apt-get are needed: ${packages[*]}; tests that need them are skipped" >&2
    exit 0
fi
echo "installing ${packages[*]}" >&2
log=$(mktemp)
if ! { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
    install "${packages[@]}"; } > "$log" 2>&1; then
    tail -5 "$log" >&2
    echo "could not be installed: ${packages[*]}; tests that need them are skipped" >&2
fi
rm -f "$log"
