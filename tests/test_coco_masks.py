import numpy as np
import pytest
from pydantic import ValidationError

from colorization.coco_masks import RunLengths, draw_polygons, draw_runs, run_lengths


def test_a_polygon_covers_the_pixels_within_its_corners_and_at_most_their_neighbors() -> None:
    square = (20.0, 10.0, 60.0, 10.0, 60.0, 40.0, 20.0, 40.0)
    whole = draw_polygons([square], 0, 0, 100, 80)
    assert whole[10:40, 20:60].all()
    whole[9:41, 19:61] = False
    assert not whole.any()
    part = draw_polygons([square], 30, 20, 50, 40)
    assert part[:20, :30].all()
    assert not part[21:, 31:].any()


def test_several_polygons_are_one_mask_also_where_they_overlap() -> None:
    one, other = (0.0, 0.0, 4.0, 0.0, 4.0, 4.0, 0.0, 4.0), (2.0, 2.0, 6.0, 2.0, 6.0, 6.0, 2.0, 6.0)
    assert draw_polygons([one, other], 0, 0, 8, 8)[3, 3]


def test_run_lengths_give_back_the_mask_that_they_were_made_of() -> None:
    rng = np.random.default_rng(0)
    for mask in (rng.random((7, 5)) > 0.5, np.ones((3, 4), bool), np.zeros((3, 4), bool)):
        assert (draw_runs(run_lengths(mask)) == mask).all()


def test_cocos_text_of_run_lengths_is_read() -> None:
    # As COCO's own tools write [6, 1, 40, 4, 5, 4, 5, 4, 21] of 9 x 10 pixels.
    runs = RunLengths(size=(9, 10), counts="61X13mN000`0")
    assert list(runs.lengths()) == [6, 1, 40, 4, 5, 4, 5, 4, 21]


@pytest.mark.parametrize(
    ("counts", "words"),
    [((1, 2), "runs of 3 pixels"), ("~", "no letter"), ("a", "within a number"), ((-1, 5), "-1")],
)
def test_runs_that_do_not_fill_the_picture_are_refused(counts, words) -> None:
    with pytest.raises(ValidationError, match=words):
        RunLengths(size=(2, 2), counts=counts)


def test_a_number_without_an_end_is_refused_at_once() -> None:
    with pytest.raises(ValidationError, match="a number of more than 7 letters"):
        RunLengths(size=(10, 10), counts="o" * 10_000_000)
