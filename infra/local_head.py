"""Make Ray's second autoscaler count the hosts of `provider: local` correctly; run on the head.

It mistakes the head for a worker, and would leave out a real one. So the head is noted where the
provider counts its hosts, as Ray's first autoscaler did by itself, and one more host is requested,
in a copy of the cluster's file that the autoscaler is started with.
"""

import json
from pathlib import Path

import yaml
from ray.autoscaler._private.local.node_provider import (
    LocalNodeProvider,
    record_local_head_state_if_needed,
)

COPY = Path.home() / ".mianet/autoscaling.yaml"

cluster = yaml.safe_load((Path.home() / "ray_bootstrap_config.yaml").read_text())
hosts = 1 + len(cluster["provider"]["worker_ips"])
(kind,) = cluster["available_node_types"].values()
kind["min_workers"] = kind["max_workers"] = cluster["max_workers"] = hosts
record_local_head_state_if_needed(LocalNodeProvider(cluster["provider"], cluster["cluster_name"]))
COPY.parent.mkdir(exist_ok=True)
written = COPY.with_suffix(".part")
written.write_text(json.dumps(cluster))
written.replace(COPY)  # a running autoscaler keeps rereading it
