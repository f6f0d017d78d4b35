from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from colorization.color import render
from colorization.grid import picture_grid, write_grid


def scene(count: int = 2, height: int = 8, width: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    lightness = torch.linspace(-0.5, 0.5, count * height * width).reshape(count, 1, height, width)
    return lightness, torch.full((count, 2, height, width), 0.25)


def blocks(grid: Image.Image) -> list[list[np.ndarray]]:
    """Find the pictures again, 96 by 144 pixels each, by the gaps of white around them."""
    pixels = np.asarray(grid)
    ink = (pixels != 255).any(axis=2)
    dense_rows = ink.mean(axis=1) > 0.5
    dense_columns = ink[dense_rows].all(axis=0)

    def runs(flags: np.ndarray) -> list[slice]:
        edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(int), [0]))))
        return [slice(*pair) for pair in edges.reshape(-1, 2)]

    return [[pixels[row, column] for column in runs(dense_columns)] for row in runs(dense_rows)]


def test_rows_are_pictures_and_columns_gray_prediction_truth() -> None:
    lightness, ab = scene()
    found = blocks(picture_grid(lightness, ab, -ab))
    assert [len(row) for row in found] == [3, 3]
    for index, row in enumerate(found):
        for shown, color in zip(row, (0 * ab, ab, -ab), strict=True):
            expected = render(lightness, color)[index].permute(1, 2, 0).numpy()
            assert np.array_equal(shown, expected.repeat(12, axis=0).repeat(12, axis=1))


def test_each_sample_has_a_column_and_a_missing_truth_has_none() -> None:
    lightness, ab = scene()
    found = blocks(picture_grid(lightness, torch.stack((ab, -ab, 0.5 * ab))))
    assert [len(row) for row in found] == [4, 4]


def test_large_pictures_keep_their_size() -> None:
    lightness, ab = scene(1, 100, 130)
    ((gray, _, _),) = blocks(picture_grid(lightness, ab, ab))
    assert gray.shape == (100, 130, 3)


def test_names_stand_above_rows_and_are_shortened_to_the_width() -> None:
    lightness, ab = scene()
    plain = picture_grid(lightness, ab, ab)
    named = picture_grid(lightness, ab, ab, names=["夏" + " i" * 200, "a.jpg"])
    assert named.width == plain.width
    assert named.height > plain.height
    for row, other in zip(blocks(named), blocks(plain), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(row, other, strict=True))


def test_numbers_that_do_not_fit_are_refused() -> None:
    lightness, ab = scene()
    with pytest.raises(ValueError, match="another number"):
        picture_grid(lightness, ab[:1])
    with pytest.raises(ValueError, match="another number"):
        picture_grid(lightness, ab, ab, names=["one"])


def test_bfloat16_and_gradients_are_no_obstacle() -> None:
    lightness, ab = scene()
    picture_grid(lightness, ab.bfloat16().requires_grad_(), ab)


def test_a_grid_is_written_as_png(tmp_path: Path) -> None:
    lightness, ab = scene()
    write_grid(tmp_path / "new" / "grid.png", lightness, ab, ab)
    with Image.open(tmp_path / "new" / "grid.png") as image:
        assert image.format == "PNG"
        assert image.size == picture_grid(lightness, ab, ab).size
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]
