#!/usr/bin/env bash
# The first process of a host of the rehearsal, inside its namespaces: gives it files of its own,
# then an SSH server if it is given a key that may enter.
#   host.sh NAME PROJECT KEY SHARED PATH...
# PATHs stay visible, read-only, and so does SHARED, writable; PROJECT is hidden unless it is named.
set -euo pipefail
name=$1 project=$2 key=$3 shared=$4
shift 4
hostname "$name"
stamp=$({ "$1/bin/python" --version; cat "$project"/{pyproject.toml,constraints.txt}; } | cksum)

mount -t tmpfs tmpfs /mnt
number=0
for path in "$@" ${shared:+"$shared"}; do
    mkdir "/mnt/$((number += 1))"
    mount --rbind "$path" "/mnt/$number"
done
for folder in /home /root /run /tmp /dev/shm /etc/postgresql /var/{lib,log}/postgresql "$project"; do
    [ ! -d "$folder" ] || mount -t tmpfs tmpfs "$folder"
done
chmod 1777 /tmp /dev/shm
chmod 700 /root
number=0
for path in "$@" ${shared:+"$shared"}; do
    mkdir -p "$path"
    mount --rbind "/mnt/$((number += 1))" "$path"
    [ "$path" = "$shared" ] || mount -o remount,bind,ro "$path"
done
[ ! -d /var/lib/postgresql ] || chown postgres: /var/{lib,log}/postgresql
printf '127.0.0.1 localhost\n%s %s\n' "$(hostname -I | tr -d ' ')" "$name" > /run/hosts
mount --bind /run/hosts /etc/hosts

if [ -n "$key" ]; then
    # The image of the machine: the pinned packages are installed, as infra/venv.sh leaves them.
    mkdir -p /root/mianet/.venv /root/.ssh /run/sshd
    ln -s "$1"/* /root/mianet/.venv
    echo "$stamp" > /root/mianet/.venv/.installed-cluster
    echo "$key" > /root/.ssh/authorized_keys
    sed 's/^root:[^:]*:/root:*:/' /etc/shadow > /run/shadow  # sshd admits nobody whose account is locked
    chmod 600 /run/shadow
    mount --bind /run/shadow /etc/shadow
    ssh-keygen -q -t ed25519 -N '' -f /run/sshd/key
    /usr/sbin/sshd -D -E /run/sshd/log -f /dev/stdin <<END &
HostKey /run/sshd/key
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
SetEnv PYTHONPATH=/root/mianet PYTHON=$1/bin/python
END
fi
while :; do wait -n || sleep 1; done  # and reap what is left behind, as an init does
