"""For how long should the final training run, which has more images than a validation?

    python tests/benchmarks/final_epochs.py numbers --epochs 90
    python tests/benchmarks/final_epochs.py awa1 --data-dir DIR --epochs 40 --best 2

Repeats the step from validation to final training where nothing of the test is needed: each draw's
training part becomes a data set, with a draw of its own; their mean curve of AUSUC, up to where a
search's patience would end it, chooses the number of epochs. Then the configuration is trained on
the whole training part, and the outer draw's held-out parts judge. The configurations are the
paper's and the best of a recorded table. Every table row has the chosen epochs, and AUSUC, T1 and
calibrated H on the outer draws in percent, for the same number of epochs; for the other rules,
points more than that with a 95% interval, paired by draw.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from curve_table import FOLDER
from replay import Search, load_curves, smoothed

from mianet.data.search_data import load_search_data, paper_hyperparameters
from mianet.processor import use_threads
from mianet.protocol import TRAINED_SHARE, draw_validation
from mianet.validation import Validation
from tuning.analysis import outcome_table
from tuning.analysis.comparison import paired_difference
from tuning.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES

FIGURES = ("ausuc", "zsl_accuracy", "calibrated_harmonic_mean")
DRAWS, SEED = 5, 100  # draws that no search with a small seed meets


def training_part(data, draw):
    """Return a draw's training images and pseudo-seen classes as a data set."""
    drawn = draw_validation(data.labels, len(data.class_attributes), execution=draw, seed=SEED)
    rows, seen = drawn["train"], drawn["seen_classes"]
    return dataclasses.replace(
        data,
        features=np.ascontiguousarray(data.features[rows]),
        labels=np.searchsorted(seen, data.labels[rows]),
        class_attributes=np.ascontiguousarray(data.class_attributes[seen]),
        class_names=tuple(data.class_names[one] for one in seen),
        class_ids=data.class_ids[seen],
    )


def curve(data, settings, draw, epochs):
    """Return (figures, epochs) of one execution."""
    validation = Validation(data, settings, executions=1, seed=SEED, first=draw)
    trained = [validation.epoch().executions[0] for _ in range(epochs)]
    return np.array([[getattr(metrics, name) for metrics in trained] for name in FIGURES])


def curves(parts, settings, epochs):
    """Return (draws, figures, epochs), smoothed, of an execution on each draw's data."""
    window = OBJECTIVES[DEFAULT_OBJECTIVE].window
    found = (curve(part, settings, draw, epochs) for draw, part in enumerate(parts))
    return np.array([smoothed(figures, window) for figures in found])


def chosen_epochs(curve):
    """Return rule → epochs, chosen on AUSUC's mean curve of the training parts."""
    curve = until_patience_ends(curve)
    best = 1 + int(curve.argmax())
    return {
        "as many epochs": best,
        "as many steps": max(1, round(TRAINED_SHARE * best)),
        "in between": OBJECTIVES[DEFAULT_OBJECTIVE].final_epochs(curve.tolist(), TRAINED_SHARE),
    }


def until_patience_ends(curve):
    ends = (e for e in range(1, len(curve)) if e - 1 - curve[:e].argmax() >= Search.patience)
    return curve[: next(ends, len(curve))]


def rows(data, parts, settings, epochs):
    """Yield rule, epoch, and a cell a figure; the first rule is what the others are compared to."""
    inner, outer = (curves(each, settings, epochs) for each in (parts, [data] * DRAWS))
    (rule, epoch), *others = chosen_epochs(inner[:, 0].mean(0)).items()
    same = outer[:, :, epoch - 1]
    yield rule, epoch, cells(same)
    for rule, epoch in others:
        yield rule, epoch, cells(outer[:, :, epoch - 1], same)


def cells(reached, compared=None):
    """Return a cell a figure, of (draws, figures): its mean, or how much more than the compared."""
    if compared is None:
        return [f"{100 * mean:.1f}" for mean in reached.mean(0)]
    pairs = zip(reached.T, compared.T, strict=True)
    return [
        paired_difference(*(dict(enumerate(values)) for values in pair)).in_points for pair in pairs
    ]


def configurations(table, best, name):
    """Return name → settings of the paper's configuration and the best of a recorded table."""
    recorded = load_curves(FOLDER / f"{table}.parquet", DRAWS)
    paper = paper_hyperparameters(name)
    reached = np.nan_to_num(recorded.objectives.mean(1)).max(1)
    chosen = [c for c in np.argsort(-reached) if c != 0][:best]
    settings = (
        paper.replace(**dict(zip(recorded.about.names, recorded.values[c], strict=True)))
        for c in chosen
    )
    return {"the paper's": paper} | dict(zip(map(str, chosen), settings, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", help="name of a recorded table, and of its data set")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--best", type=int, default=3, help="configurations beside the paper's")
    options = parser.parse_args()
    use_threads(1)
    data = load_search_data(options.table, options.data_dir)
    parts = [training_part(data, draw) for draw in range(DRAWS)]
    symbols = [outcome_table.FIGURES[name] for name in FIGURES]
    print(f"| configuration | rule | epochs | {' | '.join(symbols)} |", "|---" * 6 + "|", sep="\n")
    for name, settings in configurations(options.table, options.best, data.name).items():
        for rule, epoch, figures in rows(data, parts, settings, options.epochs):
            print(f"| {name} | {rule} | {epoch} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
