import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection import (
    MaskRCNN_ResNet50_FPN_V2_Weights,
    maskrcnn_resnet50_fpn_v2,
)

from colorization.config import ConfigError
from colorization.data.collection import Instance
from colorization.data.curation.instances import (
    check_wanted,
    no_wanted_instance,
    read_detections,
    seen_by,
)
from colorization.data.curation.rules import CurationRules
from colorization.mask_rcnn import MaskRCNNDetector

RULES = CurationRules(wanted=("person", "dog"), min_share=0.2, min_score=0.5)
WEIGHTS = "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"


def test_one_wanted_instance_that_is_large_and_sure_is_enough() -> None:
    enough = Instance("dog", 0.2, 0.5)
    assert no_wanted_instance([Instance("cat", 0.9, 0.9), enough], RULES) is None


@pytest.mark.parametrize(
    ("instances", "words"),
    [
        (None, "nobody looked"),
        ([], "found nothing"),
        ([Instance("cat", 0.9, 0.9)], "found cat"),
        ([Instance("dog", 0.19, 0.9)], "found dog on 19.0% with 0.90"),
        ([Instance("dog", 0.9, 0.49)], "found dog on 90.0% with 0.49"),
        ([Instance("dog", 0.1, 0.9), Instance("dog", 0.9, 0.1)], "found dog on 10.0% with 0.90"),
    ],
)
def test_what_is_not_enough_is_named_with_what_is_wanted(instances, words) -> None:
    reason = no_wanted_instance(instances, RULES)
    assert reason is not None
    assert words in reason
    assert "wanted is person or dog on 20% of the picture" in reason


def test_detections_are_read_by_name(tmp_path: Path) -> None:
    path = tmp_path / "seen.jsonl"
    lines = [
        {"name": "a/ä.jpg", "instances": [{"label": "dog", "share": 0.4, "score": 0.9}]},
        {"name": "b.jpg", "instances": []},
        {"name": "c.jpg", "instances": [{"label": "cat", "share": 1}]},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n", encoding="utf-8")
    assert read_detections(path) == {
        "a/ä.jpg": [Instance("dog", 0.4, 0.9)],
        "b.jpg": [],
        "c.jpg": [Instance("cat", 1.0, 1.0)],
    }


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "EOF"),
        ("[]", "object"),
        ('{"name": "b"}', "instances"),
        ('{"name": "a", "instances": []}', "'a' was on an earlier line"),
        ('{"name": "b", "instances": [{"label": "x", "share": 40}]}', "instances.0.share"),
        ('{"name": "b", "instances": [{"label": "x", "share": 0.1, "box": 3}]}', "box"),
        ('{"name": "b", "instances": [{"label": "x", "share": NaN}]}', "share"),
    ],
)
def test_a_line_of_another_kind_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "seen.jsonl"
    path.write_text('{"name": "a", "instances": []}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_detections(path)
    assert f"{path}, line 2" in str(caught.value)
    assert words in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.jsonl"):
        read_detections(tmp_path / "missing.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"bytes\.jsonl"):
        read_detections(tmp_path / "bytes.jsonl")


def test_classes_that_are_never_known_are_refused_with_the_nearest_names() -> None:
    known = ("person", "dog", "hot dog")
    check_wanted(["person", "hot dog"], known, "the file")
    with pytest.raises(
        ConfigError, match="'Persons', which the file never knows; did you mean 'pe"
    ):
        check_wanted(["dog", "Persons"], known, "the file")
    with pytest.raises(ConfigError, match="known are none"):
        check_wanted(["dog"], (), "the file")


def test_weights_that_are_missing_are_named_with_their_place(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(ConfigError) as caught:
        MaskRCNNDetector()
    for words in (WEIGHTS, str(tmp_path / "hub" / "checkpoints"), "detections made elsewhere"):
        assert words in str(caught.value)


@pytest.mark.slow
def test_mask_rcnn_sees_what_its_weights_say(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(0)
    state = maskrcnn_resnet50_fpn_v2(weights_backbone=None).state_dict()
    state["roi_heads.box_predictor.cls_score.bias"][18] = 20.0  # dog, everywhere
    state["roi_heads.mask_predictor.mask_fcn_logits.bias"][18] = 10.0  # and all over its box
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(state, folder / WEIGHTS)
    detector = MaskRCNNDetector()
    assert len(detector.labels) == 80
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    seen = seen_by(detector, picture)
    assert {one.label for one in seen} == {"dog"}
    assert all(one.score > 0.9 for one in seen)
    assert 0 < max(one.share for one in seen) <= 1
    large = np.kron(picture, np.ones((30, 20, 1), np.uint8))  # shown to it at a smaller size
    for one in detector.find(large):
        assert one.mask.shape == one.box.cut(large).shape[:2]


def test_the_file_of_the_weights_is_that_of_torchvision() -> None:
    assert MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1.url.endswith("/" + WEIGHTS)
