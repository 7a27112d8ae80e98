"""The paper's tables and figures; a new one is an entry here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mianet.errors import InputError
from tuning.paper import ablations, latent_space, retrieved, sweeps, tables
from tuning.paper.findings import Experiment

EXPERIMENTS: Mapping[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            name="table2",
            title="Table 2. Generalized zero-shot classification",
            arms=("full",),
            find=tables.find_gzsl,
        ),
        Experiment(
            name="table3",
            title="Table 3. Zero-shot classification",
            arms=("full",),
            find=tables.find_zsl,
        ),
        Experiment(
            name="table4",
            title="Table 4. Zero-shot retrieval",
            arms=("full",),
            find=tables.find_retrieval,
        ),
        Experiment(
            name="figure4",
            title="Figure 4. Parts of the model, generalized zero-shot classification",
            arms=ablations.ARMS,
            find=ablations.find_gzsl,
            draw=ablations.draw_gzsl,
        ),
        Experiment(
            name="figure5",
            title="Figure 5. Parts of the model, zero-shot classification",
            arms=ablations.ARMS,
            find=ablations.find_zsl,
            draw=ablations.draw_zsl,
        ),
        Experiment(
            name="figure6",
            title="Figure 6. The latent dimension",
            arms=sweeps.MULTIPLIER_ARMS,
            find=sweeps.find_multipliers,
            draw=sweeps.draw_multipliers,
        ),
        Experiment(
            name="figure7",
            title="Figure 7. Strategies of optimisation",
            arms=tuple(sweeps.STRATEGIES),
            find=sweeps.find_strategies,
            draw=sweeps.draw_strategies,
        ),
        Experiment(
            name="figure8",
            title="Figure 8. New classes, their attributes withheld from training",
            arms=sweeps.NEW,
            find=sweeps.find_new_classes,
            draw=sweeps.draw_new_classes,
        ),
        Experiment(
            name="figure9",
            title="Figure 9. Similarity of classes in the attribute and the latent space",
            arms=("full",),
            find=latent_space.find_similarities,
            draw=latent_space.draw_similarities,
        ),
        Experiment(
            name="figure10",
            title="Figure 10. Images of similar classes in the latent space",
            arms=tuple(latent_space.CONSTRAINED),
            find=latent_space.find_map,
            draw=latent_space.draw_map,
        ),
        Experiment(
            name="figure11",
            title="Figure 11. The five images nearest to a class's attributes",
            arms=("full",),
            find=retrieved.find,
            draw=retrieved.draw,
        ),
    )
}
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
