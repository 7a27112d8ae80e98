"""What is recorded of features that a network made of images: beside them, and in a package."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mianet.data.files import file_digest
from mianet.errors import InputError

BACKBONE_FILE = "backbone.json"  # the file of a package that says how its features were made
IMAGENET = "ImageNet-1k"
"""What the unseen classes of the proposed splits were chosen to be no part of."""
MAX_RECORD_BYTES = 2**16
_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class BackboneRecord:
    """The network that made features, as it is recorded."""

    name: str  # of ``BACKBONES`` of ``mianet.extraction.backbones``
    trained_on: str  # which images, in words
    weights: str
    weights_sha256: str  # of the weights, whatever file they were in, hex
    preprocessing: Mapping[str, Any]  # what was done to an image before
    versions: Mapping[str, str]
    warning: str = ""  # what to beware of in figures on these features

    @property
    def words(self) -> str:
        """Return the network and its weights for a line of text."""
        return f"{self.name} (weights {self.weights_sha256[:_SHOWN]})"

    def as_dict(self) -> dict[str, Any]:
        """Return what is recorded, for JSON and for MLflow."""
        return {name: value for name, value in asdict(self).items() if value != ""}

    @classmethod
    def of(cls, values: Any, origin: str) -> BackboneRecord:
        """Return the record of what ``as_dict`` returned; another origin's is refused."""
        try:
            record = cls(**values)
            kinds = {"preprocessing": Mapping, "versions": Mapping}
            if all(isinstance(value, kinds.get(n, str)) for n, value in vars(record).items()):
                return record
        except TypeError:  # no mapping, or of other names
            pass
        raise InputError(
            f"{origin} must say which network made the features, as `python -m mianet.extract` "
            "writes it, but does not; extract them again, or remove the file"
        )


def exposure(record: BackboneRecord, published_split: str | None) -> str:
    """Return the warning that a network may have seen the unseen classes; empty where it has not.

    It has not where its images are ImageNet's and the split is the proposed one of a data set.
    """
    if record.trained_on == IMAGENET and published_split:
        return ""
    return (
        f"{record.name} was trained on {record.trained_on}, where images of the unseen classes may "
        "be; if they are, figures on these classes are not of zero-shot recognition"
    )


@dataclass(frozen=True)
class Extracted:
    """What stands beside a file of features."""

    backbone: BackboneRecord
    images: Sequence[str]  # files, a row of the features each
    labels: Sequence[str] | None  # None where images were not in folders by class
    sha256: str
    broken: Mapping[str, str] = field(default_factory=dict)  # files that were left out → why

    def text(self) -> str:
        values = {**vars(self), "backbone": self.backbone.as_dict(), "broken": dict(self.broken)}
        return json.dumps(values, ensure_ascii=False)


def record_of(features: Path) -> Path:
    """Return the file that says how a file of features was made."""
    return features.with_name(f"{features.name}.json")


def read_extracted(features: Path) -> Extracted | None:
    """Return what stands beside a file of features; None for nothing."""
    path = record_of(features)
    if not path.is_file():
        return None
    values = _read_json(path, path.stat().st_size)
    try:
        found = Extracted(
            **{**values, "backbone": BackboneRecord.of(values["backbone"], str(path))}
        )
    except (TypeError, KeyError) as error:
        raise InputError(
            f"{path} must be as `python -m mianet.extract` writes it, but is not ({error}); "
            "extract the features again, or remove it"
        ) from error
    if file_digest(features) != found.sha256:
        raise InputError(
            f"{path} must be of {features}, but its digest is of another file; extract the "
            "features again, or remove it"
        )
    return found


def write_backbone(path: Path, record: BackboneRecord) -> None:
    """Write how a package's features, or vectors of classes, were made."""
    text = json.dumps(record.as_dict(), ensure_ascii=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def read_backbone(path: Path) -> BackboneRecord | None:
    """Return how a package's features, or vectors of classes, were made; None without a file."""
    if not path.is_file():
        return None
    return BackboneRecord.of(_read_json(path, MAX_RECORD_BYTES), str(path))


def _read_json(path: Path, most: int) -> Any:
    try:
        with path.open("rb") as file:
            return json.loads(file.read(most))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} must be readable JSON, but is not ({error}); remove it"
        ) from error
