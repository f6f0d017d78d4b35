"""The registered model: encoded pictures in, encoded colored pictures out.

MLflow keeps this file with the model and runs it to load it ("models from code").
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from colorization.export import load_exported
from colorization.inference import PictureColorizer
from colorization.photographs import colorize_bytes
from colorization.pictures import UnreadablePicture


class ColorizerModel(PythonModel):
    """Colors a table of pictures: column `picture`, encoded bytes; over HTTP their base64.

    The answer has a row for each row, with its index. `picture` holds the colored one, of the same
    size: PNG, TIFF and WebP in their format and lossless, JPEG as JPEG, everything else as PNG.

    A picture that cannot be read does not take the others of its request with it: its `picture` is
    null, and `error` names its row and says what was found. `error` is null in all other rows.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights, onto the GPU where there is one."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model, experiment = load_exported(Path(context.artifacts["checkpoint"]), device)
        self._colorizer = PictureColorizer(model, experiment.data.size, device)

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Color each picture of the column `picture`."""
        del context, params
        pictures: Sequence[object] = model_input["picture"].tolist()
        answers = [self._color(row, picture) for row, picture in enumerate(pictures)]
        table = pd.DataFrame(answers, columns=["picture", "error"], dtype=object)
        return table.set_axis(model_input.index)

    def _color(self, row: int, picture: object) -> tuple[bytes | None, str | None]:
        if not isinstance(picture, bytes):
            return None, f"row {row}: found {type(picture).__name__}; encoded bytes are needed"
        try:
            (colored,) = colorize_bytes(self._colorizer, picture, name=f"row {row}")
            return colored, None
        except UnreadablePicture as error:
            return None, str(error)


set_model(ColorizerModel())
