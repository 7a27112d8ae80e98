r"""What does a configuration reach with other settings? On validation draws, without a test image.

    python tests/benchmarks/variations.py numbers --set alpha=1481 learning_rate=3.5e-4 \
        --vary latent_multiplier=8 --vary latent_multiplier=16 batch_images=50

What is not set is the paper's. Each row has the epoch with the highest mean AUSUC, and AUSUC, T1
and calibrated H there in percent; for variations, points more than without, with a 95% interval
paired by draw; and the milliseconds of an epoch of one execution on one core, trained and scored.
"""

import argparse
import time
from pathlib import Path

from final_epochs import DRAWS, FIGURES, cells, curves

from mianet.config import Hyperparameters
from mianet.data.search_data import load_search_data, paper_hyperparameters
from mianet.processor import use_threads
from tuning.analysis import outcome_table
from tuning.cli.options import assignment


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--set", type=assignment, nargs="+", default=[])
    parser.add_argument("--vary", type=assignment, nargs="+", action="append", default=[])
    options = parser.parse_args()
    use_threads(1)
    data = load_search_data(options.dataset, options.data_dir)
    own = paper_hyperparameters(data.name).as_dict() | dict(options.set)
    headings = ["", "epoch", *(outcome_table.FIGURES[name] for name in FIGURES), "ms"]
    print(f"| {' | '.join(headings)} |", "|---" * len(headings) + "|", sep="\n")
    unvaried = None
    for varied in ([], *options.vary):
        settings = Hyperparameters.from_mapping(own | dict(varied))
        started = time.process_time()
        found = curves([data] * DRAWS, settings, options.epochs)
        seconds = (time.process_time() - started) / DRAWS / options.epochs
        best = found[:, 0].mean(0).argmax()
        reached = found[:, :, best]
        name = ", ".join("=".join(one) for one in varied)
        row = [name, str(best + 1), *cells(reached, unvaried), f"{1000 * seconds:.0f}"]
        print(f"| {' | '.join(row)} |", flush=True)
        if unvaried is None:
            unvaried = reached


if __name__ == "__main__":
    main()
