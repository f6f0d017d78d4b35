import cv2
import numpy as np
import pytest

from colorization.data.transforms import scoring_crop, training_crop


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def noise() -> np.ndarray:
    return rng().integers(0, 256, (50, 80, 3), dtype=np.uint8)


def test_a_picture_of_the_size_passes_scoring_unchanged(noise: np.ndarray) -> None:
    square = noise[:32, :32]
    assert np.array_equal(scoring_crop(square, 32), square)


def test_scoring_takes_the_central_square(noise: np.ndarray) -> None:
    assert np.array_equal(scoring_crop(noise, 50), noise[:, 15:65])
    upright = np.ascontiguousarray(noise.swapaxes(0, 1))
    assert np.array_equal(scoring_crop(upright, 50), upright[15:65])


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (7, 300), (500, 333)])
@pytest.mark.parametrize("size", [16, 64])
def test_pictures_of_any_shape_become_squares_of_the_size(
    shape: tuple[int, int], size: int
) -> None:
    picture = rng().integers(0, 256, (*shape, 3), dtype=np.uint8)
    for crop in (
        scoring_crop(picture, size),
        training_crop(picture, size, (0.1, 1.0), True, rng()),
    ):
        assert crop.shape == (size, size, 3)
        assert crop.dtype == np.uint8
        assert crop.flags.c_contiguous


def test_shrinking_averages_a_fine_texture_and_does_not_alias() -> None:
    picture = np.zeros((256, 256, 3), dtype=np.uint8)
    picture[:, ::4] = 255
    assert np.array_equal(np.unique(scoring_crop(picture, 64)), [64])


@pytest.mark.parametrize("side", [65, 90, 96, 127, 150, 300])
def test_shrinking_leaves_no_more_of_a_texture_too_fine_than_plain_averages(side: int) -> None:
    left: dict[str, list[float]] = {"found": [], "averages": []}
    for frequency in np.linspace(1.1 * 32 / side / 2, 0.5, 20):  # that 32 pixels cannot show
        wave = (127.5 + 127 * np.cos(2 * np.pi * frequency * np.arange(side))).astype(np.uint8)
        picture = np.ascontiguousarray(np.broadcast_to(wave[None, :, None], (side, side, 3)))
        averages = cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA)
        left["found"].append(scoring_crop(picture, 32)[:, 2:-2].std())
        left["averages"].append(averages[:, 2:-2].std())
    assert np.mean(left["found"]) <= 1.02 * np.mean(left["averages"])


@pytest.mark.parametrize("side", [40, 50, 64, 75, 100, 161])
def test_shrinking_is_close_to_the_average_of_the_pixels_covered(side: int) -> None:
    y, x = np.mgrid[0:side, 0:side] / side
    picture = (127 + 120 * np.sin(9 * x + 3 * y)).astype(np.uint8)[..., None].repeat(3, axis=2)
    expected = cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA).astype(int)
    found = scoring_crop(picture, 32).astype(int)
    assert np.abs(found - expected).max() <= 6
    if side == 64:
        assert np.array_equal(found, expected)


def test_pictures_that_may_not_be_written_are_cropped_and_left_as_they_are() -> None:
    picture = rng().integers(0, 256, (32, 40, 3), dtype=np.uint8)
    picture.flags.writeable = False
    before = picture.copy()
    for flip in (False, True):
        assert training_crop(picture, 32, (1.0, 1.0), flip, rng()).shape == (32, 32, 3)
        assert training_crop(picture, 16, (0.5, 1.0), flip, rng()).shape == (16, 16, 3)
    assert np.array_equal(picture, before)


def test_enlarging_keeps_a_plain_color() -> None:
    plain = np.full((10, 10, 3), (200, 30, 90), dtype=np.uint8)
    assert np.array_equal(np.unique(scoring_crop(plain, 64).reshape(-1, 3), axis=0)[0], plain[0, 0])
    assert len(np.unique(scoring_crop(plain, 64).reshape(-1, 3), axis=0)) == 1


def test_one_generator_state_gives_one_crop_and_others_give_others(noise: np.ndarray) -> None:
    crops = [training_crop(noise, 16, (0.5, 0.9), True, rng(s)) for s in (1, 1, 2, 3)]
    assert np.array_equal(crops[0], crops[1])
    assert len({crop.tobytes() for crop in crops}) == 3


def test_half_of_the_training_crops_are_mirrored_or_none(noise: np.ndarray) -> None:
    square = np.ascontiguousarray(noise[:32, :32])
    for flip, expected in ((True, 0.5), (False, 0.0)):
        generator = rng()
        crops = [training_crop(square, 32, (1.0, 1.0), flip, generator) for _ in range(400)]
        mirrored = [np.array_equal(crop, square[:, ::-1]) for crop in crops]
        assert all(m or np.array_equal(c, square) for m, c in zip(mirrored, crops, strict=True))
        assert np.mean(mirrored) == pytest.approx(expected, abs=0.1)


def test_training_crops_reach_every_corner_and_keep_to_the_scale() -> None:
    # red tells the row, green the column: a crop's corner pixels tell where it was cut
    rows, cols = np.indices((100, 200))
    picture = np.stack((rows, cols, np.zeros_like(rows)), axis=2).astype(np.uint8)
    generator = rng()
    sides, tops, lefts = [], [], []
    for _ in range(500):
        crop = training_crop(picture, 16, (0.5, 0.8), False, generator).astype(float)
        step = (crop[-1, 0, 0] - crop[0, 0, 0]) / 15
        sides.append(16 * step)
        tops.append(crop[0, 0, 0] - (step - 1) / 2)
        lefts.append(crop[0, 0, 1] - (step - 1) / 2)
    assert min(sides) >= 48
    assert max(sides) <= 82
    assert min(tops) <= 2
    assert max(tops) >= 42
    assert min(lefts) <= 5
    assert max(lefts) >= 135
