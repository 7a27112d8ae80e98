"""The options of a search, their defaults, and which of them a resumed study can change."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from typing import Any, Final

from mianet.config import VARIANTS
from tuning.cli.command_line import Parser
from tuning.cli.options import (
    add_common_options,
    add_model_option,
    add_storage_option,
    assignment,
    count,
    duration,
    earlier_study,
    names,
    positive_int,
    seed,
    study_name,
    value_range,
)
from tuning.spec.choices import DEFAULT_FRESH_DRAWS, MIANET, SAMPLER_NAMES, SCHEDULER_NAMES
from tuning.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES

DEFAULTS: Final[Mapping[str, Any]] = {
    "dataset": None,
    "model": MIANET,
    "data_dir": None,
    "tracking_uri": None,
    "study": None,
    "resume": None,
    "trials": 50,
    "max_epochs": 50,
    "patience": 5,
    "executions": 5,
    "time_budget": None,
    "objective": DEFAULT_OBJECTIVE,
    "sampler": "qmc",
    "scheduler": "asha",
    "seed": 0,
    "workers": None,
    "cpus_per_trial": None,
    "gpus_per_trial": None,
    "warm_start": (),
    "warm_points": (),
    "search": None,
    "range": (),
    "variant": "full",
    "set": (),
    "fresh_draws": DEFAULT_FRESH_DRAWS,
    "no_final": False,
    "final_seeds": 5,
}
"""Option → its value unless the command line, or the study that is resumed, gives another."""

RESUMABLE: Final = frozenset(
    {
        "trials",
        "time_budget",
        "workers",
        "cpus_per_trial",
        "gpus_per_trial",
        "data_dir",
        "tracking_uri",
        "fresh_draws",
        "no_final",
        "final_seeds",
    }
)
"""Options that can change when a study is resumed: no trial's curve depends on them."""


def parse_search_options(description: str | None) -> dict[str, Any]:
    """Return option → value as the command line gives them, without defaults.

    Args:
        description: What ``--help`` says of the command.
    """
    parser = _parser(description)
    given = vars(parser.parse_args())
    if "resume" in given:
        refused = set(given) - RESUMABLE - {"resume", "storage"}
        if refused:
            parser.error(
                "--resume keeps the settings that the study was started with, but got "
                f"{_spelt(refused)}; only {_spelt(RESUMABLE)} can be given anew"
            )
    elif "dataset" not in given:
        parser.error("the following arguments are required: --dataset")
    return given


def _spelt(names: Collection[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names))


def _parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser without defaults: it yields only the options that were given."""
    parser = Parser(
        prog="search.py",
        description=description,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    add_common_options(parser, dataset_required=False)
    add_model_option(parser, default=argparse.SUPPRESS)
    parser.add_argument(
        "--resume", type=study_name, metavar="STUDY", help="go on with a study, as it was started"
    )
    budget = parser.add_argument_group("budget")
    budget.add_argument("--trials", type=positive_int, help="configurations to try")
    budget.add_argument("--max-epochs", type=positive_int, help="epochs at most")
    budget.add_argument(
        "--patience", type=positive_int, help="epochs without a new best to go on for"
    )
    budget.add_argument("--executions", type=positive_int, help="draws to average over")
    budget.add_argument("--time-budget", type=duration, help="wall time at most: 90s, 30m, 2h")
    how = parser.add_argument_group("how to search")
    how.add_argument(
        "--objective",
        choices=OBJECTIVES,
        help="what is maximised: " + "; ".join(f"{n}: {o.summary}" for n, o in OBJECTIVES.items()),
    )
    how.add_argument("--sampler", choices=SAMPLER_NAMES)
    how.add_argument("--scheduler", choices=SCHEDULER_NAMES)
    how.add_argument("--seed", type=seed, help="of draws, trainings and sampler")
    how.add_argument("--workers", type=positive_int, help="trials at once")
    how.add_argument(
        "--warm-start",
        type=earlier_study,
        nargs="+",
        metavar="STUDY",
        help="try the best configurations of earlier studies first; of another data set's as well, "
        "as DATASET/STUDY where the name alone is not enough",
    )
    what = parser.add_argument_group("what to search")
    what.add_argument(
        "--search",
        type=names,
        help="hyperparameters, with commas between them (default: the model's; for MIANet alpha, "
        "beta, gamma, learning_rate, latent_multiplier); a wrong name lists the right ones",
    )
    what.add_argument("--range", type=value_range, action="append", metavar="NAME=LOW:HIGH")
    what.add_argument("--variant", choices=VARIANTS, help="variant of the paper")
    what.add_argument(
        "--set",
        type=assignment,
        action="append",
        metavar="NAME=VALUE",
        help="fix a hyperparameter that is not searched",
    )
    after = parser.add_argument_group("afterwards")
    after.add_argument(
        "--fresh-draws",
        type=count,
        help="draws that the best trials are confirmed on; 0 to leave that out",
    )
    after.add_argument("--no-final", action="store_true", help="leave out the final training")
    after.add_argument("--final-seeds", type=positive_int, help="seeds of it")
    add_storage_option(after)
    return parser
