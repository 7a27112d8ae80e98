"""The life of a cluster between hosts of namespaces: tests/rehearse.py asserts each step."""

import subprocess
import sys

import pytest
from commands import ROOT
from rehearsal.hosts import missing


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_cluster_lives_as_docs_cluster_says():
    for package in ("boto3", "grpc", "psycopg2"):
        pytest.importorskip(
            package, reason="a cluster's packages are missing: infra/venv.sh cluster"
        )
    if reason := missing():
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/rehearse.py")],
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-20_000:]
