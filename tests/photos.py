"""Real photographs that installed packages bring, in folders by class."""

import shutil
from pathlib import Path

import matplotlib
import sklearn.datasets

_SKLEARN = Path(sklearn.datasets.__file__).parent / "images"
_MATPLOTLIB = Path(matplotlib.get_data_path()) / "sample_data"
PHOTOS = {
    "flower/a flower.jpg": _SKLEARN / "flower.jpg",
    "palais d'été/china.jpg": _SKLEARN / "china.jpg",
    "person/deep/grace_hopper.jpg": _MATPLOTLIB / "grace_hopper.jpg",
    "person/with a hat.png": _MATPLOTLIB / "Minduka_Present_Blue_Pack.png",
}
"""Path below the folder → the photograph; the last has a transparent background."""
LABELS = ("flower", "palais d'été", "person", "person")


def write_photos(folder: Path) -> Path:
    """Write the photographs, and a file that is none."""
    for name, source in PHOTOS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / name)
    (folder / "flower" / "notes.txt").write_text("no photograph")
    return folder
