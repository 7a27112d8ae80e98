"""Check a cluster, on its head: are the workers there, and are all nodes equal?

    python infra/check.py --workers 2

waits until that many workers have joined, and prints a line for each node.
"""

from __future__ import annotations

import os
import platform
import time
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mianet.errors import InputError
from tuning.cli.command_line import Parser, command
from tuning.cli.options import count, duration
from tuning.compute import connection
from tuning.spec.provenance import PACKAGES, code_digest, package_version

POLL_SECONDS = 1


@command
def main() -> int:
    parser = Parser("Check a cluster, on its head.")
    parser.add_argument("--workers", type=count, default=0, help="workers to wait for")
    parser.add_argument(
        "--timeout", type=duration, default=600.0, help="how long to wait: 90s, 10m"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_ADDRESS", "auto")
    print(connection.connect())
    nodes = _wait_for_nodes(arguments.workers, arguments.timeout)
    found = set()
    for node in nodes:
        on_node = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        software = ray.get(_software.options(scheduling_strategy=on_node).remote(), timeout=120)
        found.add(software)
        address, resources = node["NodeManagerAddress"], node["Resources"]
        print(
            f"{address}: {resources.get('CPU', 0):g} CPU, {resources.get('GPU', 0):g} GPU, "
            f"{software}"
        )
    if len(found) > 1:
        raise InputError(
            "all nodes must have the same software, but the ones above differ; run ray up again, "
            "and replace any node that still differs"
        )
    return 0


def _wait_for_nodes(workers: int, timeout: float) -> list[dict[str, Any]]:
    deadline = time.monotonic() + timeout
    while True:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if len(nodes) > workers:
            return nodes
        if time.monotonic() > deadline:
            raise InputError(
                f"{workers} workers must join within {timeout:g} s, but {len(nodes) - 1} did; see "
                "logs/monitor.* in Ray's session folder on the head to find out why"
            )
        time.sleep(POLL_SECONDS)


@ray.remote(num_cpus=0)
def _software() -> str:
    """Return what is installed on the node where it runs: names with versions."""
    versions = {package: package_version(package) for package in PACKAGES}
    found = {"Python": platform.python_version(), **versions, "code": code_digest()}
    return ", ".join(f"{name} {version}" for name, version in found.items())


if __name__ == "__main__":
    main()
