import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from colorization.coco_masks import RunLengths
from colorization.config import ConfigError
from colorization.data.given_instances import GivenInstances
from colorization.instances import (
    EVERY_PICTURE,
    Box,
    Detection,
    GivenInstance,
    InstanceFinder,
    InstanceOptions,
    InstancesDoNotFit,
    check_names,
    find_instances,
    instances_line,
    parse_instances,
    read_instances,
    scaled_mask,
)

PICTURE = np.zeros((100, 200, 3), np.uint8)


class Planted:
    """A detector that sees what it was told."""

    def __init__(self, *seen: Detection) -> None:
        self.seen = list(seen)

    def find(self, rgb: np.ndarray) -> list[Detection]:
        return self.seen


def thing(score: float, width: int, height: int) -> Detection:
    return Detection("dog", score, Box(0, 0, width, height), np.ones((height, width), bool))


def test_instances_must_be_sure_and_large_enough() -> None:
    seen = [thing(0.9, 64, 64), thing(0.5, 64, 64), thing(0.9, 63, 90), thing(0.9, 90, 63)]
    assert find_instances(PICTURE, InstanceOptions(), detector=Planted(*seen)) == seen[:1]
    every = InstanceOptions(min_score=0.4, min_side=10)
    assert find_instances(PICTURE, every, detector=Planted(*seen)) == seen


def test_of_a_detectors_boxes_as_many_are_taken_as_cover_the_picture_ten_times() -> None:
    seen = [thing(1 - number / 100, 200, 100) for number in range(12)]
    assert find_instances(PICTURE, InstanceOptions(), detector=Planted(*seen)) == seen[:10]


def test_more_instances_than_may_be_are_an_error_of_their_picture() -> None:
    one = GivenInstance(bbox=(0, 0, 1, 1))
    asked = InstanceOptions(given={"": (one,) * 101}, min_side=1)
    with pytest.raises(InstancesDoNotFit, match="found 101 instances; at most 100"):
        find_instances(PICTURE, asked)
    assert find_instances(PICTURE, asked.model_copy(update={"min_side": 2})) == []
    triangle = (0.0, 0.0, 9.0, 0.0, 9.0, 9.0)
    with pytest.raises(ValidationError, match="found 257 polygons, at most 256"):
        GivenInstance(bbox=(0, 0, 9, 9), segmentation=(triangle,) * 257)
    with pytest.raises(ValidationError, match="found 6000 corners, at most 5000"):
        GivenInstance(bbox=(0, 0, 9, 9), segmentation=(triangle * 2000,))


def test_only_classes_that_are_wanted_count() -> None:
    given = (GivenInstance(label="tree", bbox=(0, 0, 70, 70)),) * 120
    person = GivenInstance(label="person", bbox=(0, 0, 70, 70))
    asked = InstanceOptions(given={"": (*given, person)})
    (found,) = find_instances(PICTURE, asked, labels=["person"])
    assert found.label == "person"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"name": "", "instances": ' + "[" * 100_000, "brackets within brackets"),
        ('{"name": "", "instances": [{"label": "\\udcff", "bbox": [0, 0, 9, 9]}]}', "surrogate"),
    ],
)
def test_a_line_that_no_parser_takes_is_named(line: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"line 1: .*{words}"):
        parse_instances(line)


@pytest.mark.parametrize("name", ["a\udcff.jpg", "a\u2028b.jpg", "a\x0cb.jpg", "ä.jpg"])
def test_a_line_that_was_written_is_read_whatever_the_name(name: str, tmp_path: Path) -> None:
    line = instances_line(name, [thing(0.9, 70, 80)], 100, 200)
    (instance,) = parse_instances(line)[name]
    assert instance.bbox == (0, 0, 70, 80)
    (tmp_path / "found.jsonl").write_text(line + "\n", encoding="utf-8")
    assert GivenInstances(tmp_path / "found.jsonl").told(name) == (instance,)


def test_given_instances_take_the_place_of_the_detector_by_the_pictures_name() -> None:
    given = {"a.jpg": (GivenInstance(label="cat", bbox=(10.2, 5, 70, 80)),)}
    options = InstanceOptions(given=given)
    (found,) = InstanceFinder()(PICTURE, options, "a.jpg")
    assert found[:3] == ("cat", 1.0, Box(10, 5, 70, 80))
    assert found.mask.shape == (80, 70)
    assert found.mask.all()
    assert InstanceFinder()(PICTURE, options, "b.jpg") == []


def test_a_list_is_for_any_picture() -> None:
    given = parse_instances('[{"bbox": [0, 0, 64, 64]}]')
    assert len(InstanceFinder()(PICTURE, InstanceOptions(given=given), "whatever")) == 1
    assert InstanceFinder()(PICTURE, InstanceOptions(given=parse_instances("[]"))) == []


def test_a_polygon_becomes_the_mask_within_the_box() -> None:
    polygon = (100.0, 10.0, 180.0, 10.0, 180.0, 90.0)
    (found,) = find_instances(
        PICTURE,
        InstanceOptions(
            given={"": (GivenInstance(bbox=(100, 10, 80, 80), segmentation=(polygon,)),)}
        ),
    )
    assert found.mask[5, 70]
    assert not found.mask[70, 5]
    assert found.mask.mean() == pytest.approx(0.5, abs=0.02)


def test_boxes_reach_to_the_pictures_edge_and_not_beyond() -> None:
    (found,) = find_instances(
        PICTURE, InstanceOptions(given={"": (GivenInstance(bbox=(-10, 20, 500, 500)),)})
    )
    assert found.box == Box(0, 20, 200, 80)
    assert found.box.cut(PICTURE).shape == (80, 200, 3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (GivenInstance(label="dog", bbox=(200, 0, 64, 64)), "dog at 200, 0, 64, 64 lies outside"),
        (GivenInstance(bbox=(0, -70, 64, 64)), "outside of the picture of 200 x 100"),
        (
            GivenInstance(
                bbox=(0, 0, 64, 64), segmentation=RunLengths(size=(50, 50), counts=(2500,))
            ),
            "mask of 50 x 50 pixels, the picture 200 x 100",
        ),
    ],
)
def test_instances_of_another_picture_are_refused(given: GivenInstance, words: str) -> None:
    with pytest.raises(InstancesDoNotFit, match=words):
        find_instances(PICTURE, InstanceOptions(given={"": (given,)}))


def test_what_was_found_is_written_as_it_is_read() -> None:
    mask = np.zeros((80, 70), bool)
    mask[10:60, 5:50] = True
    found = [Detection("dog", 0.75, Box(10, 5, 70, 80), mask), thing(0.9, 64, 64)]
    again = find_instances(
        PICTURE, InstanceOptions(given=parse_instances(instances_line("a", found, 100, 200))), "a"
    )
    for one, other in zip(found, again, strict=True):
        assert one[:3] == other[:3]
        assert (one.mask == other.mask).all()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "Expecting property name"),
        ('{"name": "b"}', "instances"),
        ('{"name": "a", "instances": []}', "'a' was on an earlier line"),
        ('{"name": "b", "instances": [{"bbox": [0, 0, 0, 5]}]}', "above 0"),
        ('{"name": "b", "instances": [{"bbox": [0, 0, 5]}]}', "bbox"),
        ('{"name": "b", "instances": [{"bbox": [0, 0, 5, NaN]}]}', "bbox"),
        ('{"name": "b", "instances": [{"box": [0, 0, 5, 5]}]}', "bbox"),
        (
            '{"name": "b", "instances": [{"bbox": [0, 0, 5, 5], "segmentation": [[1, 2]]}]}',
            "three corners",
        ),
    ],
)
def test_a_line_of_another_kind_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "found.jsonl"
    path.write_text('{"name": "a", "instances": []}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_instances(path)
    assert f"{path}, line 2" in str(caught.value)
    assert words in str(caught.value)


def test_text_that_names_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no picture is named"):
        parse_instances("\n")
    with pytest.raises(ConfigError, match=r"missing\.jsonl"):
        read_instances(tmp_path / "missing.jsonl")
    with pytest.raises(ConfigError, match="bbox"):
        parse_instances(json.dumps([{"label": "dog"}]))


def test_a_mask_keeps_its_share_at_another_size() -> None:
    mask = np.zeros((100, 80), bool)
    mask[:50] = True
    for size in ((10, 8), (200, 160), (7, 9)):
        assert scaled_mask(mask, *size).mean() == pytest.approx(0.5, abs=0.08)


def test_boxes_that_cover_a_picture_many_times_are_refused_before_masks_are_made() -> None:
    whole = GivenInstance(bbox=(0, 0, 200, 100))
    options = InstanceOptions(given={EVERY_PICTURE: (whole,) * 11})
    with pytest.raises(InstancesDoNotFit, match="11 instances cover the picture 11 times"):
        find_instances(PICTURE, options)
    small = GivenInstance(bbox=(0, 0, 200, 63))  # too small to count
    options = InstanceOptions(given={EVERY_PICTURE: (small,) * 100})
    assert find_instances(PICTURE, options) == []


def test_a_box_beyond_all_pictures_is_refused_where_it_is_read() -> None:
    with pytest.raises(ConfigError, match="bbox"):
        parse_instances('[{"bbox": [1e308, 0, 1e308, 100]}]')


def test_a_file_that_names_references_alone_is_one() -> None:
    line = '{"name": "reference 1", "instances": [{"bbox": [0, 0, 64, 64]}]}'
    check_names(InstanceOptions(given=parse_instances(line)), ["a.jpg"])
