"""Try to get into a cluster without its token, by each door; print what each says.

intrude.py HEAD runs on another host. Each line is a door's name and its answer.
"""

import sys
import urllib.error
import urllib.request

import grpc
from ray.core.generated import (
    gcs_service_pb2,
    gcs_service_pb2_grpc,
    ray_client_pb2,
    ray_client_pb2_grpc,
)


def driver(head: str) -> str:
    """Ask the GCS for the cluster's identity, as a driver does first."""
    stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(grpc.insecure_channel(f"{head}:6379"))
    return _answer(lambda: stub.GetClusterId(gcs_service_pb2.GetClusterIdRequest(), timeout=20))


def client(head: str) -> str:
    """Ask Ray's client server for what it is, as ``ray.init("ray://…")`` does first."""
    stub = ray_client_pb2_grpc.RayletDriverStub(grpc.insecure_channel(f"{head}:10001"))
    kind = ray_client_pb2.ClusterInfoType.PING
    request = ray_client_pb2.ClusterInfoRequest(type=kind)
    return _answer(lambda: stub.ClusterInfo(request, timeout=20))


def agent(head: str) -> str:
    """Ask the dashboard's agent, which starts jobs, and listens on the inside address."""
    return _http(f"http://{head}:52365/api/job_agent/jobs/x")


def dashboard(head: str) -> str:
    """Ask for the dashboard from another host."""
    return _http(f"http://{head}:8265/api/version")


def database(head: str) -> str:
    """Ask for PostgreSQL from another host."""
    return _http(f"http://{head}:5432/")


def _answer(call: object) -> str:
    try:
        return f"ADMITTED {call()}"  # type: ignore[operator]
    except grpc.RpcError as error:
        return str(error.code().name)


def _http(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return f"ADMITTED {answer.status}"
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return type(getattr(error, "reason", error)).__name__


for door in (driver, client, agent, dashboard, database):
    print(door.__name__, door(sys.argv[1]), flush=True)
