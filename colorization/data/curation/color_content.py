"""Whether a picture has colors of its own, or brightness only."""

import cv2
import numpy as np
import torch

from colorization.color import AB_SCALE, rgb_to_lab
from colorization.data.curation.rules import CurationRules

_SIDE = 64  # pixels; coding noise is averaged away at this size
# Share of the chroma that cancels out in the mean color: 0 for one hue, 1 for hues that balance.
_ONE_HUE = 0.03
_ONE_CHANNEL = ("1", "L", "LA", "La", "I", "F")  # Pillow's modes, I;16 and its kin beside them


def brightness_only(rgb: np.ndarray, mode: str, rules: CurationRules) -> str | None:
    """Return why a picture has no colors of its own, None where it has.

    `rgb` is sRGB (H, W, 3) uint8, `mode` Pillow's name for the pixels in the file. A gray
    photograph printed or scanned in one tone (sepia, cyanotype) is told by its colors being of one
    hue and following from its brightness: what a cubic of L leaves of ab is small.
    """
    if mode in _ONE_CHANNEL or mode.startswith("I;"):
        return f"the file has one channel of brightness (mode {mode}), colors are wanted"
    lightness, ab = _lab(rgb)
    chroma = np.hypot(*ab)
    mean_chroma = chroma.mean()
    if mean_chroma < rules.min_chroma:
        return f"found a mean chroma of {mean_chroma:.2f}, at least {rules.min_chroma:g} is wanted"
    cancelled = 1 - np.hypot(*ab.mean(1)) / mean_chroma if mean_chroma else 0.0
    free = _free_color(lightness, ab)
    if cancelled < _ONE_HUE and free < rules.min_free_color:
        return (
            f"found one hue, from which colors that brightness does not predict deviate by "
            f"{free:.2f}, at least {rules.min_free_color:g} is wanted: toned gray"
        )
    return None


def _lab(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return L / 100 (n,) and ab (2, n), in units of Lab, of a picture shrunk to _SIDE."""
    scale = _SIDE / min(rgb.shape[:2])
    if scale < 1:
        size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    lab = rgb_to_lab(torch.from_numpy(rgb.copy()).permute(2, 0, 1)).flatten(1).double().numpy()
    return (lab[0] + 1) / 2, lab[1:] * AB_SCALE


def _free_color(lightness: np.ndarray, ab: np.ndarray) -> float:
    """Return the root mean square of ab (2, n) less its best fit by a cubic of lightness (n,)."""
    powers = np.vander(lightness, 4)
    coefficients = np.linalg.lstsq(powers, ab.T, rcond=None)[0]
    residual = ab.T - powers @ coefficients
    return float(np.sqrt(np.square(residual).sum(1).mean()))
