"""Settings of models; MIANet's hyperparameters, and the paper's variants as settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args, get_type_hints

from mianet.errors import InputError

LatentActivation = Literal["relu", "linear"]
FeatureScaling = Literal["none", "global", "standard", "minmax", "l2"]
"""How features are scaled, fitted on training images only; see ``mianet.scaling``."""
Reconstruction = Literal["cross", "self", "none"]
Strategy = Literal["iterative", "simultaneous", "joint"]
Precision = Literal["fp32", "tf32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that determines a training besides its data, seed and number of epochs.

    A model declares a subclass with its hyperparameters as fields, each with a default. Values
    are checked on construction; an InputError names any of the wrong type or range.
    """

    positive: ClassVar[tuple[str, ...]] = ()  # fields that must be more than 0
    not_negative: ClassVar[tuple[str, ...]] = ()  # fields that must be 0 or more
    # The function that starts the model's trainings, by name, since importing it loads PyTorch:
    # code that only checks settings need not wait for that.
    trainer: ClassVar[str]

    model: str  # the model's name; a subclass allows only its own

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name), hints[field.name])
        for name in self.not_negative:
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be 0 or more, but got {getattr(self, name)!r}")
        for name in self.positive:
            if getattr(self, name) <= 0:
                raise InputError(f"{name} must be more than 0, but got {getattr(self, name)!r}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Build from values that may be strings, as from a command line or a recorded run."""
        hints = get_type_hints(cls)
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                raise InputError(
                    f"{name!r} is not a hyperparameter; choose from: {', '.join(names)}"
                )
        return cls(**{name: _parse(name, value, hints[name]) for name, value in values.items()})

    def replace(self, **changes: Any) -> Self:
        """Return a checked copy with some values changed."""
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Return name → value, in declaration order."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class Hyperparameters(Settings):
    """MIANet's hyperparameters.

    The defaults are the paper's (section 4.2), or those chosen in docs/method.md where the paper
    gives none.
    """

    positive = (
        "learning_rate",
        "latent_multiplier",
        "hidden_dim",
        "discriminator_dim",
        "batch_images",
    )
    not_negative = ("alpha", "beta", "gamma")
    trainer = "mianet.training:begin_mianet"

    model: Literal["mianet"] = "mianet"
    alpha: float = 1000.0  # weight of the orthogonal constraint ``L_ors`` (eq. 7)
    beta: float = 0.01  # weight of the reconstruction ``L_rec`` (eq. 7)
    gamma: float = 0.01  # weight of the adversarial ``L_dis`` (eq. 7)
    learning_rate: float = 1e-4  # Adam's step size, for both optimisers
    latent_multiplier: float = 2.0  # latent dimension as a multiple of the number of classes
    latent_activation: LatentActivation = "relu"  # what follows the last embedding layer
    hidden_dim: int = 2048  # width of the visual network's hidden layer
    discriminator_dim: int = 30  # width of the discriminator's hidden layer
    batch_images: int = 150  # images per step; each gives one positive and one negative pair
    feature_scaling: FeatureScaling = "global"
    orthogonal: bool = True  # whether ``L_ors`` (eq. 2) is used
    discriminator: bool = True  # whether ``L_dis`` (eq. 3-4) is used
    # which latents each modality is rebuilt from (eq. 5), if at all
    reconstruction: Reconstruction = "cross"
    strategy: Strategy = "iterative"  # how eq. 6 and eq. 7 are combined (figure 7)
    # keep unseen classes' attributes out of training (section 4.6)
    withhold_unseen_attributes: bool = False
    # what the large products of a step round their factors to: not at all, to TensorFloat-32 (on
    # GPUs that have it), or to bfloat16. Sums, weights and Adam are fp32.
    precision: Precision = "fp32"

    def latent_dim(self, classes: int) -> int:
        """Return L = multiplier × classes of the task, at least 1 (section 4.2)."""
        return max(1, round(self.latent_multiplier * classes))


VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "no_discriminator": {"discriminator": False},  # figures 4a, 5a
    "no_reconstruction": {"reconstruction": "none"},  # figures 4b, 5b
    "self_reconstruction": {"reconstruction": "self"},  # figures 4c, 5c
    "no_orthogonal": {"orthogonal": False},  # figure 10
    "simultaneous": {"strategy": "simultaneous"},  # figure 7
    "joint": {"strategy": "joint"},  # figure 7
    "withheld_attributes": {"withhold_unseen_attributes": True},  # figure 8
}
"""The paper's variants: name → the settings that differ from the defaults."""


def _check(name: str, value: Any, expected: Any) -> None:
    choices = get_args(expected)
    if choices:
        if value not in choices:
            raise InputError(f"{name} must be one of {', '.join(choices)}, but got {value!r}")
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if expected is float and not (is_number and math.isfinite(value)):
        raise InputError(f"{name} must be a finite number, but got {value!r}")
    if expected is int and not (is_number and isinstance(value, int)):
        raise InputError(f"{name} must be a whole number, but got {value!r}")
    if expected is bool and not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, but got {value!r}")


def _parse(name: str, value: Any, expected: Any) -> Any:
    if not isinstance(value, str) or get_args(expected):
        return value
    if expected is bool:
        return {"true": True, "false": False}.get(value.lower(), value)
    try:
        return expected(value)
    except ValueError:
        return value  # the check reports the original value
