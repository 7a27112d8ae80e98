"""Shapes are checked in every test, and the real data sets are found where they lie."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

ROOT = Path(__file__).resolve().parent.parent

# Before the first import of the package: from here on a wrong shape is an error. The configuration
# has no shapes, and checks its own types with messages that are tested.
SHAPED = [f"mianet.{p.stem}" for p in (ROOT / "mianet").glob("*.py") if p.stem != "config"]
install_import_hook(SHAPED, "beartype.beartype")


@pytest.fixture(scope="session")
def shared_data_dir() -> Path:
    """The folder that holds the published package, ``xlsa17/``."""
    folder = Path(os.environ.get("MIANET_TEST_DATA_DIR", ROOT.parent / "shared" / "data"))
    if not (folder / "xlsa17").is_dir():
        pytest.skip(f"the published data sets are not at {folder} (set MIANET_TEST_DATA_DIR)")
    return folder
