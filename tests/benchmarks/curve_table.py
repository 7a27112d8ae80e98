"""Recorded learning curves: one small Parquet file a data set, written whole or not at all.

A row is one execution of one configuration. Figures are kept as multiples of 1/10000, which is
finer than an image counts in any of the data sets; the harmonic mean follows from ts and tr.
"""

import dataclasses
import functools
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.distributions import CategoricalDistribution

from tuning.spec.space import space_from_json

FOLDER = Path(__file__).resolve().parent / "curves"
UNIT = 10_000
FIGURES = ("ts", "tr", "t1", "ausuc", "calibrated")
_ABOUT = b"about"


@dataclass(frozen=True)
class About:
    """What all rows of a file share; a file goes on only where all of it agrees.

    Attributes:
        dataset: Canonical name.
        digest: sha256 of the data set's source, in hex.
        share: Share of each class's images that takes part.
        epochs: Epochs of every curve.
        seed: Of the draws, of the trainings and of the configurations.
        space: The ranges of the hyperparameters that vary, see ``space_to_json``.
    """

    dataset: str
    digest: str
    share: float
    epochs: int
    seed: int
    space: str

    @functools.cached_property
    def distributions(self):
        """Return hyperparameter → its range."""
        return space_from_json(self.space)

    @property
    def names(self):
        return tuple(self.distributions)


@dataclass(frozen=True)
class Row:
    """One execution of one configuration.

    Attributes:
        configuration: Its number; 0 is the paper's.
        draw: The execution's number.
        values: The hyperparameters, in the order of ``About.names``.
        ts: By epoch, in units of 1/10000, as are the others; shorter where the training diverged.
        tr: Of the seen classes' held-out images.
        t1: Of the unseen classes' images among the unseen classes.
        ausuc: Area under the seen-unseen curve.
        calibrated: H at the constant that maximises its mean over the executions trained together:
            those of a search, or those of a confirmation.
        seconds: Processor seconds of an epoch on one core, training and scoring.
        diverged: Why the training ended early; empty where it did not.
    """

    configuration: int
    draw: int
    values: tuple[float | str, ...]
    ts: tuple[int, ...]
    tr: tuple[int, ...]
    t1: tuple[int, ...]
    ausuc: tuple[int, ...]
    calibrated: tuple[int, ...]
    seconds: float
    diverged: str = ""

    @property
    def key(self):
        return self.configuration, self.draw

    @classmethod
    def from_json(cls, text):
        fields = json.loads(text)
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})

    def to_json(self):
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))


def coordinate(distribution, value):
    """Return a value as a number: ranges scaled to 0..1 in logarithms, entries of a list apart."""
    if isinstance(distribution, CategoricalDistribution):
        return 10.0 * distribution.choices.index(value)
    return math.log(value / distribution.low) / math.log(distribution.high / distribution.low)


def harmonic(ts, tr):
    """Return H of accuracies of any shape, 0 where both are 0."""
    total = ts + tr
    return np.divide(2 * ts * tr, total, out=np.zeros_like(total), where=total > 0)


def read_rows(path):
    """Return what all rows share, and the rows by (configuration, draw)."""
    table = pq.read_table(path)
    about = About(**json.loads(table.schema.metadata[_ABOUT]))
    columns = {name: table[name].to_pylist() for name in table.column_names}
    rows = {}
    for i in range(len(table)):
        row = Row(
            configuration=columns["configuration"][i],
            draw=columns["draw"][i],
            values=tuple(columns[name][i] for name in about.names),
            seconds=columns["seconds"][i],
            diverged=columns["diverged"][i],
            **{name: tuple(columns[name][i]) for name in FIGURES},
        )
        rows[row.key] = row
    return about, rows


def write_rows(path, about, rows):
    """Write the file in one go: a reader sees the old one or the new one."""
    ordered = [rows[key] for key in sorted(rows)]
    columns = {
        "configuration": pa.array([r.configuration for r in ordered], pa.int32()),
        "draw": pa.array([r.draw for r in ordered], pa.int8()),
        "seconds": pa.array([r.seconds for r in ordered], pa.float32()),
        "diverged": pa.array([r.diverged for r in ordered], pa.string()),
    }
    for position, name in enumerate(about.names):
        columns[name] = pa.array([r.values[position] for r in ordered])
    for name in FIGURES:
        columns[name] = pa.array([getattr(r, name) for r in ordered], pa.list_(pa.uint16()))
    metadata = {_ABOUT: json.dumps(dataclasses.asdict(about)).encode()}
    table = pa.table(columns).replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            compression_level=19,
            use_dictionary=["configuration", "draw", "diverged", *about.names],
            # A third smaller than dictionaries: 15,000 executions stay below 2 MB.
            column_encoding={f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in FIGURES},
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
