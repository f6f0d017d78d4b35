"""The chain of docs/instances.md as a person runs it: from pictures with boxes to a pair."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection import maskrcnn_resnet50_fpn_v2

import prepare
from colorization.config import dump, parse
from colorization.data import DataConfig, open_data
from colorization.data.given_instances import GivenInstances
from colorization.data.packing import read_part
from colorization.data.picture_sets import planes_of
from colorization.experiment import Experiment
from colorization.pictures import read_rgb
from colorization.training import fit
from study_commands import Place, new_place
from tiny_pair import export_untrained, tiny_experiment

COUNT = 110
BOX = {"label": "dog", "bbox": [8, 6, 72, 80]}
SECOND = {"label": "cat", "bbox": [20, 20, 70, 70], "score": 0.9}


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def wait_for(folder: Path, pattern: str, process: "subprocess.Popen[str]") -> None:
    """Wait until a process that goes on has written such a file."""
    while not list(folder.glob(pattern)):
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.02)


def fill(folder: Path, count: int) -> Path:
    """Write photographs, two things marked in each but the last; return the file of these."""
    pictures = folder / "photos"
    pictures.mkdir(parents=True)
    train = open_data(DataConfig()).train
    lines: list[str] = []
    for number in range(count):
        name = f"{number:03}.png"
        rgb = np.roll(train.picture(number % len(train)), number // len(train), 1)
        Image.fromarray(rgb).resize((120, 96)).save(pictures / name)
        lines.append(json.dumps({"name": name, "instances": [BOX, SECOND]}))
    (folder / "found.jsonl").write_text("\n".join(lines[:-1]), encoding="utf-8")
    return folder / "found.jsonl"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["instances=crops"], "detections: instances=crops needs to know where"),
        (["instances=crop"], "instances: found 'crop'"),
        (["instances=crops", "detections=none.jsonl"], r"none\.jsonl"),
        (["instances=crops", "detections=other.jsonl"], "'z.png' and others, none of which"),
        (["instances=crops", "detections=shares.jsonl"], "bbox"),
        (["instances=crops", "detections=found.jsonl", "wanted=[cow]"], "'cow', .*cat, dog"),
        (["instances=colored", "detections=found.jsonl"], "--instance-model: .* both or neither"),
        (["instances=crops", "detections=found.jsonl", "--instance-model", "m"], "both or neither"),
        (["--instance-model", "m"], "both or neither"),
        (
            ["instances=colored", "detections=found.jsonl", "--instance-model", "nowhere"],
            "nowhere: there is no such folder",
        ),
        (
            ["instances=colored", "detections=found.jsonl", "--instance-model", "scene"],
            "scene is a scene model",
        ),
        (
            ["instances=colored", "detections=found.jsonl", "encoding=jpeg"],
            "partly colored pictures are packed raw",
        ),
    ],
)
def test_a_wrong_word_is_named_before_anything_starts(
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(tmp_path, 2)
    share = {"name": "000.png", "instances": [{"label": "dog", "share": 0.5}]}
    (tmp_path / "shares.jsonl").write_text(json.dumps(share))
    (tmp_path / "other.jsonl").write_text(json.dumps({"name": "z.png", "instances": [BOX]}))
    export_untrained(tiny_experiment("lab"), tmp_path / "scene")
    monkeypatch.chdir(tmp_path)
    assert prepare.main(["photos", "--out", "out", *words]) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.slow
def test_mask_rcnn_says_where_instances_are_and_writes_it_down(tmp_path: Path) -> None:
    with new_place(tmp_path) as place:
        weights = place.folder / "torch" / "hub" / "checkpoints"
        weights.mkdir(parents=True)
        torch.manual_seed(0)
        state = maskrcnn_resnet50_fpn_v2(weights_backbone=None).state_dict()
        for part in ("weight", "bias"):
            state[f"roi_heads.box_predictor.cls_score.{part}"].zero_()
        state["roi_heads.box_predictor.cls_score.bias"][18] = 20.0  # dog, everywhere
        torch.save(state, weights / "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth")
        fill(place.folder, 6)
        out = place.folder / "out"
        words = ["prepare.py", str(place.folder / "photos"), "--out", str(out), "size=32"]
        words += ["instances=crops", "detections=mask_rcnn", "min_side=16", "split=0.4/0.3/0.3"]
        done = place.run(*words, env={"TORCH_HOME": str(place.folder / "torch")})
        assert done.code == 0, done.output
        (file,) = out.glob("instances-*.jsonl")
        told = GivenInstances(file)
        assert len(list(told)) == 6
        assert {one.label for name in told for one in told.told(name)} == {"dog"}
        manifest = manifest_of(out)
        assert manifest["settings"]["detections"] == "mask_rcnn"
        assert {p["name"].partition("#")[0] for p in manifest["pictures"]} <= set(told)
        again = place.run(*words, env={"TORCH_HOME": str(place.folder / "torch")})
        assert "prepared already" in again.output


def planes(folder: Path, side: int) -> list[np.ndarray]:
    source = {"name": "packed", "path": str(folder)}
    sets = open_data(DataConfig.model_validate({"source": source, "size": side}))
    return [planes_of(sets.train, index) for index in range(len(sets.train))]


def train(run: Path, condition_on: str, data: Path, size: int) -> Path:
    experiment = dump(tiny_experiment(condition_on, size))
    experiment["data"]["source"] = {"name": "packed", "path": str(data)}
    return fit(parse(Experiment, experiment), run, device="cpu").run


def succeed(place: Place, script: str, *words: Any) -> str:
    done = place.run(script, *map(str, words))
    assert done.code == 0, done.output
    return done.output


@pytest.mark.slow
def test_pictures_with_boxes_become_a_registered_pair_that_colors_them(tmp_path: Path) -> None:
    with new_place(tmp_path) as place:
        photos, found = place.folder / "photos", fill(place.folder, COUNT)
        told = f"detections={found}"

        crops = place.folder / "crops"
        succeed(place, "prepare.py", photos, "--out", crops, "size=32", "instances=crops", told)
        packed = {p["name"]: p for p in manifest_of(crops)["pictures"]}
        assert len(packed) == 2 * (COUNT - 1)
        assert {tuple(p["size"]) for p in packed.values() if p["split"]} == {(32, 32)}

        storage = ("--storage", place.storage)
        instance = train(place.folder / "instance", "lightness", crops, 32)

        partly, undisturbed = place.folder / "partly", place.folder / "undisturbed"
        words = ["instances=colored", told, "--instance-model", instance, "size=64", *storage]
        succeed(place, "prepare.py", photos, "--out", undisturbed, *words)
        killed = ["prepare.py", photos, "--out", partly, *words, "--workers", "1"]
        process = place.start(*map(str, killed))
        wait_for(partly / ".parts", "*.json", process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        parts = sorted((partly / ".parts").glob("*.json"))
        assert 0 < len(parts) < 4
        # A mark that does not count for the hash: what was done before is not done again.
        entries = json.loads(parts[0].read_text())
        entries[0]["candidate"]["original"] = [7, 7]
        parts[0].write_text(json.dumps(entries))
        assert len(read_part(partly / ".parts", parts[0].stem)) > 1
        succeed(place, *killed)
        first, second = manifest_of(undisturbed), manifest_of(partly)
        assert first["hash"] == second["hash"]
        assert [7, 7] in [p["original"] for p in second["pictures"]]
        for one in second["pictures"]:  # crops lie in the split of their picture
            for number in (0, 1):
                crop = packed.get(f"{one['name']}#{number}")
                if one["split"] and crop and crop["split"]:
                    assert crop["split"] == one["split"], one["name"]
        colored = [(one[..., 3:] != 128).any(2).mean() for one in planes(partly, 64)]
        assert np.median(colored) > 0.4
        other = place.run("prepare.py", str(photos), "--out", str(partly), "size=64")
        assert other.code == 2
        assert "prepared with" in other.output

        scene = train(place.folder / "scene", "lab", partly, 64)

        pair = ("--instance", instance, "--scene", scene, "--register", "pair", "--champion")
        assert "pair version 1 (champion)" in succeed(place, "pair.py", *pair, *storage)
        version = place.client().get_model_version_by_alias("pair", "champion")
        assert version.tags["data.hash"] == second["hash"]
        assert float(version.tags["validation.ab_mae"]) > 0

        out = place.folder / "colored"
        model = ("--model", "models:/pair@champion", photos, out, *storage)
        said = succeed(place, "colorize.py", *model, "--instances", found, "--batch", 8)
        assert f"{COUNT} colorized, 0 left out" in said
        assert f"{COUNT - 1:03}.png: no instances in it" in said
        alone = place.folder / "alone"
        succeed(place, "colorize.py", *model[:3], alone, *storage, "--batch", 8)
        last = f"{COUNT - 1:03}.png"
        aware, without = (
            [read_rgb((f / n).read_bytes()) for n in ("000.png", last)] for f in (out, alone)
        )
        assert not np.array_equal(aware[0], without[0])
        assert np.abs(aware[1].astype(int) - without[1]).max() <= 1
