"""What a replica makes of requests: the command line's bytes, and errors that cost one alone."""

import base64
import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from coloring_request import Answer, Colored, ColoringRequest, Refusal
from colorization.coloring import ColorOptions
from colorization.inference import PictureColorizer
from colorization.pair import load_colorizer
from colorization.photographs import colorize_bytes
from picture_service import PictureService
from served_model import About
from tiny_colorizers import Tones
from tiny_pair import untrained_pair

ABOUT = About("tones version 2", "2", "cvae", draws=True, takes_reference=False)


def encoded(kind: str = "PNG", size: tuple[int, int] = (60, 40), seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def service() -> PictureService:
    return PictureService(PictureColorizer(Tones(), 32), ABOUT, megapixels=1)


def ask(service: PictureService, *requests: ColoringRequest) -> list[Answer | None]:
    asked = [service.read(request) for request in requests]
    assert not [one for one in asked if isinstance(one, Refusal)], asked
    return service.answer([one for one in asked if not isinstance(one, Refusal)])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_the_bytes_are_those_of_the_command_line(service: PictureService, kind: str) -> None:
    data, colorizer = encoded(kind), PictureColorizer(Tones(), 32)
    expected = colorize_bytes(colorizer, data, ColorOptions(samples=2, seed=5, saturation=1.5))
    options = {"samples": "2", "seed": "5", "saturation": "1.5", "tile": "false"}
    (answer,) = ask(service, ColoringRequest(data, options))
    assert isinstance(answer, Colored)
    assert list(answer.pictures) == expected
    assert (answer.model, answer.version) == ("tones version 2", "2")


def test_what_needs_weights_that_are_not_here_is_refused_without_a_download(
    service: PictureService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: 1 / 0)
    for segmenter, file in {"resnet101": "resnet101", "mobilenet": "mobilenet_v3"}.items():
        refused = service.read(
            ColoringRequest(encoded(), {"foreground": "all", "segmenter": segmenter})
        )
        assert isinstance(refused, Refusal)
        assert refused.status == 422
        assert re.search(f"deeplabv3_{file}.* into {tmp_path}.* give a mask", refused.reason)
    mask = base64.b64encode(encoded()).decode()
    assert not isinstance(service.read(ColoringRequest(encoded(), {"mask": mask})), Refusal)
    assert list(service.lacks()) == ["foreground"]
    instance, scene = (PictureColorizer(Tones(), 32) for _ in range(2))
    scene.instance = instance
    pair = PictureService(scene, ABOUT)
    refused = pair.read(ColoringRequest(encoded(), {"instances": "auto"}))
    assert isinstance(refused, Refusal)
    assert "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth" in refused.reason
    assert list(pair.lacks()) == ["foreground", "instances"]


def test_the_answer_may_be_of_another_format(service: PictureService) -> None:
    (answer,) = ask(service, ColoringRequest(encoded("TIFF"), {}, ".webp"))
    assert isinstance(answer, Colored)
    assert Image.open(BytesIO(answer.pictures[0])).format == "WEBP"


def test_what_is_wrong_with_one_of_a_batch_costs_that_one_alone(service: PictureService) -> None:
    whole = encoded()
    requests = [
        ColoringRequest(whole, {}),
        ColoringRequest(whole[: len(whole) // 2], {}),
        ColoringRequest(whole, {"seed": 3}),
        ColoringRequest(encoded(seed=1), {}),
    ]
    first, damaged, other, last = ask(service, *requests)
    assert isinstance(damaged, Refusal)
    assert damaged.status == 422
    assert "damaged" in damaged.reason
    for one, request in ((first, requests[0]), (other, requests[2]), (last, requests[3])):
        assert one == ask(service, request)[0]


def test_one_that_nobody_waits_for_any_more_is_given_up_while_it_is_colored(
    service: PictureService, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, left = (service.read(ColoringRequest(encoded(size=(200, 300)), {})) for _ in range(2))
    assert not isinstance(kept, Refusal)
    assert not isinstance(left, Refusal)
    views, looks = service._colorizer.views, []

    def leave(*arguments: Any) -> Any:
        left.abandoned.set()
        looks.append(1)
        return views(*arguments)

    monkeypatch.setattr(service._colorizer, "views", leave)
    first, second = service.answer([kept, left])
    assert isinstance(first, Colored)
    assert second is None
    assert looks == [1]


def test_things_to_be_colored_count_as_pixels_of_each_sample(tmp_path: Path) -> None:
    pair = load_colorizer(untrained_pair(tmp_path))
    assert pair.instance is not None
    service = PictureService(pair, ABOUT, megapixels=1)
    things = [{"bbox": [0, 0, 9, 9]}] * 20
    asked = {"instances": things, "min_side": 1}
    assert not isinstance(service.read(ColoringRequest(encoded(), asked)), Refusal)
    crops = 20 * pair.instance.size**2 / 1e6
    refused = service.read(ColoringRequest(encoded(), {**asked, "samples": 64}))
    assert isinstance(refused, Refusal)
    assert refused.status == 413
    assert f"with things of up to {crops:.1f}; this server makes at most 1" in refused.reason
    assert f"ask for {int(1 / crops)}" in refused.reason


def test_one_that_nobody_waits_for_is_not_colored(service: PictureService) -> None:
    kept, left = (service.read(ColoringRequest(encoded(seed=i), {})) for i in (0, 1))
    assert not isinstance(kept, Refusal)
    assert not isinstance(left, Refusal)
    left.abandoned.set()
    first, second = service.answer([kept, left])
    assert isinstance(first, Colored)
    assert second is None


@pytest.mark.parametrize(
    ("options", "status", "reason"),
    [
        ({"saturation": "9"}, 422, "saturation: found"),
        ({"saturatoin": "1"}, 422, "did you mean 'saturation'"),
        ({"tile": "perhaps"}, 422, "tile"),
        ({"foreground": "persn"}, 422, "persn"),
        ({"mask": "/etc/passwd"}, 422, "no base64"),
        ({"samples": "64"}, 413, "ask for 55"),
    ],
)
def test_wrong_options_are_known_before_their_turn(
    service: PictureService, options: dict[str, str], status: int, reason: str
) -> None:
    answer = service.read(ColoringRequest(encoded(size=(180, 100)), options))
    assert isinstance(answer, Refusal)
    assert answer.status == status
    assert reason in answer.reason


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(service: PictureService) -> None:
    answer = service.read(ColoringRequest(encoded(size=(1100, 1000)), {}))
    assert isinstance(answer, Refusal)
    assert answer.status == 413
    assert "1100 x 1000 pixels" in answer.reason


def test_pixels_of_mask_and_references_are_counted_together_by_their_headers(
    service: PictureService,
) -> None:
    header = base64.b64encode(encoded(size=(800, 800))[:200]).decode()  # no pixels to decode
    for options in ({"mask": header, "reference": header}, {"reference": [header, header]}):
        answer = service.read(ColoringRequest(encoded(), options))
        assert isinstance(answer, Refusal)
        assert answer.status == 413
        assert "found 1.3 megapixels together" in answer.reason


def test_instances_may_be_a_list_of_json_and_errors_name_them_as_they_were_sent(
    service: PictureService,
) -> None:
    reasons: list[str] = []
    named = {"name": "old.jpg", "instances": [{"bbox": [0, 0, 9, 9]}]}
    wrong: list[Any] = [[{"bbox": [0, 0, 0, 5]}], 7, json.dumps(named), {"old.jpg": []}, "auto"]
    for instances in wrong:
        answer = service.read(ColoringRequest(encoded(), {"instances": instances}))
        assert isinstance(answer, Refusal)
        assert answer.status == 422
        reasons.append(answer.reason)
    assert "a width and a height above 0" in reasons[0]
    assert "auto or a list of what is in the picture is needed" in reasons[1]
    for reason in reasons[2:4]:
        assert "'old.jpg'; a picture that is sent has no name" in reason
    assert "this model is none of a pair" in reasons[4]
    assert all(reason.startswith("instances") for reason in reasons)
    assert not [reason for reason in reasons if "given" in reason]
