"""The registered model: encoded pictures in, encoded colored pictures out.

MLflow keeps this file with the model and runs it to load it ("models from code").
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from colorization.color_flags import FLAT_NAMES, parse_flat
from colorization.coloring import ColorOptions
from colorization.config import ConfigError
from colorization.instances import check_unnamed
from colorization.pair import load_colorizer
from colorization.photographs import colorize_bytes
from colorization.picture_limit import refuse_huge
from colorization.pictures import UnreadablePicture


class ColorizerModel(PythonModel):
    """Colors a table of pictures: column `picture`, encoded bytes; over HTTP their base64.

    The params are the options of coloring, those of `python -m colorization colorize` under the
    same names; a mask is the base64 of a picture, `reference` that of one or, with commas between,
    of several, `instances` "auto" or a JSON list of what is in each of the pictures. A param that
    is unknown or wrong fails the whole request.

    The answer has a row for each row, with its index. `picture` holds the colored one, of the same
    size: PNG, TIFF and WebP in their format and lossless, JPEG as JPEG, everything else as PNG; the
    bytes are those that the command line writes. With several samples it is the first one, and
    `more` the list of the others; else `more` is null.

    A picture that cannot be read does not take the others of its request with it: its `picture` is
    null, and `error` names its row and says what was found. `error` is null in all other rows.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights, onto the GPU where there is one."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._colorizer = load_colorizer(Path(context.artifacts["checkpoint"]), device)
        _refuse_unknown_params()

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Color each picture of the column `picture`; raises MlflowException for wrong params."""
        del context
        options = self._options(params or {})
        pictures: Sequence[object] = model_input["picture"].tolist()
        answers = [self._color(row, picture, options) for row, picture in enumerate(pictures)]
        table = pd.DataFrame(answers, columns=["picture", "more", "error"], dtype=object)
        return table.set_axis(model_input.index)

    def _options(self, params: Mapping[str, Any]) -> ColorOptions:
        try:
            options = parse_flat(params)
            check_unnamed(options.instances)
            self._colorizer.prepare(options)
        except ConfigError as error:
            raise MlflowException.invalid_parameter_value(f"params: {error}") from error
        return options

    def _color(
        self, row: int, picture: object, options: ColorOptions
    ) -> tuple[bytes | None, list[bytes] | None, str | None]:
        name = f"row {row}"
        if not isinstance(picture, bytes):
            found = type(picture).__name__
            return None, None, f"{name}: found {found}; encoded bytes are needed"
        try:
            refuse_huge(picture, name, "the registered model")
            first, *more = colorize_bytes(self._colorizer, picture, options, name)
        except UnreadablePicture as error:
            return None, None, str(error)
        # What one picture brings a network or the memory to must not take the others' answers.
        except (RuntimeError, MemoryError) as error:
            return None, None, f"{name}: {type(error).__name__}: {error}"
        return first, more or None, None


class _UnknownParams(logging.Filter):
    """Turns MLflow's warning of params that it does not know into an error.

    It drops them before a model sees any: a typo would be answered with a picture made without
    that option.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        of_ours = all(repr(name) in message for name in FLAT_NAMES)
        if of_ours and message.startswith("Unrecognized params"):
            unknown = message.partition("[")[2].partition("]")[0]
            raise MlflowException.invalid_parameter_value(
                f"params: unknown: {unknown}; known are {', '.join(FLAT_NAMES)}"
            )
        return True


def _refuse_unknown_params() -> None:
    logger = logging.getLogger("mlflow.models.utils")
    # By name: each model that is loaded runs this file anew.
    if not any(type(one).__name__ == _UnknownParams.__name__ for one in logger.filters):
        logger.addFilter(_UnknownParams())


set_model(ColorizerModel())
