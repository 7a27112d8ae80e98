"""What a search may see of a data set: the trainval images, the seen classes, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from mianet.config import Hyperparameters
from mianet.data.class_vectors import open_embedding
from mianet.data.datasets import find_dataset
from mianet.data.extracted import BACKBONE_FILE, BackboneRecord, read_backbone
from mianet.data.sources import find_own_folder, open_source
from mianet.data.store import open_part


@dataclass(frozen=True)
class SearchData:
    """The trainval images and the seen classes' attributes; no test image, no unseen class."""

    name: str  # canonical; for your own folder, its name and the start of its digest
    digest: str  # sha256 of the source and of another class embedding, hex
    features: Float32[np.ndarray, "images features"]  # read-only, mapped, C-contiguous
    labels: Int64[np.ndarray, " images"]  # rows of class_attributes
    class_attributes: Float32[np.ndarray, "seen attributes"]
    class_names: tuple[str, ...]
    class_ids: Int64[np.ndarray, " seen"]  # among all classes
    class_embedding: str = ""  # in place of the data set's own attributes
    backbone: BackboneRecord | None = None
    embedding_backbones: tuple[BackboneRecord, ...] = ()

    @property
    def provenance(self) -> dict[str, object]:
        """The records of the networks that made the features and the class embedding."""
        made = {f"class_embedding.{k}": one for k, one in enumerate(self.embedding_backbones, 1)}
        if self.backbone:
            made["backbone"] = self.backbone
        return {name: one.as_dict() for name, one in made.items()}


def load_search_data(
    name: str, data_dir: Path | None = None, embedding: Sequence[str] = ()
) -> SearchData:
    """Load what a search may see; the first call converts the source into a store.

    Args:
        name: As for ``mianet.data.sources.open_source``.
        data_dir: Likewise.
        embedding: Files with vectors of all classes, instead of the data set's attributes.
    """
    source = open_source(name, data_dir)
    digest, found = open_part(source, "search")
    arrays, recorded = dict(found), source.recorded_name(digest)
    names = tuple(arrays.pop("class_names").tolist())
    count = int(arrays.pop("all_classes")[0])
    if other := open_embedding(embedding):
        classes = dict(zip(arrays["class_ids"].tolist(), names, strict=True))
        arrays["class_attributes"] = other.vectors_for(classes, count)
        digest = hashlib.sha256(f"{digest} {other.digest}".encode()).hexdigest()
    return SearchData(
        name=recorded,
        digest=digest,
        class_names=names,
        class_embedding=other.name if other else "",
        backbone=read_backbone(source.folder / BACKBONE_FILE) if source.folder else None,
        embedding_backbones=other.backbones if other else (),
        **arrays,
    )


def recorded_name(name: str, data_dir: Path | None = None) -> str:
    """Return the name that runs of a data set are recorded under; ``name`` may already be one."""
    if find_own_folder(name, data_dir):
        return load_search_data(name, data_dir).name
    return find_dataset(name).name


def paper_hyperparameters(name: str) -> Hyperparameters:
    """Return the paper's configuration for a data set (section 4.2)."""
    return Hyperparameters(**find_dataset(name).paper_settings)
