import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from colorization.__main__ import main
from colorization.color_flags import parse_flat
from colorization.coloring import ColorOptions
from colorization.config import ConfigError
from colorization.export import load_exported
from colorization.inference import PictureColorizer
from colorization.instances import InstancesDoNotFit
from colorization.models.colorizer import Colorizer
from colorization.pair import export_pair, load_colorizer
from colorization.photographs import Signature, colorize_bytes
from colorization.pictures import Picture, encode_picture, read_rgb
from tiny_pair import export_untrained, tiny_experiment, untrained_pair

BOX = {"label": "dog", "bbox": [20, 10, 70, 80]}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def colorizer(pair: Path) -> PictureColorizer:
    return load_colorizer(pair)


@pytest.fixture(scope="module")
def picture() -> Picture:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Picture(np.asarray(Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC)))


def options(*instances: dict, **others) -> ColorOptions:
    return parse_flat({"instances": json.dumps(instances), **others})


class Listening:
    """Notes what a model is asked."""

    def __init__(self, model: Colorizer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lightness: list[torch.Tensor] = []
        self.colored: list[torch.Tensor | None] = []
        before = model.colorize

        def colorize(lightness, *others, **more):
            self.lightness.append(lightness)
            self.colored.append(more.get("colored"))
            return before(lightness, *others, **more)

        monkeypatch.setattr(model, "colorize", colorize)


def test_the_scene_model_sees_the_colors_of_instances_and_of_nothing_else(
    colorizer: PictureColorizer, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Listening(colorizer.model, monkeypatch)
    colorizer(picture, options(BOX))
    (colored,) = scene.colored
    assert colored is not None
    assert colored.shape == (1, 1, 2, 64, 64)
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[5:48, 8:36] = True
    assert (colored[..., ~inside] == 0).all()
    assert (colored[0, 0, 0, 10:40, 12:32] != 0).float().mean() > 0.9


def test_what_is_pasted_is_what_the_instance_model_makes_of_the_crop(
    colorizer: PictureColorizer, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert colorizer.instance is not None
    scene = Listening(colorizer.model, monkeypatch)
    colorizer(picture, options(BOX))
    (view,) = colorizer.instance.views([Picture(picture.rgb[10:90, 20:90])], ColorOptions())
    (colored,) = scene.colored
    assert colored is not None
    middle = colored[0, 0, :, 25:28, 20:24].mean((1, 2))
    there = view.ab[0, :, 14:19, 13:19].mean((1, 2))
    torch.testing.assert_close(middle, there, atol=0.1, rtol=0.2)


def test_crops_of_all_pictures_pass_through_the_instance_model_together(
    colorizer: PictureColorizer, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert colorizer.instance is not None
    instance = Listening(colorizer.instance.model, monkeypatch)
    two = options(BOX, {"bbox": [80, 30, 64, 64]})
    together = [list(samples) for samples in colorizer.batch([picture, picture], two)]
    assert [len(lightness) for lightness in instance.lightness] == [4]
    alone = colorizer(picture, two)
    assert np.abs(together[1][0].rgb.astype(int) - alone[0].rgb).max() <= 1


def test_each_sample_has_instances_of_its_own(
    colorizer: PictureColorizer, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Listening(colorizer.model, monkeypatch)
    first, second = colorizer(picture, options(BOX, samples=2))
    (colored,) = scene.colored
    assert colored is not None
    assert not torch.equal(colored[0], colored[1])
    assert not np.array_equal(first.rgb, second.rgb)
    (one,) = colorizer(picture, options(BOX))
    assert np.abs(one.rgb.astype(int) - first.rgb).max() <= 1


def test_without_instances_the_scene_model_colors_alone(
    pair: Path, colorizer: PictureColorizer, picture: Picture
) -> None:
    scene, experiment = load_exported(pair)
    (alone,) = PictureColorizer(scene, experiment.data.size)(picture)
    small = {"bbox": [20, 10, 63, 80]}
    for asked in (ColorOptions(), options(), options(small)):
        (found,) = colorizer(picture, asked)
        assert np.array_equal(found.rgb, alone.rgb)
    (larger,) = colorizer(picture, options(small, min_side=60))
    assert not np.array_equal(larger.rgb, alone.rgb)


def test_instances_are_asked_of_pairs_only(pair: Path, picture: Picture) -> None:
    scene, experiment = load_exported(pair)
    single = PictureColorizer(scene, experiment.data.size)
    with pytest.raises(ConfigError, match="none of a pair"):
        single.prepare(options(BOX))
    with pytest.raises(ConfigError, match="none of a pair"):
        single(picture, options(BOX))
    with pytest.raises(ConfigError, match="tile: found beside instances"):
        options(BOX, tile=True)


def test_a_model_that_sees_no_colors_is_no_scene_model(pair: Path, tmp_path: Path) -> None:
    plain = export_untrained(tiny_experiment(), tmp_path / "plain")
    with pytest.raises(ConfigError, match=r"no scene model.*condition_on=lab"):
        export_pair(plain, plain, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="holds no exported model"):
        export_pair(tmp_path, pair, tmp_path / "out")


def test_a_pair_is_known_by_the_weights_of_both(
    pair: Path, colorizer: PictureColorizer, tmp_path: Path
) -> None:
    other = export_untrained(tiny_experiment(seed=2), tmp_path / "other")
    assert load_colorizer(export_pair(other, pair, tmp_path / "b")).digest != colorizer.digest


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"instances": "[{]"}, "instances, "),
        ({"instances": "nowhere.jsonl"}, "instances, line 1"),
        ({"instances": "[]", "min_score": 1.0}, "min_score: found 1.0"),
        ({"instances": "auto", "min_side": 0}, "min_side: found 0"),
        ({"min_side": 20}, "min_side: says which instances.*set instances"),
    ],
)
def test_wrong_words_about_instances_are_named(values: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{words}"):
        parse_flat(values)


def test_instances_outside_of_a_picture_are_an_error_of_that_picture(
    colorizer: PictureColorizer, picture: Picture
) -> None:
    data = encode_picture(picture, ".png")
    with pytest.raises(InstancesDoNotFit, match="row 3: dog at 900, 0, 70, 80 lies outside"):
        colorize_bytes(colorizer, data, options({**BOX, "bbox": [900, 0, 70, 80]}), "row 3")
    (colored,) = colorize_bytes(colorizer, data, options(BOX))
    assert read_rgb(colored).shape == picture.rgb.shape


@pytest.fixture
def folder(tmp_path: Path, picture: Picture) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/a.png"):
        Image.fromarray(picture.rgb).save(tmp_path / "in" / name)
    return tmp_path


def told(folder: Path, **pictures: list[dict]) -> Path:
    names = {"a": "a.png", "b": "b.png", "c": "sub/a.png"}
    lines = [json.dumps({"name": names[k], "instances": v}) for k, v in pictures.items()]
    path = folder / "found.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_folder_is_colored_by_the_instances_that_a_file_names(
    folder: Path, pair: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = {**BOX, "bbox": [900, 0, 70, 80]}
    file = told(folder, b=[outside], c=[BOX])
    words = ["colorize", str(pair), str(folder / "in"), "-o", str(folder / "out")]
    words += ["--instances", str(file), "--batch", "8"]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "a.png: no instances in it, colored by the scene model alone" in said
    assert "b.png: dog at 900, 0, 70, 80 lies outside" in said
    assert "sub/a.png: no instances" not in said
    assert "2 colorized, 1 left out" in said
    alone, aware = (read_rgb((folder / "out" / n).read_bytes()) for n in ("a.png", "sub/a.png"))
    assert not np.array_equal(alone, aware)

    told(folder, a=[BOX], b=[BOX], c=[BOX])
    assert main(words) == 0
    assert "2 colorized, 1 finished before" in capsys.readouterr().out  # sub/a.png as before
    again = read_rgb((folder / "out" / "a.png").read_bytes())
    assert np.array_equal(again, aware)


def test_a_file_that_names_none_of_the_pictures_is_refused(
    folder: Path, pair: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = told(folder, c=[BOX])
    out = folder / "out"
    words = ["colorize", str(pair), str(folder / "in" / "b.png"), "-o", str(out)]
    assert main([*words, "--instances", str(file)]) == 2
    assert "'sub/a.png' and 0 others, which are not among the 1 pictures, as 'b.png'" in (
        capsys.readouterr().err
    )
    assert main([*words, "--instances", str(folder / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err
    assert main([*words, "--min-score", "0.9"]) == 2
    assert not out.exists()


def test_a_detector_without_weights_is_refused_before_a_picture_is_read(
    folder: Path,
    pair: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    words = ["colorize", str(pair), str(folder / "in"), "-o", str(folder / "out")]
    assert main([*words, "--instances", "auto"]) == 2
    said = capsys.readouterr().err
    assert "MaskRCNN_ResNet50_FPN_V2_Weights" in said
    assert "give detections made elsewhere" in said
    assert not (folder / "out").exists()


def test_files_colored_before_there_were_instances_are_known_again(
    colorizer: PictureColorizer,
) -> None:
    before = {
        "samples": 1,
        "temperature": None,
        "seed": 0,
        "gain": 1.0,
        "saturation": 1.0,
        "upsampling": "guided",
        "tile": False,
        "foreground": None,
    }
    settings = {"version": 1, "size": colorizer.size, "options": before}
    signature = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    signature.update(f"{colorizer.digest}d 0".encode())
    found = Signature(colorizer, ColorOptions()).record("d", "0")
    assert found == f"colorization {signature.hexdigest()[:20]}"
