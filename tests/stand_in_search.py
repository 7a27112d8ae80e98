"""A search in this process, whose trainable or other parts a test may have replaced."""

import ray
from recorded import OPENED

from mianet.data.search_data import load_search_data
from tuning.compute.display import StatusLine
from tuning.engine import running
from tuning.engine.interrupts import Interrupt
from tuning.engine.study import Study
from tuning.events.log import open_log
from tuning.spec.space import search_space


def events_of_search(folder, share, **settings):
    """Run a study of ``numbers`` on the connected Ray; return the events of its log."""
    study = Study(name="s", space=search_space(), fixed={}, **settings)
    with open_log(folder / "s") as log:
        log.begin(OPENED)
        data = ray.put(load_search_data("numbers"))
        running.run_study(study, "numbers", data, share, log, Interrupt(), StatusLine())
    with open_log(folder / "s") as log:
        return [event for event, _ in log.read()]
