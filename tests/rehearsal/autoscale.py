"""Ask a cluster that has no GPU yet for trials that need one; say what the autoscaler does.

autoscale.py FILE runs on a host of its own. FILE is a cluster file with Ray's own fake provider,
which starts nodes as processes. Prints the most nodes there were, and how many stayed, as JSON.
"""

import json
import os
import subprocess
import sys
import threading
import time

import ray
from ray import tune

from tuning.compute import cluster, connection

IDLE_SECONDS = 90


def main(file: str) -> None:
    """Start the head, run the trials, and wait until no worker is left."""
    fake_head = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
    environment = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": fake_head,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": fake_head,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    subprocess.run(
        [
            *("ray", "start", "--head", "--num-cpus=0", "--num-gpus=0"),
            *("--object-store-memory=80000000", f"--autoscaling-config={file}"),
        ],
        env={**os.environ, **environment},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    os.environ[cluster.AUTOSCALING_VARIABLE] = file
    os.environ["RAY_ADDRESS"] = "auto"
    connection.connect()
    share = cluster.share_resources(trials=6)
    most = [0]
    over = threading.Event()
    watcher = threading.Thread(target=watch, args=(most, over))
    watcher.start()
    results = tune.Tuner(
        tune.with_resources(trial, tune.PlacementGroupFactory([share.resources])),
        tune_config=tune.TuneConfig(
            metric="done", mode="max", num_samples=6, max_concurrent_trials=share.workers
        ),
        run_config=tune.RunConfig(verbose=0),
    ).fit()
    over.set()
    watcher.join()
    deadline = time.monotonic() + IDLE_SECONDS
    while workers() and time.monotonic() < deadline:
        time.sleep(0.5)
    said = {"at_once": share.workers, "gpus": share.gpus, "cpus": share.cpus}
    said |= {"done": len(results), "most": most[0], "left": workers()}
    print(json.dumps(said), flush=True)


def trial(config: dict[str, object]) -> dict[str, int]:
    """Take a GPU's place for a while."""
    time.sleep(2)
    return {"done": len(ray.get_gpu_ids())}


def watch(most: list[int], over: threading.Event) -> None:
    """Note the most workers there are at once."""
    while not over.wait(0.2):
        most[0] = max(most[0], workers())


def workers() -> int:
    """Return how many workers are alive."""
    return sum(node["Alive"] and node["Resources"].get("GPU", 0) > 0 for node in ray.nodes())


if __name__ == "__main__":
    main(sys.argv[1])
