"""The classifier as MLflow serves it.

MLflow keeps this file with the model and runs it when the model is loaded (models from code), so
that nothing of it is pickled. It needs the ``mianet`` package, which travels with the model, and
nothing else of this project.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from mianet.errors import InputError

CANDIDATES = ("all", "unseen")


class ServedClassifier(PythonModel):
    """Names the class of each image: among all classes (GZSL) or the unseen ones (ZSL)."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the trained weights."""
        from mianet.prediction import Classifier  # found only once MLflow has set the path

        self._classifier = Classifier.load(Path(context.artifacts["classifier"]))

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return the columns ``class`` and ``score``, a row an image.

        Args:
            context: Not used.
            model_input: Features, (images, features), float32.
            params: ``candidates``: ``all`` or ``unseen``.

        Raises:
            InputError: ``candidates`` is something else.
        """
        candidates = (params or {}).get("candidates", CANDIDATES[0])
        if candidates not in CANDIDATES:
            raise InputError(
                f"candidates must be one of {', '.join(CANDIDATES)}, but got {candidates!r}"
            )
        scores = self._classifier.predict(np.asarray(model_input, dtype=np.float32))
        if candidates == "unseen":
            scores = np.where(self._classifier.unseen, scores, -np.inf)
        best = scores.argmax(axis=1)
        return pd.DataFrame(
            {
                "class": [self._classifier.class_names[index] for index in best],
                "score": scores[np.arange(len(best)), best],
            }
        )


set_model(ServedClassifier())
