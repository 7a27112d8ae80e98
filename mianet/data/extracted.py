"""Records of how a network made features from images: next to them, and in a package."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mianet.data.files import file_digest
from mianet.errors import InputError

BACKBONE_FILE = "backbone.json"  # the file in a package that records how its features were made
IMAGENET = "ImageNet-1k"
"""The images that the unseen classes of the proposed splits were chosen to be absent from."""
MAX_RECORD_BYTES = 2**16
_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class BackboneRecord:
    """The record of the network that made features."""

    name: str  # in ``BACKBONES`` of ``mianet.extraction.backbones``
    trained_on: str  # which images, in words
    weights: str
    weights_sha256: str  # of the weights themselves, not their file, hex
    preprocessing: Mapping[str, Any]  # what was done to an image first
    versions: Mapping[str, str]
    warning: str = ""  # a caveat about results on these features

    @property
    def label(self) -> str:
        """Return the network and its weights as a short text."""
        return f"{self.name} (weights {self.weights_sha256[:_SHOWN]})"

    def as_dict(self) -> dict[str, Any]:
        """Return what is recorded, for JSON and for MLflow."""
        return {name: value for name, value in asdict(self).items() if value != ""}

    @classmethod
    def from_dict(cls, values: Any, origin: str) -> BackboneRecord:
        """Rebuild the record from what ``as_dict`` returned; refuse anything else."""
        try:
            record = cls(**values)
            kinds = {"preprocessing": Mapping, "versions": Mapping}
            if all(isinstance(value, kinds.get(n, str)) for n, value in vars(record).items()):
                return record
        except TypeError:  # no mapping, or of other names
            pass
        raise InputError(
            f"{origin} must record the network that made the features, as `python -m "
            "mianet.extract` writes it, but does not; extract them again, or remove the file"
        )


def exposure(record: BackboneRecord, published_split: str | None) -> str:
    """Return the warning that a network may have seen the unseen classes; empty if it has not.

    It has not if it was trained on ImageNet and the split is a data set's proposed one.
    """
    if record.trained_on == IMAGENET and published_split:
        return ""
    return (
        f"{record.name} was trained on {record.trained_on}, which may include images of the unseen "
        "classes; if so, the results on these classes are not zero-shot"
    )


@dataclass(frozen=True)
class Extracted:
    """The record next to a file of features."""

    backbone: BackboneRecord
    images: Sequence[str]  # files, one per row of the features
    labels: Sequence[str] | None  # None if images were not in folders by class
    sha256: str
    broken: Mapping[str, str] = field(default_factory=dict)  # files that were left out → why

    def text(self) -> str:
        values = {**vars(self), "backbone": self.backbone.as_dict(), "broken": dict(self.broken)}
        return json.dumps(values, ensure_ascii=False)


def record_path(features: Path) -> Path:
    """Return the path of the record of a file of features."""
    return features.with_name(f"{features.name}.json")


def read_extracted(features: Path) -> Extracted | None:
    """Return the record next to a file of features; None if there is none."""
    path = record_path(features)
    if not path.is_file():
        return None
    values = _read_json(path, path.stat().st_size)
    try:
        found = Extracted(
            **{**values, "backbone": BackboneRecord.from_dict(values["backbone"], str(path))}
        )
    except (TypeError, KeyError) as error:
        raise InputError(
            f"{path} must be a record by `python -m mianet.extract`, but is not ({error}); "
            "extract the features again, or remove it"
        ) from error
    if file_digest(features) != found.sha256:
        raise InputError(
            f"{path} must describe {features}, but describes another file; extract the "
            "features again, or remove it"
        )
    return found


def write_backbone(path: Path, record: BackboneRecord) -> None:
    """Write the record of how a package's features, or class vectors, were made."""
    text = json.dumps(record.as_dict(), ensure_ascii=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def read_backbone(path: Path) -> BackboneRecord | None:
    """Read the record of how a package's features, or class vectors, were made; None if absent."""
    if not path.is_file():
        return None
    return BackboneRecord.from_dict(_read_json(path, MAX_RECORD_BYTES), str(path))


def _read_json(path: Path, max_bytes: int) -> Any:
    try:
        with path.open("rb") as file:
            return json.loads(file.read(max_bytes))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} must be readable JSON, but is not ({error}); remove it"
        ) from error
