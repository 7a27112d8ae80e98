"""The figures of single executions, epoch by epoch: one table a study.

MLflow's metrics are means over a trial's executions; here is what they are the means of.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tuning.events.event import EpochDone, Event

TABLE_FILE = "executions.parquet"

_OF_EXECUTION = re.compile(r"(.+)_execution_(\d+)")


class ExecutionTable:
    """Collects the figures of single executions; a row is an execution's epoch."""

    def __init__(self) -> None:
        self._keys: dict[str, array[int]] = {
            name: array("i") for name in ("trial", "epoch", "execution")
        }
        self._figures: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))

    def take(self, event: Event) -> None:
        """Add the executions of an epoch."""
        if not isinstance(event, EpochDone):
            return
        rows: defaultdict[int, dict[str, float]] = defaultdict(dict)
        for name, value in event.metrics.items():
            if found := _OF_EXECUTION.fullmatch(name):
                rows[int(found[2])][found[1]] = value
        for execution, figures in rows.items():
            for name, key in zip(self._keys, (event.number, event.epoch, execution), strict=True):
                self._keys[name].append(key)
            for name, value in figures.items():
                self._figures[name].append(value)

    def write(self, folder: Path) -> Path:
        """Write the table to a Parquet file in a folder; return its path."""
        columns = {
            **{name: pa.array(values, pa.int32()) for name, values in self._keys.items()},
            **{name: pa.array(values, pa.float64()) for name, values in self._figures.items()},
        }
        path = folder / TABLE_FILE
        pq.write_table(pa.table(columns), path, compression="zstd")
        return path
