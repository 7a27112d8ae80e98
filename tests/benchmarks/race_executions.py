"""What stopping a configuration after some of its executions would save beside ASHA.

    python tests/benchmarks/race_executions.py awa1 --draws 5

Supposes that a trial computes its executions one after another up to each rung of ASHA, and gives
up after two or more of them if it is significantly below the trial at the rung's cutoff: a paired
test over the shared draws, ``mean(d) √j / s > c`` with the deviation s of such differences pooled
over all trials before. ASHA is told the whole score all the same, so what is printed is the most
that it can save: the share of all epochs of single executions, and among the trials given up the
share that ASHA would have let go on.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from curve_table import FOLDER
from replay import EXECUTIONS, Replay, Search, World, load_curves

from tuning.engine.stopping import SCHEDULERS
from tuning.events.event import EpochDone

FEWEST = 2
FEWEST_AT_RUNG = 6


class Race(Replay):
    """A replay in which trials are given up after some executions.

    Attributes:
        critical: c of the test.
        saved: Epochs of single executions that were not computed.
        given_up: Trials given up that ASHA stops as well.
        wrongly: Trials given up that ASHA lets go on.
    """

    def __init__(self, world, search, seed, critical):
        super().__init__(world, search, seed)
        self.critical = critical
        self.saved = self.given_up = self.wrongly = 0
        milestones = search.scheduler(world.curves.epochs).keywords["rungs"]
        self._previous = dict(zip(milestones, [0, *milestones], strict=False))
        self._at_rung = {milestone: [] for milestone in milestones}
        self._squares, self._count = 0.0, 0

    def _tell(self, event):
        exempt = self.stopping.exempt
        if isinstance(event, EpochDone) and event.epoch in self._at_rung:
            row = self.proposer.rows[event.number]
            after = self._executions_needed(event, row)
            super()._tell(event)
            if after < EXECUTIONS and event.number != exempt:
                self.saved += (EXECUTIONS - after) * (event.epoch - self._previous[event.epoch])
                stopped = event.number in self.stopping.stopped
                self.given_up += stopped
                self.wrongly += not stopped
            return
        super()._tell(event)

    def _executions_needed(self, event, row):
        """Return after how many executions the test gives up; all of them if it does not."""
        before = self._at_rung[event.epoch]
        needed = EXECUTIONS
        if len(before) >= FEWEST_AT_RUNG:
            scores = np.array([score for score, _ in before])
            reduction = 3
            cutoff = np.percentile(scores, 100 * (1 - 1 / reduction))
            reference = before[int(np.where(scores >= cutoff, scores, np.inf).argmin())][1]
            needed = self._test(row, event.epoch, reference)
        curve = self.world.of_draws[row, :, : event.epoch]
        values = curve[:, curve.mean(0).argmax()]
        for _, other in before:
            d = other - values
            self._squares += ((d - d.mean()) ** 2).sum()
            self._count += EXECUTIONS - 1
        before.append((event.score, values))
        return needed

    def _test(self, row, epoch, reference):
        deviation = math.sqrt(self._squares / self._count)
        for j in range(FEWEST, EXECUTIONS):
            curve = self.world.of_draws[row, :j, :epoch]
            d = reference[:j] - curve[:, curve.mean(0).argmax()]
            if d.mean() * math.sqrt(j) > self.critical * deviation:
                return j
        return EXECUTIONS


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--draws", type=int)
    parser.add_argument("--seeds", type=int, default=50)
    arguments = parser.parse_args()
    curves = load_curves(FOLDER / f"{arguments.table}.parquet", arguments.draws)
    search = Search(sampler="random", scheduler=SCHEDULERS["asha"], trials=len(curves.values))
    print(f"{len(curves.values)} configurations; c, epochs saved, of those given up wrongly")
    for critical in (1.5, 2.3, 3.0):
        saved = computed = given_up = wrongly = 0
        for seed in range(arguments.seeds):
            race = Race(World.of(curves, seed), search, seed, critical)
            computed += race.run().executions[-1]
            saved += race.saved
            given_up += race.given_up + race.wrongly
            wrongly += race.wrongly
        share = wrongly / given_up if given_up else 0.0
        print(f"{critical:4.1f} {saved / computed:7.1%} {share:7.1%} of {given_up}")


if __name__ == "__main__":
    main()
