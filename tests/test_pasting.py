import numpy as np
import torch
from torch import Tensor

from colorization.instances import Box, Detection
from colorization.pasting import FADE, paste, square_crop

SIZE = 64


def whole(box: Box) -> Detection:
    return Detection("thing", 1.0, box, np.ones((box.height, box.width), bool))


def tone(a: float, b: float, side: int = 16, samples: int = 1) -> Tensor:
    return torch.tensor([a, b]).view(1, 2, 1, 1).expand(samples, 2, side, side)


def test_nothing_is_colored_outside_and_everything_well_within() -> None:
    box = Box(40, 20, 80, 60)  # of 256 x 128 pixels, so that the result is not in proportion
    pasted = paste([whole(box)], [tone(0.5, -0.25)], (128, 256), (SIZE, SIZE))
    assert pasted.shape == (1, 2, SIZE, SIZE)
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inside[10:40, 10:30] = True
    assert (pasted[..., ~inside] == 0).all()
    core = pasted[0, :, 14:36, 14:26]
    torch.testing.assert_close(core, tone(0.5, -0.25, 1)[0].expand_as(core))


def test_borders_are_soft_but_not_at_the_pictures_edge() -> None:
    side = 128
    box = Box(0, 32, 64, 64)
    (a,) = paste([whole(box)], [tone(1.0, 0.0)], (side, side), (side, side))[:, 0]
    assert (a[64, :50] > 0.999).all()  # from the picture's edge on
    fade = round(FADE * side)
    row = a[64, 64 - fade : 64]
    assert (row.diff() < 0).all()
    assert 0 < row[-1] < 0.5
    assert a[64, 64] == 0
    assert 0 < a[32, 20] < 0.5  # and at the other edges


def test_overlaps_are_averaged_whatever_the_order() -> None:
    found = [whole(Box(0, 0, 64, 64)), whole(Box(0, 0, 64, 64))]
    colors = [tone(0.4, 0.0), tone(0.0, 0.2)]
    pasted = paste(found, colors, (64, 64), (SIZE, SIZE))
    torch.testing.assert_close(pasted, tone(0.2, 0.1, SIZE))
    torch.testing.assert_close(pasted, paste(found[::-1], colors[::-1], (64, 64), (SIZE, SIZE)))


def test_a_mask_says_which_part_of_its_box_gets_colors() -> None:
    mask = np.zeros((64, 64), bool)
    mask[:, :32] = True
    found = Detection("thing", 1.0, Box(0, 0, 64, 64), mask)
    (a,) = paste([found], [tone(1.0, 1.0)], (64, 64), (SIZE, SIZE))[:, 0]
    assert (a[:, 32:] == 0).all()
    assert (a[:, :29] > 0.999).all()


def test_each_sample_is_pasted_by_itself() -> None:
    colors = torch.cat([tone(0.1, 0.0), tone(0.2, 0.0)])
    pasted = paste([whole(Box(0, 0, 64, 64))], [colors], (64, 64), (SIZE, SIZE))
    assert pasted.shape[0] == 2
    torch.testing.assert_close(pasted[:, 0, 30, 30], torch.tensor([0.1, 0.2]))


def test_a_thing_smaller_than_a_pixel_leaves_the_picture_whole() -> None:
    pasted = paste([whole(Box(999, 999, 1, 1))], [tone(1.0, 1.0)], (1000, 1000), (SIZE, SIZE))
    assert pasted.isfinite().all()


def test_a_crop_becomes_a_square_of_its_longer_side() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (100, 200, 3), dtype=np.uint8)
    assert square_crop(rgb, Box(10, 20, 80, 40), 256).shape == (80, 80, 3)
    small = square_crop(rgb, Box(0, 0, 200, 100), 32)
    assert small.shape == (32, 32, 3)
    assert abs(small.mean() - rgb.mean()) < 2
    assert (square_crop(rgb, Box(7, 9, 30, 30), 256) == rgb[9:39, 7:37]).all()
