"""The classifier as MLflow serves it.

MLflow keeps this file with the model and runs it when the model is loaded (models from code), so
that none of it is pickled. It needs the ``mianet`` package, which travels with the model, and
nothing else of this project.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from mianet.errors import InputError


class ServedClassifier(PythonModel):
    """Names the best classes of each image: among all (GZSL) or the unseen ones (ZSL)."""

    def load_context(self, context: PythonModelContext) -> None:
        from mianet.inference.prediction import (
            Classifier,  # found only once MLflow has set the path
        )

        self.classifier = Classifier.load(Path(context.artifacts["classifier"]))

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return ``top_k`` rows per image, the best class first.

        The columns are ``image`` (its row, from 0), ``rank`` (from 1), ``class`` and ``score``.

        Args:
            context: Not used.
            model_input: Features, (images, features), float32; MLflow accepts data frames, too.
            params: ``mode``, ``top_k`` and ``calibration`` as ``Classifier.classify`` takes them;
                ``new_classes``, the JSON of classes that the model does not know.

        Raises:
            MlflowException: An argument is not as described; a server answers with status 400.
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        new_classes = given.pop("new_classes", "")
        try:
            classifier = self.classifier
            if new_classes:
                from mianet.data.class_vectors import parse_json

                added = parse_json(new_classes, "new_classes")
                classifier = classifier.add_classes(added.names, added.attributes)
            found = classifier.classify(model_input, **given)
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        images, top = found.classes.shape
        return pd.DataFrame(
            {
                "image": np.repeat(np.arange(images), top),
                "rank": np.tile(np.arange(1, top + 1), images),
                "class": [classifier.class_names[index] for index in found.classes.ravel()],
                "score": found.scores.ravel(),
            }
        )


set_model(ServedClassifier())
