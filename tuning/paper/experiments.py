"""The paper's tables and figures; add an entry here for a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from mianet.errors import InputError
from tuning.paper import ablations, latent_space, retrieved, sweeps, tables
from tuning.paper.evidence import MULTIPLIERS
from tuning.paper.findings import Experiment

_FULL = ("full",)


def _table(name: str, shows: str) -> Experiment:
    return Experiment(name, shows, _FULL, partial(tables.find, name))


def _ablation(name: str, shows: str) -> Experiment:
    find, draw = partial(ablations.find, name), partial(ablations.draw, name)
    return Experiment(name, f"Parts of the model, {shows}", ablations.ARMS, find, draw)


_ALL = (
    _table("table2", "Generalized zero-shot classification"),
    _table("table3", "Zero-shot classification"),
    _table("table4", "Zero-shot retrieval"),
    _ablation("figure4", "generalized zero-shot classification"),
    _ablation("figure5", "zero-shot classification"),
    Experiment(
        "figure6",
        "The latent dimension",
        *(tuple(MULTIPLIERS), sweeps.find_multipliers, sweeps.draw_multipliers),
    ),
    Experiment(
        "figure7",
        "Optimisation strategies",
        *(tuple(sweeps.STRATEGIES), sweeps.find_strategies, sweeps.draw_strategies),
    ),
    Experiment(
        "figure8",
        "New classes, their attributes withheld from training",
        *(sweeps.NEW, sweeps.find_new_classes, sweeps.draw_new_classes),
    ),
    Experiment(
        "figure9",
        "Similarity of classes in the attribute and the latent space",
        *(_FULL, latent_space.find_similarities, latent_space.draw_similarities),
    ),
    Experiment(
        "figure10",
        "Images of similar classes in the latent space",
        *(tuple(latent_space.CONSTRAINED), latent_space.find_map, latent_space.draw_map),
    ),
    Experiment(
        "figure11",
        "The five images nearest to a class's attributes",
        *(_FULL, retrieved.find, retrieved.draw),
    ),
)
EXPERIMENTS: Mapping[str, Experiment] = {one.name: one for one in _ALL}
"""Name → what to train for it, how to compute, draw and describe it."""


def select_experiments(names: Sequence[str]) -> list[Experiment]:
    """Return the experiments of these names, in the order of the table; all if none is named."""
    for name in names:
        if name not in EXPERIMENTS:
            raise InputError(f"--only must name some of {', '.join(EXPERIMENTS)}, but got {name!r}")
    return [one for one in _ALL if not names or one.name in names]
