"""The names that command lines offer, separate from the registries that give them a meaning.

The registries load PyTorch, Ray and Optuna, which ``--help`` should not wait for. A test compares
the two.
"""

from __future__ import annotations

from typing import Final

MIANET: Final = "mianet"

MODEL_NAMES: Final = (MIANET, "eszsl", "sae", "conse", "dap", "ale", "devise", "sje")
"""The keys of ``tuning.spec.models.MODELS``."""

SAMPLER_NAMES: Final = ("tpe", "qmc", "gp", "cmaes", "nsga2", "random")
"""The keys of ``tuning.engine.samplers.SAMPLERS``."""

SCHEDULER_NAMES: Final = ("asha", "median", "none")
"""The keys of ``tuning.engine.stopping.SCHEDULERS``."""

PREDICTION_MODES: Final = ("gzsl", "zsl")
"""``mianet.inference.prediction.MODES``."""

CONFIGURATIONS: Final = ("selected", "paper")
"""Which configuration the paper's tables and figures are made from."""

DEFAULT_FRESH_DRAWS: Final = 10
"""Draws that the best trials are confirmed on."""
