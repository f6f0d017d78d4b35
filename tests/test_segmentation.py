from pathlib import Path

import numpy as np
import pytest
import torch

from colorization.config import ConfigError
from colorization.segmentation import VOC_CLASSES, Backbone, Segmenter, segmentation_weights
from planted_deeplab import half_bright, plant, plant_bright_is


@pytest.mark.parametrize(
    "backbone",
    [
        pytest.param("resnet101", marks=pytest.mark.slow),
        pytest.param("resnet50", marks=pytest.mark.slow),
        "mobilenet",
    ],
)
def test_the_network_is_torchvisions_and_sees_what_its_weights_were_measured_on(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = plant(backbone, tmp_path, monkeypatch)
    picture = half_bright(130, 100)
    transforms = segmentation_weights(backbone).transforms()
    with torch.inference_mode():
        shown = transforms(torch.from_numpy(picture).permute(2, 0, 1))[None]
        labels = theirs(shown)["out"][0].argmax(0).numpy()
    assert min(shown.shape[-2:]) == 520
    found = Segmenter(backbone).foreground(picture)
    assert found.shape == labels.shape
    assert ((found > 0.5) == (labels > 0)).mean() > 0.999


def test_the_classes_are_those_of_the_weights() -> None:
    for backbone in ("resnet101", "resnet50", "mobilenet"):
        names = segmentation_weights(backbone).meta["categories"]
        assert tuple(names) == ("__background__", *VOC_CLASSES)


def test_a_class_is_foreground_where_it_is_the_likeliest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_bright_is("person", "dog", tmp_path, monkeypatch)
    segmenter = Segmenter("mobilenet")
    picture = half_bright(200, 300)
    right = np.zeros((520, 780), bool)
    right[:, 390:] = True
    person = segmenter.foreground(picture, ["person"]) > 0.5
    dog = segmenter.foreground(picture, ["dog"]) > 0.5
    assert (person == right).mean() > 0.95
    assert np.array_equal(dog, ~person)
    assert (segmenter.foreground(picture, ["dog", "person"]) > 0.5).all()
    assert not (segmenter.foreground(picture, ["cat"]) > 0.5).any()
    assert (segmenter.foreground(picture) > 0.5).all()


def test_pictures_of_16_bits_and_large_ones_are_seen_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_bright_is("person", None, tmp_path, monkeypatch)
    segmenter = Segmenter("mobilenet")
    picture = half_bright(520, 600)
    found = segmenter.foreground(picture)
    deep = segmenter.foreground(picture.astype(np.uint16) * 257)
    assert np.abs(deep - found).max() < 1e-3
    large = segmenter.foreground(np.repeat(np.repeat(picture, 5, 0), 5, 1))
    assert ((large > 0.5) == (found > 0.5)).mean() > 0.99


def test_a_thin_picture_is_not_enlarged_beyond_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant("mobilenet", tmp_path, monkeypatch)
    assert Segmenter("mobilenet").foreground(half_bright(2, 900)).shape == (5, 2080)


def test_missing_weights_are_named_with_their_folder_and_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(ConfigError) as caught:
        Segmenter("resnet101")
    message = str(caught.value)
    assert "deeplabv3_resnet101_coco-586e9e4e.pth" in message
    assert str(tmp_path / "hub" / "checkpoints") in message
    assert "give a mask from a file" in message


def test_weights_of_another_network_are_refused_by_the_files_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant("mobilenet", tmp_path, monkeypatch)
    cache = tmp_path / "hub" / "checkpoints"
    (file,) = cache.iterdir()
    file.rename(cache / "deeplabv3_resnet50_coco-cd0a2569.pth")
    with pytest.raises(ConfigError, match=r"deeplabv3_resnet50_coco-cd0a2569\.pth"):
        Segmenter("resnet50")
