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
    "class_embedding": (),
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
        "class_embedding",
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
                f"{_as_options(refused)}; only {_as_options(RESUMABLE)} can be changed"
            )
    elif "dataset" not in given:
        parser.error("the following arguments are required: --dataset")
    return given


def _as_options(names: Collection[str]) -> str:
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
        "--resume", type=study_name, metavar="STUDY", help="go on with a study as it was started"
    )
    _add_budget(parser.add_argument_group("budget"))
    _add_method(parser.add_argument_group("how to search"))
    _add_space(parser.add_argument_group("what to search"))
    after = parser.add_argument_group("afterwards")
    after.add_argument(
        "--fresh-draws",
        type=count,
        help=f"draws that the best trials are confirmed on; 0 for none {_default('fresh_draws')}",
    )
    after.add_argument("--no-final", action="store_true", help="leave out the final training")
    after.add_argument(
        "--final-seeds",
        type=positive_int,
        help=f"trainings of each final configuration {_default('final_seeds')}",
    )
    add_storage_option(after)
    return parser


def _add_budget(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--trials", type=positive_int, help=f"configurations to try {_default('trials')}"
    )
    group.add_argument(
        "--max-epochs",
        type=positive_int,
        help=f"most epochs of a trial {_default('max_epochs')}",
    )
    group.add_argument(
        "--patience",
        type=positive_int,
        help=f"epochs without a new best after which a trial ends {_default('patience')}",
    )
    group.add_argument(
        "--executions",
        type=positive_int,
        help=f"draws that a configuration is averaged over {_default('executions')}",
    )
    group.add_argument("--time-budget", type=duration, help="most wall time, as 90s, 30m or 2h")


def _add_method(group: argparse._ArgumentGroup) -> None:
    objectives = "; ".join(f"{name}: {one.summary}" for name, one in OBJECTIVES.items())
    group.add_argument(
        "--objective",
        choices=OBJECTIVES,
        help=f"what to maximise: {objectives} {_default('objective')}",
    )
    group.add_argument(
        "--sampler",
        choices=SAMPLER_NAMES,
        help=f"what proposes configurations {_default('sampler')}",
    )
    group.add_argument(
        "--scheduler",
        choices=SCHEDULER_NAMES,
        help=f"what stops hopeless trials early {_default('scheduler')}",
    )
    group.add_argument(
        "--seed", type=seed, help=f"seed of draws, trainings and sampler {_default('seed')}"
    )
    group.add_argument(
        "--workers", type=positive_int, help="trials at once (default: what the cluster allows)"
    )
    group.add_argument(
        "--warm-start",
        type=earlier_study,
        nargs="+",
        metavar="STUDY",
        help="try the best configurations of earlier studies first, also of another data set's, "
        "as DATASET/STUDY where the name alone is ambiguous",
    )


def _add_space(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--search",
        type=names,
        help="hyperparameters, separated by commas (default: the model's; for MIANet alpha, "
        "beta, gamma, learning_rate, latent_multiplier); a wrong name lists the right ones",
    )
    group.add_argument(
        "--range",
        type=value_range,
        action="append",
        metavar="NAME=LOW:HIGH",
        help="bounds of a searched hyperparameter",
    )
    group.add_argument(
        "--variant",
        choices=VARIANTS,
        help=f"variant of the paper's ablations {_default('variant')}",
    )
    group.add_argument(
        "--set",
        type=assignment,
        action="append",
        metavar="NAME=VALUE",
        help="value of a hyperparameter that is not searched",
    )


def _default(option: str) -> str:
    return f"(default: {DEFAULTS[option]})"
