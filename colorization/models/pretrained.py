"""torchvision's pretrained weights, through its own cache."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import torch

from colorization.config import ConfigError

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


def load_pretrained(
    weights: "WeightsEnum", otherwise: str = "set pretrained=false"
) -> dict[str, Any]:
    """Return the state dict of torchvision weights, downloading them where there is a network.

    Raises ConfigError where they are neither in the cache nor to be had: it names the file, its
    key in torchvision, the folder it belongs into, and what may be done `otherwise`.
    """
    path = _cached(weights)
    patience = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(10)  # a closed network may drop packets and never answer
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (URLError, OSError) as error:
        raise _missing(weights, f" and cannot be downloaded ({error})", otherwise) from error
    except Exception as error:  # a file of something else makes the unpickler raise anything
        raise ConfigError(f"the pretrained weights {path} are damaged: {error}") from error
    finally:
        socket.setdefaulttimeout(patience)


def refuse_missing(weights: "WeightsEnum", otherwise: str) -> None:
    """Raise ConfigError, as `load_pretrained`, where weights are not in the cache: no download."""
    if not _cached(weights).exists():
        raise _missing(weights, "", otherwise)


def _cached(weights: "WeightsEnum") -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / str(weights.url).rsplit("/", 1)[-1]


def _missing(weights: "WeightsEnum", why: str, otherwise: str) -> ConfigError:
    path = _cached(weights)
    return ConfigError(
        f"pretrained weights {type(weights).__name__}.{weights.name} are not in torch's cache"
        f"{why}: put the file {path.name} into {path.parent}, or {otherwise}"
    )


def one_channel(weight: torch.Tensor) -> torch.Tensor:
    """Derive a first convolution for gray pictures: (out, 3, k, k) -> (out, 1, k, k), summed.

    A gray picture repeated to three channels gives the same answer through either.
    """
    return weight.sum(dim=1, keepdim=True)
