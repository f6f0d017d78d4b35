import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from colorization.config import ConfigError
from colorization.data.coco import CocoCollection, CocoSource
from colorization.data.collection import Instance
from written_pictures import all_names, names, write_pictures

Content = dict[str, Any]


@pytest.fixture
def content(tmp_path: Path) -> Content:
    """Annotations of sixty pictures of 9 x 8 pixels."""
    write_pictures(tmp_path / "photos", 60)
    return {
        "images": [
            {"id": 100 + i, "file_name": f"0-{i:03}.png", "width": 9, "height": 8}
            for i in range(60)
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 102, "category_id": 18, "area": 36, "iscrowd": 0},
            {"id": 2, "image_id": 102, "category_id": 1, "area": 7.2},
            {"id": 3, "image_id": 102, "category_id": 1, "area": 60, "iscrowd": 1},
            {"id": 4, "image_id": 103, "category_id": 1, "area": 73, "iscrowd": 0},
        ],
    }


def source(folder: Path, content: Content | str) -> CocoSource:
    path = folder / "instances_val.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return CocoSource(pictures=str(folder / "photos"), annotations=str(path))


def test_things_are_named_with_their_share_of_the_picture_and_crowds_left_out(
    tmp_path: Path, content: Content
) -> None:
    found = source(tmp_path, content).collect()
    things = {name: found.instances(i) for i, name in enumerate(found.names)}
    assert things["0-002.png"] == [Instance("dog", 0.5), Instance("person", 7.2 / 72)]
    assert things["0-003.png"] == [Instance("person", 1.0)]
    assert things["0-004.png"] == []
    again: CocoCollection = pickle.loads(pickle.dumps(found))
    assert again.instances(2) == found.instances(2)


def test_the_listed_pictures_are_split_and_others_in_the_folder_are_not_taken(
    tmp_path: Path, content: Content
) -> None:
    content["images"].pop(50)
    sets = source(tmp_path, content).open(0.1)
    assert all_names(sets) == {image["file_name"] for image in content["images"]}
    assert names(sets.train) == sorted(names(sets.train))


def test_listed_pictures_that_are_missing_are_unreadable(tmp_path: Path, content: Content) -> None:
    (tmp_path / "photos" / "0-007.png").unlink()
    coco = source(tmp_path, content)
    assert coco.open(0.1).unreadable == ["0-007.png"]
    assert "No such file" in coco.collect().version(7)
    with pytest.raises(ConfigError, match=r"1 of 60 pictures in .*photos.*0-007\.png"):
        coco.open(0.001)


SPOILED: dict[str, tuple[Callable[[Content], object], str]] = {
    "unknown picture": (
        lambda c: c["annotations"].append({"id": 9, "image_id": 5, "category_id": 1, "area": 1}),
        "annotation 9 is of the image 5, which is not listed",
    ),
    "unknown category": (
        lambda c: c["annotations"].append({"id": 9, "image_id": 102, "category_id": 2, "area": 1}),
        "annotation 9 is of the category 2, which is not listed",
    ),
    "captions": (
        lambda c: (c.pop("categories"), c["annotations"].clear()),
        r"has no list categories; an instances_\*\.json of COCO is needed",
    ),
    "no area": (lambda c: c["annotations"][0].pop("area"), "lacks 'area'"),
    "area of text": (lambda c: c["annotations"][0].update(area="big"), "of another kind"),
    "no pictures": (lambda c: (c["images"].clear(), c["annotations"].clear()), "lists no pictures"),
    "pictures without width": (lambda c: c["images"][3].pop("width"), "lacks 'width'"),
    "pictures of no width": (lambda c: c["images"][3].update(width=0), "of another kind"),
    "a list of numbers": (lambda c: c["images"].append(3), "of another kind"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_annotations_of_another_kind_are_refused(
    case: str, tmp_path: Path, content: Content
) -> None:
    spoil, message = SPOILED[case]
    spoil(content)
    with pytest.raises(ConfigError, match=rf"annotations: .*instances_val\.json.*{message}"):
        source(tmp_path, content).collect()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "has no list images, annotations, categories"),
        ("{", "is no JSON"),
        ("", "is no JSON"),
    ],
)
def test_a_file_that_is_no_annotation_is_refused(
    tmp_path: Path, content: Content, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        source(tmp_path, text).collect()


def test_missing_files_are_named(tmp_path: Path, content: Content) -> None:
    coco = source(tmp_path, content)
    for change, message in (
        ({"pictures": str(tmp_path / "gone")}, r"source\.pictures: no folder .*gone"),
        ({"annotations": str(tmp_path / "gone")}, r"source\.annotations: no file .*gone"),
        ({"annotations": str(tmp_path)}, r"source\.annotations: cannot read"),
    ):
        with pytest.raises(ConfigError, match=message):
            coco.model_copy(update=change).collect()
