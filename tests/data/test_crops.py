import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorization.config import ConfigError
from colorization.data.crops import CropCollection, picture_of
from colorization.data.curation.candidate import look
from colorization.data.curation.rules import CurationRules
from colorization.data.folder import FolderSource
from colorization.data.given_instances import GivenInstances
from colorization.instances import InstancesDoNotFit


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        small = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(small).resize((300, 200)).save(folder / name)
    lines = [
        {
            "name": "a.png",
            "instances": [
                {"label": "dog", "bbox": [10, 20, 100, 80]},
                {"label": "dog", "bbox": [0, 0, 100, 80], "score": 0.5},
                {"label": "cat", "bbox": [150, 20, 64, 120]},
                {"label": "cat", "bbox": [150, 20, 63, 120]},
            ],
        },
        {"name": "b.png", "instances": [{"label": "dog", "bbox": [280, 0, 100, 100]}]},
    ]
    (tmp_path / "found.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def crops(photos: Path, *labels: str) -> CropCollection:
    pictures = FolderSource.model_validate({"path": str(photos)}).collect()
    return CropCollection(pictures, GivenInstances(photos.parent / "found.jsonl"), 0.5, 64, labels)


def test_instances_that_are_sure_and_large_enough_become_square_pictures(photos: Path) -> None:
    found = crops(photos)
    assert found.names == ["a.png#0", "a.png#2", "b.png#0"]
    assert crops(photos, "cat").names == ["a.png#2"]
    whole = np.asarray(Image.open(photos / "a.png"))
    assert found.picture(0).shape == (100, 100, 3)
    assert found.picture(0, 32).shape == (32, 32, 3)
    assert np.abs(found.picture(0).mean((0, 1)) - whole[20:100, 10:110].mean((0, 1))).max() < 2


def test_crops_go_by_the_split_of_their_picture_and_are_no_copies_of_each_other(
    photos: Path,
) -> None:
    found = crops(photos)
    rules = CurationRules(instances="crops", size=32, wanted=("dog", "cat"))
    first, second = (look(found, index, 0, rules)[0] for index in (0, 1))
    pictures = FolderSource.model_validate({"path": str(photos)}).collect()
    whole, _ = look(pictures, 0, 0, CurationRules())
    assert first.dropped is None
    assert first.size == (32, 32)
    assert first.digest == second.digest == whole.digest
    assert first.content != second.content
    assert picture_of(first.name) == "a.png"


def test_of_a_box_enough_must_lie_within_the_picture(photos: Path) -> None:
    with pytest.raises(InstancesDoNotFit, match=r"b\.png#0: 20 x 100 pixels"):
        crops(photos).picture(2)
    seen, _ = look(crops(photos), 2, 0, CurationRules(instances="crops"))
    assert seen.dropped == "unreadable"
    assert "64 are needed" in seen.reason


def test_a_line_without_a_name_is_for_the_pictures_that_have_none_of_their_own(
    tmp_path: Path,
) -> None:
    path = tmp_path / "found.jsonl"
    any_picture = {"name": "", "instances": [{"label": "dog", "bbox": [0, 0, 80, 80]}]}
    path.write_text('{"name": "a", "instances": []}\n' + json.dumps(any_picture))
    given = GivenInstances(path)
    assert given.told("a") == ()
    assert [one.label for one in given.told("elsewhere")] == ["dog"]
    path.write_text(json.dumps(any_picture["instances"]))
    with pytest.raises(ConfigError, match="found a list, which says what is in one picture"):
        GivenInstances(path)


def test_a_file_is_read_line_by_line_and_its_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    path.write_text('{"name": "a", "instances": []}\n{"name": "b"}\n')
    given = GivenInstances(path)
    assert list(given) == ["a", "b"]
    assert given.told("a") == given.told("elsewhere") == ()
    with pytest.raises(ConfigError, match="instances: Field required"):
        given.told("b")
    for line, words in (("[]", "line 2"), ('{"name": "a"}', "earlier line"), ("{", "line 2")):
        path.write_text('{"name": "a", "instances": []}\n' + line)
        with pytest.raises(ConfigError, match=words):
            GivenInstances(path)
