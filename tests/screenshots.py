"""Make the pictures of the docs from a search that has ended, in a headless Chromium.

    bash infra/demo.sh --study demo
    pip install optuna-dashboard
    python tests/screenshots.py .

reads ``mlflow.db`` and ``ray_results/<study>`` of the folder, serves them with MLflow and
optuna-dashboard on ports of this machine, and writes ``docs/images/*.png``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from tuning.tracking.experiments import LOCAL_SERVER
from tuning.tracking.reading import read_study

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
WIDTH = 1000
"""Pixels of a picture in the docs."""
COLOURS = 128


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dataset", default="numbers")
    parser.add_argument("--study", default="demo")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    options = parser.parse_args()
    database = f"sqlite:///{options.folder.resolve()}/mlflow.db"
    study = options.folder.resolve() / "ray_results" / options.study
    links = read_study(database, options.dataset, options.study).links
    options.output.mkdir(parents=True, exist_ok=True)
    mlflow = (sys.executable, "-m", "mlflow", "server", "--workers", "1")
    with served(*mlflow, "--backend-store-uri", database, "--port") as here:
        for name, link in (("mlflow", links.comparison), ("mlflow-trials", links.trials)):
            picture(link.replace(LOCAL_SERVER, here), options.output / f"{name}.png", (2000, 1150))
    with served("optuna-dashboard", str(study / "optuna.log"), "--port") as here:
        page = f"{here}/dashboard/studies/0"
        picture(page, options.output / "optuna-dashboard.png", (1700, 1300))
    picture((study / "report.html").as_uri(), options.output / "report.png", (1150, 1500))


@contextlib.contextmanager
def served(*command: str) -> Iterator[str]:
    """Run a server on a free port, the command's last option; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [*command, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(240):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(address, timeout=5).close()
                break
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def picture(address: str, path: Path, size: tuple[int, int]) -> None:
    """Write what a browser shows at an address as a small PNG."""
    with tempfile.TemporaryDirectory() as profile:
        shot = Path(profile, "shot.png")
        subprocess.run(
            [
                *CHROMIUM,
                "--disable-background-networking",
                f"--user-data-dir={profile}/profile",
                f"--window-size={size[0]},{size[1]}",
                "--virtual-time-budget=40000",
                f"--screenshot={shot}",
                address,
            ],
            check=True,
            capture_output=True,
            timeout=300,
        )
        image = Image.open(shot).convert("RGB")
        height = round(image.height * WIDTH / image.width)
        small = image.resize((WIDTH, height), Image.Resampling.LANCZOS)
        small.quantize(COLOURS).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
