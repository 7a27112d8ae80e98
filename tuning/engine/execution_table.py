"""The figures of single executions, epoch by epoch: one table per study.

MLflow's metrics are means over a trial's executions; this table has the individual values.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tuning.events.event import EpochDone, Event

_EXECUTION_METRIC = re.compile(r"(.+)_execution_(\d+)")


def record_executions(events: Iterable[Event], folder: Path) -> None:
    """Write ``executions.parquet`` to a folder, with a row for each execution and epoch."""
    keys = {name: array("i") for name in ("trial", "epoch", "execution")}
    figures: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
    for event in events:
        if not isinstance(event, EpochDone):
            continue
        executions = {}
        for name, value in event.metrics.items():
            if match := _EXECUTION_METRIC.fullmatch(name):
                figures[match[1]].append(value)
                executions[int(match[2])] = True
        for execution in executions:
            for column, key in zip(
                keys.values(), (event.number, event.epoch, execution), strict=True
            ):
                column.append(key)
    columns = {name: np.asarray(column) for name, column in {**keys, **figures}.items()}
    pq.write_table(pa.table(columns), folder / "executions.parquet", compression="zstd")
