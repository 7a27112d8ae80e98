#!/usr/bin/env bash
# On the head of an on-premises cluster: stop Ray on the workers, then here, and the tracking server.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. infra/common.sh
. infra/env.sh
ray stop >/dev/null  # first of all the autoscaler, which would start them again
read -r user workers <<< "$(python - <<'END'
import json, pathlib
cluster = json.loads((pathlib.Path.home() / "ray_bootstrap_config.yaml").read_text())
print(cluster["auth"]["ssh_user"], *cluster["provider"]["worker_ips"])
END
)"
failed=0
for worker in $workers; do
    ssh -i ~/ray_bootstrap_key.pem -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o LogLevel=ERROR -o ConnectTimeout=20 "$user@$worker" \
        '. ~/.bashrc; ray stop >/dev/null; rm -rf ~/.mianet/ray /tmp/ray; ! pgrep -x raylet' ||
        { echo "error: Ray may still be running on $worker; stop it there" >&2; failed=1; }
done
bash infra/tracking.sh stop
rm -rf "$state/ray" /tmp/ray
exit "$failed"
