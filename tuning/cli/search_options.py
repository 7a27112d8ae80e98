"""The options of a search, and which of them a resumed study can change."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import Any, Final

from mianet.config import VARIANTS
from tuning.cli.command_line import Parser
from tuning.cli.options import (
    TRAINING,
    Options,
    add_shared,
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
from tuning.spec.choices import DEFAULT_FRESH_DRAWS, SAMPLER_NAMES, SCHEDULER_NAMES
from tuning.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES

RESUMABLE: Final = {
    *("trials", "time_budget", "workers", "cpus_per_trial", "gpus_per_trial", "data_dir"),
    *("class_embedding", "tracking_uri", "fresh_draws", "no_final", "final_seeds"),
}
"""Options that may change when a study is resumed: no trial's curve depends on them."""


def parse_search_options(description: str | None) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Return all options of the command line, and name → value of those that were given."""
    parser = _parser(description)
    options = parser.parse_args()
    unset = argparse.Namespace(**dict.fromkeys(vars(options)))  # a set name gets no default
    given = {
        n: value
        for n, value in vars(parser.parse_args(namespace=unset)).items()
        if value is not None
    }
    if not options.resume:
        if options.dataset is None:
            parser.error("the following arguments are required: --dataset")
    elif refused := given.keys() - RESUMABLE - {"resume", "storage"}:
        parser.error(
            "--resume keeps the settings that the study was started with, but got "
            f"{_as_options(refused)}; only {_as_options(RESUMABLE)} can change"
        )
    return options, given


def _as_options(names: Collection[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names))


def _parser(description: str | None) -> Parser:
    parser = Parser(description)
    add_shared(parser, "--dataset", required=False)  # a resumed study already has one
    add_shared(parser, *TRAINING[1:], "--model")
    parser.add_argument(
        "--resume", type=study_name, metavar="STUDY", help="continue a study with its settings"
    )
    _add_budget(parser.add_argument_group("budget"))
    _add_method(parser.add_argument_group("how to search"))
    _add_space(parser.add_argument_group("what to search"))
    after = parser.add_argument_group("after the search")
    fresh = "fresh draws to confirm the best trials on; 0 for none"
    _add(after, "--fresh-draws", DEFAULT_FRESH_DRAWS, fresh, type=count)
    after.add_argument("--no-final", action="store_true", help="skip the final training")
    seeds = "trainings of each final configuration"
    _add(after, "--final-seeds", 5, seeds, type=positive_int)
    add_shared(after, "--storage")
    return parser


def _add(group: Options, name: str, default: object, words: str, **settings: Any) -> None:
    """Add an option whose help ends with its default."""
    group.add_argument(name, default=default, help=f"{words} (default: %(default)s)", **settings)


def _add_budget(group: Options) -> None:
    for name, default, words in (
        ("--trials", 50, "configurations to try"),
        ("--max-epochs", 50, "maximum epochs per trial"),
        ("--patience", 5, "epochs without a new best after which a trial is stopped"),
        ("--executions", 5, "draws to average each configuration over"),
    ):
        _add(group, name, default, words, type=positive_int)
    group.add_argument("--time-budget", type=duration, help="maximum wall time: 90s, 30m or 2h")


def _add_method(group: Options) -> None:
    objectives = "; ".join(f"{name}: {one.summary}" for name, one in OBJECTIVES.items())
    for name, default, words, choices in (
        ("--objective", DEFAULT_OBJECTIVE, f"what to maximise: {objectives}", OBJECTIVES),
        ("--sampler", "tpe", "what proposes configurations", SAMPLER_NAMES),
        ("--scheduler", "asha", "what stops unpromising trials early", SCHEDULER_NAMES),
    ):
        _add(group, name, default, words, choices=choices)
    _add(group, "--seed", 0, "seed for draws, trainings and sampler", type=seed)
    group.add_argument(
        "--workers", type=positive_int, help="trials to run at once (default: set by the cluster)"
    )
    group.add_argument(
        "--warm-start",
        type=earlier_study,
        nargs="+",
        default=[],
        metavar="STUDY",
        help="start with the best configurations of earlier studies, on any data set; give "
        "DATASET/STUDY if the name alone is ambiguous",
    )


def _add_space(group: Options) -> None:
    group.add_argument(
        "--search",
        type=names,
        help="hyperparameters, separated by commas (default: the model's; for MIANet alpha, "
        "beta, gamma, learning_rate, latent_multiplier); an unknown name lists the valid ones",
    )
    group.add_argument(
        "--range",
        type=value_range,
        action="append",
        default=[],
        metavar="NAME=LOW:HIGH",
        help="bounds of a searched hyperparameter",
    )
    _add(group, "--variant", "full", "variant of the paper's ablations", choices=VARIANTS)
    group.add_argument(
        "--set",
        type=assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="value of a hyperparameter that is not searched",
    )
