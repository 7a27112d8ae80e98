"""Print what each node's object store holds, as JSON: address → bytes."""

import json

import ray
from ray._private.internal_api import node_stats

ray.init(logging_level="ERROR", log_to_driver=False)
used = {}
for node in ray.nodes():
    if node["Alive"]:
        address = node["NodeManagerAddress"]
        stats = node_stats(address, node["NodeManagerPort"]).store_stats
        used[address] = stats.object_store_bytes_used
print(json.dumps(used))
