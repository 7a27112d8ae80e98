"""``mlflow server`` in one process: MLflow's command starts uvicorn in another one."""

import os
import sys

import mlflow.server
import uvicorn
from mlflow.cli import cli


def serve_here(command, *, extra_env, **_):
    os.environ.update(extra_env)
    uvicorn.main(command[command.index("uvicorn") + 1 :])


if __name__ == "__main__":
    mlflow.server._exec_cmd = serve_here
    cli(["server", *sys.argv[1:]])
