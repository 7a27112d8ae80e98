"""Shapes are checked in every test, and the real data sets are found where they lie."""

import contextlib
import json
import os
import secrets
import shutil
import sys
from pathlib import Path

import hypothesis
import jaxtyping
import pytest
import torch
from jaxtyping import install_import_hook

pytest.register_assert_rewrite("recorded")
hypothesis.settings.register_profile(  # how long an example takes says how busy the machine is
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")
torch.set_num_threads(1)  # several test processes share the cores

ROOT = Path(__file__).resolve().parent.parent

# Ray would write a token of its own into the home folder, where others can read it.
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

# Before the first import of the package: from here on a wrong shape is an error. The configuration
# has no shapes, and checks its own types with messages that are tested.
SHAPED = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "mianet").rglob("*.py")
    if path.stem != "config"
]
install_import_hook(SHAPED, "beartype.beartype")


LONG = ("test_faults", "test_tracking_faults", "test_search", "test_killed_commands")
LONG += ("test_tutorial", "test_meddling", "test_terminal")
"""Files that begin first, so that none of them runs alone at the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="session")
def shared_data_dir() -> Path:
    """The folder that holds the published package, ``xlsa17/``."""
    folder = Path(os.environ.get("MIANET_TEST_DATA_DIR", ROOT.parent / "shared" / "data"))
    if not (folder / "xlsa17").is_dir():
        pytest.skip(f"the published data sets are not at {folder} (set MIANET_TEST_DATA_DIR)")
    return folder


@pytest.fixture
def unchecked_shapes():
    """Leave the shapes unchecked where whole trainings run, which takes most of their time."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module", autouse=True)
def _ray_as_it_was():
    """Have Ray read its settings and the token again, which a module may have changed."""
    yield
    if "ray" in sys.modules:
        from ray._raylet import AuthenticationTokenLoader, Config

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()


@pytest.fixture(scope="module")
def one_ray():
    """Let the commands of a module share a Ray: each start of one takes seconds."""
    import commands
    import forks
    from ray.cluster_utils import Cluster

    with forks.forked_workers():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
        commands.RAY["RAY_ADDRESS"] = cluster.address
        yield cluster.address
        commands.RAY["RAY_ADDRESS"] = "local"
        cluster.shutdown()


@pytest.fixture(scope="session")
def empty_database() -> Path:
    """Return a database that MLflow has made."""
    import commands

    return commands.empty_database()


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    """Return a fresh SQLite store; its folder's name has a space in it."""
    path = tmp_path / "my studies" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(empty_database, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def reported(empty_database: Path, tmp_path_factory: pytest.TempPathFactory):
    """A study with everything: its store, its page, its final trainings' figures, the selected."""
    from pages import record_everything, written

    folder = tmp_path_factory.mktemp("reported")
    shutil.copy(empty_database, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    figures, best = record_everything(uri)
    with pytest.MonkeyPatch.context() as patch:
        return uri, written(uri, folder, patch), figures, best


@pytest.fixture
def forked_readers(monkeypatch: pytest.MonkeyPatch):
    """Let Matlab files be read by forks of a small process, which start at once."""
    import forks

    from mianet.data import matfiles

    server = forks.server("h5py", "scipy.io", "mianet.data.matlab_child")

    def start(request, _, errors):
        reader, writer = os.pipe()
        command = [str(matfiles._CHILD), json.dumps(request)]
        child = forks.Fork(server, command, (0, writer, errors.fileno()))
        os.close(writer)
        child.stdout = os.fdopen(reader, "rb")
        return contextlib.nullcontext(child)

    monkeypatch.setattr(matfiles, "_start", start)
