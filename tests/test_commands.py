import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from colorization import config
from colorization.__main__ import main
from colorization.color import rgb_to_lab
from colorization.experiment import Experiment, read_experiment, recipes
from colorization.export import export
from colorization.models.generators import UNetGeneratorConfig
from colorization.pictures import Picture, read_picture
from colorization.training import read_history
from tiny_experiment import TINY

Make = Callable[..., Experiment]
Out = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment of three epochs."""
    path = tmp_path_factory.mktemp("experiment") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def run(file: Path) -> Path:
    """The directory of a finished run."""
    assert main(["train", str(file), "--run-dir", str(file.parent / "run")]) == 0
    return file.parent / "run"


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# train


def test_train_writes_a_run_and_says_what_it_does(file: Path, tmp_path: Path, capsys: Out) -> None:
    assert main(["train", str(file), "--run-dir", str(tmp_path / "a run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.search(r"parameters: generator [\d,]+, discriminator [\d,]+", lines[0])
    assert lines[1].startswith("leave-gray: ab_mae ")
    epochs = ["epoch 1 (head_start)", "epoch 2 (adversarial)", "epoch 3 (adversarial)"]
    assert [line.partition(":")[0] for line in lines[2:5]] == epochs
    assert lines[5] == f"done: {tmp_path / 'a run'}"
    assert f"colorize '{tmp_path / 'a run'}' PICTURE" in lines[6]
    written = sorted(content(tmp_path / "a run"))
    assert "surroundings/epoch-00001.json" in written  # a changed checkout's diff may lie beside it
    assert [name for name in written if not name.startswith("surroundings/")] == [
        "best.json",
        "checkpoints/epoch-00002/state.pt",
        "checkpoints/epoch-00003/state.pt",
        "experiment.yaml",
        *(f"grids/epoch-0000{epoch}.png" for epoch in (1, 2, 3)),
        "metrics.jsonl",
    ]
    assert read_experiment(str(tmp_path / "a run/experiment.yaml")) == read_experiment(str(file))


def test_the_same_command_again_says_done_and_changes_nothing(
    file: Path, run: Path, capsys: Out
) -> None:
    before = content(run)
    assert main(["train", str(file), "--run-dir", str(run)]) == 0
    out = capsys.readouterr().out
    assert f"done: {run}" in out
    assert "epoch 1" not in out
    assert content(run) == before


def test_a_run_is_named_after_its_file_and_settings(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["train.stages={only: {turns: l1, epochs: 1}}", "data.source.crops=8"]
    assert main(["train", str(file), *settings]) == 0
    (folder,) = (tmp_path / "runs" / "plain").iterdir()
    assert folder.name == f"tiny-{read_experiment(str(file), settings).hash}"


def test_settings_may_stand_on_either_side_of_a_flag(
    file: Path, tmp_path: Path, capsys: Out
) -> None:
    settings = ["train.stages={only: {turns: l1, epochs: 1}}", "data.source.crops=8"]
    words = [settings[0], "--run-dir", str(tmp_path / "run"), settings[1]]
    assert main(["train", str(file), *words]) == 0
    assert read_experiment(str(tmp_path / "run/experiment.yaml")) == read_experiment(
        str(file), settings
    )


# evaluate


def printed_scores(text: str) -> dict[str, tuple[str, str]]:
    rows = re.findall(r"^│ (\w+) +│ +(\S+) │ +(\S*) +│$", text, re.MULTILINE)
    return {name: (model, gray) for name, model, gray in rows}


def test_evaluate_prints_the_scores_of_the_best_epoch_beside_leave_gray(
    run: Path, capsys: Out
) -> None:
    assert main(["evaluate", str(run)]) == 0
    out = capsys.readouterr().out
    assert "measures no generalization" in " ".join(out.split())
    printed = printed_scores(out)
    best = json.loads((run / "best.json").read_text())["epoch"]
    expected = read_history(run)[best - 1]
    assert {"ab_mae", "ab_jsd", "psnr", "against_gray"} <= printed.keys() <= expected.keys()
    for name, (value, _) in printed.items():
        assert float(value) == pytest.approx(expected[name], abs=1e-4), name
    assert float(printed["ab_mae"][1]) > 0
    assert float(printed["colorfulness"][1]) < float(printed["colorfulness"][0])
    assert printed["against_gray"][1] == ""


def test_evaluate_takes_the_test_pictures_or_others(run: Path, tmp_path: Path, capsys: Out) -> None:
    assert main(["evaluate", str(run)]) == 0
    validation = printed_scores(capsys.readouterr().out)
    assert main(["evaluate", str(run), "--split", "test"]) == 0
    test = printed_scores(capsys.readouterr().out)
    assert test.keys() == validation.keys()
    assert test["ab_mae"] != validation["ab_mae"]
    rng = np.random.default_rng(0)
    for split, count in {"train": 1, "val": 3, "test": 2}.items():
        for i in range(count):
            (tmp_path / split).mkdir(exist_ok=True)
            rgb = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(rgb).save(tmp_path / split / f"{i}.png")
    source = f"data.source={{name: folder, path: {tmp_path}}}"
    for words, count in (([source], 3), (["--split", "test", source], 2)):
        assert main(["evaluate", str(run), *words]) == 0
        assert printed_scores(capsys.readouterr().out)["pictures"][0] == f"{count}.0000"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.lambda_l1=3", "a trained model's settings cannot change"),
        ("data.size=48", "data.size: found 48; this model was trained at 32"),
        ("data.source.scoring_crps=3", "did you mean 'scoring_crops'"),
        ("data.source={name: folder, path: /nowhere/at/all}", "no folder /nowhere/at/all"),
    ],
)
def test_evaluate_refuses_what_cannot_be_scored(
    setting: str, message: str, run: Path, capsys: Out
) -> None:
    assert main(["evaluate", str(run), setting]) == 2
    assert message in capsys.readouterr().err


def test_evaluate_refuses_another_size_for_a_model_of_one_size(
    run: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["evaluate", str(run), "data.size=64"]) == 0
    monkeypatch.setattr(UNetGeneratorConfig, "fixed_size", True)
    assert main(["evaluate", str(run), "data.size=64"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "data.size: found 64; this model takes pictures of its training size alone, 32" in line
    assert main(["evaluate", str(run), "data.size=32"]) == 0


# colorize


def photo(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = np.stack((np.sin(9 * x), np.cos(7 * y), np.sin(5 * (x + y))), axis=-1)
    return np.rint((waves + 4) / 8 * np.iinfo(dtype).max).astype(dtype)


def write_pictures(folder: Path) -> None:
    """Everything people have, each picture 37 wide and 23 high as it is seen."""
    folder.mkdir()
    rgb, gray = photo(23, 37), photo(23, 37)[..., 0]
    alpha = np.linspace(0, 255, rgb[..., 0].size).reshape(gray.shape).astype(np.uint8)
    Image.fromarray(gray).save(folder / "gray.png")
    Image.fromarray(gray).save(folder / "gray.jpg")
    cv2.imwrite(str(folder / "gray16.png"), photo(23, 37, np.uint16)[..., 0])
    cv2.imwrite(str(folder / "rgb16.png"), photo(23, 37, np.uint16))
    Image.fromarray(rgb).convert("CMYK").save(folder / "cmyk.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6  # turn by a quarter to the right to see it upright
    Image.fromarray(np.rot90(rgb).copy()).save(folder / "rotated.jpg", exif=turned, quality=95)
    Image.fromarray(np.dstack((rgb, alpha))).save(folder / "rgba.png")
    Image.fromarray(np.dstack((gray, alpha))).save(folder / "la.png")
    Image.fromarray(rgb).quantize(16).save(folder / "palette.png")
    (folder / "below").mkdir()
    Image.fromarray(rgb).save(folder / "below" / "Grüße aus 東京.jpg")


BAD = {"text.jpg": "text", "empty.png": "an empty file", "truncated.jpg": "damaged"}


def write_bad(folder: Path) -> None:
    (folder / "text.jpg").write_text("no picture at all\n" * 20)
    (folder / "empty.png").write_bytes(b"")
    whole = folder / "whole.jpg"
    Image.fromarray(photo(200, 200)).save(whole)
    (folder / "truncated.jpg").write_bytes(whole.read_bytes()[:2000])
    whole.unlink()


def lightness(picture: Picture) -> torch.Tensor:
    """L from 0 to 100."""
    rgb = torch.from_numpy(picture.rgb.astype(np.float32) / np.iinfo(picture.rgb.dtype).max)
    return (rgb_to_lab(rgb.permute(2, 0, 1)[None])[0, 0] + 1) * 50


def test_a_folder_of_all_kinds_comes_out_as_it_is_seen_and_bad_files_are_named(
    run: Path, tmp_path: Path, capsys: Out
) -> None:
    source, out = tmp_path / "all kinds", tmp_path / "out"
    write_pictures(source)
    write_bad(source)
    Image.new("RGB", (1, 1), (10, 200, 30)).save(source / "dot.png")
    assert main(["colorize", str(run), str(source), "-o", str(out)]) == 1
    said = capsys.readouterr().out
    pictures = {path for path in content(source) if Path(path).name not in BAD}
    assert content(out).keys() == pictures
    assert f"{len(pictures)} colorized, {len(BAD)} left out" in said
    for name, reason in BAD.items():
        (line,) = (line for line in said.splitlines() if f"left out: {source / name}" in line)
        assert reason in line
    for name in pictures:
        seen, colored = read_picture(source / name), read_picture(out / name)
        size = (1, 1, 3) if name == "dot.png" else (23, 37, 3)
        assert colored.rgb.shape == seen.rgb.shape == size, name
        assert colored.rgb.dtype == seen.rgb.dtype, name
        assert (lightness(colored) - lightness(seen)).abs().mean() < 1, name
        if name != "dot.png":
            assert np.ptp(colored.rgb.astype(int), axis=2).mean() > 1, f"{name} is gray"
    for name in ("rgba.png", "la.png"):
        seen, colored = read_picture(source / name), read_picture(out / name)
        assert seen.alpha is not None
        assert colored.alpha is not None
        assert np.array_equal(colored.alpha, seen.alpha)


def test_one_picture_goes_to_a_file_or_into_a_folder(
    run: Path, tmp_path: Path, capsys: Out
) -> None:
    picture = tmp_path / "old photo.png"
    Image.fromarray(photo(33, 21)[..., 0]).save(picture)
    (tmp_path / "folder").mkdir()
    for out, written in (
        ("colored.jpg", "colored.jpg"),
        ("folder", "folder/old photo.png"),
        ("new folder", "new folder/old photo.png"),
    ):
        assert main(["colorize", str(run), str(picture), "-o", str(tmp_path / out)]) == 0
        assert read_picture(tmp_path / written).rgb.shape == (33, 21, 3)
        assert f"{picture} -> {tmp_path / written}" in capsys.readouterr().out


@pytest.mark.parametrize("out", ["", "old.png", "old.png/below", "old.gif"])
def test_an_input_is_never_replaced(out: str, run: Path, tmp_path: Path, capsys: Out) -> None:
    Image.fromarray(photo(33, 21)).save(tmp_path / "old.png")
    before = content(tmp_path)
    words = ["colorize", str(run), str(tmp_path / "old.png"), "-o", str(tmp_path / out)]
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert content(tmp_path) == before


def test_an_exported_model_is_used_like_the_run_it_comes_from(
    run: Path, tmp_path: Path, capsys: Out
) -> None:
    exported = export(run, tmp_path / "exported")
    Image.fromarray(photo(33, 21)).save(tmp_path / "old.png")
    tables = []
    for number, folder in enumerate((run, exported)):
        out = str(tmp_path / f"{number}.png")
        assert main(["colorize", str(folder), str(tmp_path / "old.png"), "-o", out]) == 0
        capsys.readouterr()
        assert main(["evaluate", str(folder)]) == 0
        tables.append(printed_scores(capsys.readouterr().out))
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()
    assert tables[0] == tables[1]


# show


@pytest.mark.parametrize("recipe", recipes())
def test_what_show_prints_is_a_file_of_the_same_experiment(
    recipe: str, tmp_path: Path, capsys: Out
) -> None:
    assert main(["show", recipe, "train.learning_rate=1e-3"]) == 0
    out = capsys.readouterr().out
    (tmp_path / "shown.yaml").write_text(out)
    shown = read_experiment(str(tmp_path / "shown.yaml"))
    assert shown == read_experiment(recipe, ["train.learning_rate=1e-3"])
    assert f"experiment {shown.hash}" in out


def test_show_names_every_key_that_may_be_set_with_its_bounds(file: Path, capsys: Out) -> None:
    assert main(["show", str(file)]) == 0
    out = capsys.readouterr().out
    for key in config.flatten(yaml.safe_load(out)):
        if key not in ("model.generator.name", "train.stages"):
            assert f"#  {key} " in out or key.endswith(".name"), key
    assert re.search(r"model\.lambda_l1 +100\.0 +float >= 0, <= 10000 +weight of L1", out)
    assert re.search(r"model\.generator\.name +unet +(\w+ \| )*resnet_unet \| unet\b", out)
    assert re.search(r"train\.gradient_clip +None +float > 0 or none", out)


def test_show_counts_parameters_where_pretrained_weights_are_not_to_be_had(
    capsys: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no weights"))
    assert main(["show", "resnet_gan"]) == 0
    out = capsys.readouterr().out
    experiment = read_experiment("resnet_gan", ["model.generator.pretrained=false"])
    model = experiment.model.build(experiment.data.size)
    for player in model.players:
        count = sum(p.numel() for p in model.get_submodule(player).parameters())
        assert f"# {player}: {count:,} parameters\n" in out
    assert "starts from torchvision's ResNet18_Weights.IMAGENET1K_V1" in out
    assert not (tmp_path / "no weights").exists()


def test_no_seed_or_thread_setting_leaks_out_of_show(file: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    assert main(["show", str(file)]) == 0
    assert torch.equal(torch.rand(1), expected)
