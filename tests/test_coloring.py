from typing import Any

import pytest
import torch

from colorization.coloring import ColorOptions, check_options
from colorization.config import ConfigError, parse
from colorization.models.colorizer import noise
from tiny_colorizers import Partial, Tones


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"samples": 0}, "samples: found 0"),
        ({"samples": 65}, "samples: found 65"),
        ({"temperature": -0.1}, "temperature: found -0.1"),
        ({"temperature": float("nan")}, "temperature"),
        ({"saturation": 5}, "saturation: found 5"),
        ({"gain": 0}, "gain: found 0"),
        ({"gain": "bright"}, "gain: found 'bright'; auto or a number"),
        ({"upsampling": "nearest"}, "upsampling: found 'nearest'"),
        ({"seed": -1}, "seed: found -1"),
        ({"saturatoin": 1}, "did you mean 'saturation'"),
    ],
)
def test_what_cannot_be_meant_is_named(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(ColorOptions, setting)


def test_a_model_that_draws_nothing_refuses_samples_and_temperature() -> None:
    for options in (ColorOptions(samples=2), ColorOptions(temperature=0.5)):
        check_options(options, Tones())
        with pytest.raises(ConfigError, match="this model draws nothing"):
            check_options(options, Partial())
    check_options(ColorOptions(seed=3), Partial())


def test_noise_is_a_function_of_seed_and_sample_alone() -> None:
    few, many = (noise(count, 5, torch.device("cpu"), seed=7) for count in (2, 4))
    assert torch.equal(few, many[:2])
    assert not torch.equal(few, noise(2, 5, torch.device("cpu"), seed=8))
