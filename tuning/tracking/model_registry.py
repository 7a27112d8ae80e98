"""Store a trained classifier in MLflow's model registry, so that it loads anywhere; load it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import mlflow
import mlflow.artifacts
import mlflow.pyfunc
import numpy as np
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.models.model import Model
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

import mianet
from mianet.errors import InputError
from mianet.inference.prediction import GZSL, Classifier
from tuning.tracking.address import URI_VARIABLE
from tuning.tracking.experiments import EXPERIMENT_PREFIX
from tuning.tracking.store import TrackingStore, open_store, reason_of, set_environment

# It logs that the example is being checked; if something is wrong with it, it raises.
logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)

ALIAS = "champion"
EXAMPLE_ROWS = 2

SERVING_PACKAGES = ("mlflow", "torch", "numpy", "pandas", "jaxtyping")
"""What must be installed where the model is loaded.

Given explicitly: to infer them, MLflow would start processes that load the model.
"""

WEIGHTS = "artifacts/classifier.pt"  # path of the classifier in a saved model

_PROJECT = "mianet-tuning"
_PACKAGE = Path(mianet.__file__).parent
_SERVED_MODEL = Path(__file__).with_name("served_model.py")


@dataclass(frozen=True)
class RegisteredModel:
    """A version of a model in the registry; the alias moves to newer ones, this does not."""

    name: str
    version: int

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"


def model_name(dataset: str) -> str:
    """Return the registry's name for a data set's model: ``mianet-awa1``."""
    return EXPERIMENT_PREFIX + re.sub(r"[^a-z0-9_-]+", "-", dataset.lower())


def champion_of(dataset: str) -> str:
    """Return the address of the newest model of a data set, as MLflow writes it."""
    return f"models:/{model_name(dataset)}@{ALIAS}"


def register_model(
    tracking_uri: str, *, run_id: str, dataset: str, classifier: Classifier, example: np.ndarray
) -> RegisteredModel:
    """Log a trained classifier with a run, register it and give it the alias ``champion``.

    Args:
        tracking_uri: The store that the run is in.
        run_id: The final training that the classifier is from.
        dataset: Canonical name of the data set.
        classifier: The trained classifier.
        example: A few images' features, (images, features), float32; the first two are kept.

    Raises:
        InputError: The store does not answer, or does not accept the model.
    """
    store = open_store(tracking_uri)
    name = model_name(dataset)
    rows = np.asarray(example[:EXAMPLE_ROWS], np.float32)
    request = store.requesting(f"the model {name}", seconds=None)
    with request, _as_global_store(store.uri), _saved_model(classifier, rows) as folder:
        model_id = _log_model(store.client, run_id, name, folder)
        version = _register_version(store.client, name, run_id, model_id)
    return RegisteredModel(name, version)


def load_classifier(reference: str, tracking_uri: str) -> Classifier:
    """Load the classifier of a saved model; unlike MLflow's own loading, run none of its code.

    Args:
        reference: ``models:/<name>@<alias>``, ``models:/<name>/<version>``, ``runs:/<run id>`` of a
            final training, the folder of a saved model, or a file that ``Classifier.save`` wrote.
        tracking_uri: The store that models and runs are in; not used for folders and files.

    Raises:
        InputError: There is no such model, or the store does not answer.
    """
    if not reference.startswith(("models:/", "runs:/")):
        path = Path(reference).expanduser()
        if not path.exists():
            raise InputError(
                "the model must be models:/<name>@<alias>, models:/<name>/<version>, "
                f"runs:/<run id>, or a folder or file, but there is no {reference}"
            )
        return Classifier.load(path / WEIGHTS if path.is_dir() else path)
    store = open_store(tracking_uri, must_exist=True)
    try:
        with (
            _as_global_store(store.uri),
            tempfile.TemporaryDirectory(prefix="mianet-model-") as folder,
        ):
            model = mlflow.artifacts.download_artifacts(
                artifact_uri=_model_uri(store, reference), dst_path=folder
            )
            return Classifier.load(Path(model) / WEIGHTS)
    except (MlflowException, OSError) as error:
        raise InputError(
            f"the model must be in the store, but {reference} is not ({reason_of(error)})"
        ) from error


def _model_uri(store: TrackingStore, reference: str) -> str:
    """Return the ``models:/`` address of a reference; for a run, that of its model."""
    if reference.startswith("models:/"):
        return reference.rstrip("/")
    run_id = reference.removeprefix("runs:/").partition("/")[0]
    outputs = store.client.get_run(run_id).outputs
    models = outputs.model_outputs if outputs else []
    if not models:
        raise InputError(
            f"the run must be a final training that registered a model, but {run_id} has no model"
        )
    return f"models:/{models[-1].model_id}"


@contextlib.contextmanager
def _as_global_store(uri: str) -> Iterator[None]:
    """Make a store MLflow's global one: a SQL registry looks models up there, not in itself."""
    before = {URI_VARIABLE: os.environ.get(URI_VARIABLE)}
    mlflow.set_tracking_uri(uri)  # sets the variable, too
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # back to the environment's
        set_environment(before)


@contextlib.contextmanager
def _saved_model(classifier: Classifier, example: np.ndarray) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mianet-model-") as temporary:
        weights, constraints, folder = (
            Path(temporary, name) for name in (Path(WEIGHTS).name, "constraints.txt", "model")
        )
        classifier.save(weights)
        # Everything installed, as constraints, which only fix versions: packages that only the
        # search needs do no harm.
        found = {_pin(d.name) for d in metadata.distributions() if d.name != _PROJECT}
        constraints.write_text("\n".join(sorted(found, key=str.lower)) + "\n")
        mlflow.pyfunc.save_model(
            path=folder,
            python_model=str(_SERVED_MODEL),
            artifacts={"classifier": str(weights)},
            code_paths=[str(_PACKAGE)],
            signature=_signature(example.shape[1]),
            input_example=example,
            pip_requirements=[*map(_pin, SERVING_PACKAGES), f"-c {constraints}"],
        )
        yield folder


def _log_model(client: MlflowClient, run_id: str, name: str, folder: Path) -> str:
    experiment_id = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment_id, name=name, source_run_id=run_id)
    card = Model.load(folder)
    card.run_id, card.model_id = run_id, model.model_id
    card.artifact_path = model.artifact_location
    card.save(folder / "MLmodel")
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_id)


def _register_version(client: MlflowClient, name: str, run_id: str, model_id: str) -> int:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        name, source=f"models:/{model_id}", run_id=run_id, model_id=model_id
    )
    client.set_registered_model_alias(name, ALIAS, str(version.version))
    return int(version.version)


def _signature(features: int) -> ModelSignature:
    columns = {"image": "long", "rank": "long", "class": "string", "score": "float"}
    params = [
        ParamSpec("mode", DataType.string, GZSL),
        ParamSpec("top_k", DataType.long, 1),
        ParamSpec("calibration", DataType.double, None),  # None: the model's own
        ParamSpec("new_classes", DataType.string, ""),
    ]
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float32"), (-1, features))]),
        outputs=Schema([ColSpec(kind, name) for name, kind in columns.items()]),
        params=ParamSchema(params),
    )


def _pin(package: str) -> str:
    """Return ``torch==2.13.0`` where 2.13.0+cpu is installed: indexes have public versions only."""
    return f"{package}=={metadata.version(package).partition('+')[0]}"
