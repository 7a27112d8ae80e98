"""The paper's tables and figures; a new one is an entry here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from mianet.errors import InputError
from tuning.paper import ablations, latent_space, retrieved, sweeps, tables
from tuning.paper.evidence import MULTIPLIERS
from tuning.paper.findings import Experiment

_ALL = (
    Experiment(
        "table2",
        "Table 2. Generalized zero-shot classification",
        ("full",),
        partial(tables.find, name="table2"),
    ),
    Experiment(
        "table3",
        "Table 3. Zero-shot classification",
        ("full",),
        partial(tables.find, name="table3"),
    ),
    Experiment(
        "table4", "Table 4. Zero-shot retrieval", ("full",), partial(tables.find, name="table4")
    ),
    Experiment(
        "figure4",
        "Figure 4. Parts of the model, generalized zero-shot classification",
        ablations.ARMS,
        partial(ablations.find, name="figure4"),
        partial(ablations.draw, name="figure4"),
    ),
    Experiment(
        "figure5",
        "Figure 5. Parts of the model, zero-shot classification",
        ablations.ARMS,
        partial(ablations.find, name="figure5"),
        partial(ablations.draw, name="figure5"),
    ),
    Experiment(
        "figure6",
        "Figure 6. The latent dimension",
        tuple(MULTIPLIERS),
        sweeps.find_multipliers,
        sweeps.draw_multipliers,
    ),
    Experiment(
        "figure7",
        "Figure 7. Strategies of optimisation",
        tuple(sweeps.STRATEGIES),
        sweeps.find_strategies,
        sweeps.draw_strategies,
    ),
    Experiment(
        "figure8",
        "Figure 8. New classes, their attributes withheld from training",
        sweeps.NEW,
        sweeps.find_new_classes,
        sweeps.draw_new_classes,
    ),
    Experiment(
        "figure9",
        "Figure 9. Similarity of classes in the attribute and the latent space",
        ("full",),
        latent_space.find_similarities,
        latent_space.draw_similarities,
    ),
    Experiment(
        "figure10",
        "Figure 10. Images of similar classes in the latent space",
        tuple(latent_space.CONSTRAINED),
        latent_space.find_map,
        latent_space.draw_map,
    ),
    Experiment(
        "figure11",
        "Figure 11. The five images nearest to a class's attributes",
        ("full",),
        retrieved.find,
        retrieved.draw,
    ),
)
EXPERIMENTS: Mapping[str, Experiment] = {one.name: one for one in _ALL}
"""Name → what to train for it, how to compute, draw and describe it."""


def chosen(names: Sequence[str]) -> list[Experiment]:
    """Return the experiments of these names, in the order of the table; all where none is named.

    Raises:
        InputError: A name is unknown.
    """
    for name in names:
        if name not in EXPERIMENTS:
            raise InputError(
                f"an experiment must be one of {', '.join(EXPERIMENTS)}, but got {name!r}"
            )
    return [one for name, one in EXPERIMENTS.items() if not names or name in names]
