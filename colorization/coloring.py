"""How a picture is to be colored: what the command line, the registered model and the job take."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from colorization.config import Config, ConfigError
from colorization.foreground import ForegroundOptions
from colorization.instances import InstanceOptions
from colorization.models.colorizer import Colorizer
from colorization.reference import EncodedReferences

MAX_SAMPLES = 64
_LEAST_GAIN, _MOST_GAIN = 0.1, 10.0


def _gain(value: object) -> object:
    """Say in one sentence what a gain may be, of whatever type."""
    if value == "auto":
        return value
    try:
        gain = float(str(value))
    except ValueError:
        gain = 0.0
    if not _LEAST_GAIN <= gain <= _MOST_GAIN:
        allowed = f"auto or a number from {_LEAST_GAIN} to {_MOST_GAIN:g}"
        raise ValueError(f"found {value!r}; {allowed} is needed")
    return gain


class ColorOptions(Config):
    """What may be chosen of one picture's coloring. With the defaults a model colors as it was
    scored, but for the size."""

    samples: int = Field(
        default=1, ge=1, le=MAX_SAMPLES, description="pictures, of models that draw"
    )
    temperature: float | None = Field(
        default=None,
        ge=0,
        le=2,
        description="scale of a drawing model's noise, 0 the mean; none: the model's own",
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**63,
        description="of what is drawn; sample i of a seed is the same noise in every picture",
    )
    gain: Annotated[float | Literal["auto"], BeforeValidator(_gain)] = Field(
        default=1.0,
        description="the model sees lightness times this; auto for pictures without middle tones",
    )
    saturation: float = Field(default=1.0, ge=0, le=4, description="colors times this; 0 is gray")
    upsampling: Literal["guided", "bilateral", "bicubic"] = Field(
        default="guided", description="how colors get from the model's size to the picture's"
    )
    tile: bool = Field(
        default=False, description="show the model large pictures by parts as well, for detail"
    )
    foreground: ForegroundOptions | None = Field(
        default=None, description="what stays in color, on a gray background; none: everything"
    )
    reference: EncodedReferences = Field(
        default=(),
        description="encoded pictures whose colors are taken, each picture the ones most like it",
    )
    instances: InstanceOptions | None = Field(
        default=None,
        description="things that a pair's instance model colors by themselves first; none: nothing",
    )

    def model_post_init(self, context: object) -> None:
        """Refuse parts of a picture that are shown in two ways."""
        if self.tile and self.instances is not None:
            raise ValueError(
                "tile: found beside instances; a picture is shown by tiles or by the things in it: "
                "leave out one of them"
            )


def check_options(options: ColorOptions, model: Colorizer) -> None:
    """Raise ConfigError for several samples, or a temperature, of a model that draws nothing, and
    for a reference of one that cannot tell what would have to be drawn for its colors."""
    if options.reference and not model.encodes:
        raise ConfigError(
            f"reference: found {len(options.reference)}; this model, a {type(model).__name__}, "
            "cannot tell what has to be drawn for a picture's colors: leave reference out, or take "
            "a cinn model"
        )
    if model.stochastic:
        return
    for name in ("samples", "temperature"):
        if (found := getattr(options, name)) != type(options).model_fields[name].default:
            raise ConfigError(
                f"{name}: found {found}; this model draws nothing, each picture has one coloring: "
                f"leave {name} out, or take a cvae or cinn model"
            )
