"""FID and LPIPS, with random weights saved where torch's cache would hold the real ones."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import alexnet

from colorization.perceptual import FID_FILE, LPIPS_FILE, PerceptualScores, perceptual_scores


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights; a download would fail the test."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(url: str, *_args: object, **_kwargs: object) -> None:
        pytest.fail(f"tried to download {url}")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def pictures(count: int, seed: int, side: int = 48) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3, side, side)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def save_alexnet(folder: Path) -> None:
    torch.manual_seed(0)
    torch.save(alexnet().state_dict(), folder / LPIPS_FILE)


def loaded() -> PerceptualScores:
    scores, _ = perceptual_scores("cpu")
    assert scores is not None
    return scores


def test_without_weights_both_are_left_out_and_the_sentence_names_files_and_folder(cache: Path):
    scores, sentence = perceptual_scores("cpu")
    assert scores is None
    assert all(part in sentence for part in (str(cache), FID_FILE, LPIPS_FILE, "FID", "LPIPS"))


def test_with_alexnet_in_the_cache_lpips_is_scored_and_only_fid_left_out(cache: Path):
    save_alexnet(cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores, sentence = perceptual_scores("cpu")
    assert scores is not None
    assert FID_FILE in sentence
    assert LPIPS_FILE not in sentence

    scores.update(pictures(2, 0), pictures(2, 1))
    assert scores.compute().keys() == {"lpips"}
    assert scores.compute()["lpips"] > 0.01


def test_lpips_of_equal_pictures_is_zero(cache: Path):
    save_alexnet(cache)
    scores = loaded()
    scores.update(pictures(2, 0), pictures(2, 0))
    assert scores.compute()["lpips"] == 0


def test_lpips_is_the_mean_over_pictures_however_they_are_batched(cache: Path):
    save_alexnet(cache)
    rgb, rgb_true = pictures(3, 0), pictures(3, 1)
    whole, parts = loaded(), loaded()
    whole.update(rgb, rgb_true)
    for part in (slice(0, 1), slice(1, 1), slice(1, 3)):
        parts.update(rgb[part], rgb_true[part])
    assert parts.compute()["lpips"] == pytest.approx(whole.compute()["lpips"], rel=1e-5)


def test_reset_forgets_all_pictures(cache: Path):
    save_alexnet(cache)
    scores = loaded()
    scores.update(pictures(1, 0), pictures(1, 1))
    scores.reset()
    with pytest.raises(ValueError, match="no picture"):
        scores.compute()


@pytest.mark.parametrize("name", [FID_FILE, LPIPS_FILE])
@pytest.mark.parametrize("content", [b"", b"not found\n", b"PK\x03\x04 cut off"])
def test_a_corrupted_file_is_an_error_that_names_it(cache: Path, name: str, content: bytes):
    (cache / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        perceptual_scores("cpu")


@pytest.mark.parametrize("name", [FID_FILE, LPIPS_FILE])
@pytest.mark.parametrize("content", [{"weight": torch.zeros(2)}, torch.zeros(2)])
def test_weights_of_another_network_are_an_error_that_names_the_file(
    cache: Path, name: str, content: object
):
    torch.save(content, cache / name)
    with pytest.raises(ValueError, match=name):
        perceptual_scores("cpu")


def test_pictures_that_lpips_cannot_see_are_refused(cache: Path):
    save_alexnet(cache)
    scores = loaded()
    with pytest.raises(ValueError, match="at least 32"):
        scores.update(pictures(1, 0, side=31), pictures(1, 1, side=31))
    scores.update(pictures(1, 0, side=32), pictures(1, 1, side=32))
    with pytest.raises(TypeError, match="uint8"):
        scores.update(pictures(1, 0).float(), pictures(1, 1).float())


@pytest.mark.slow
def test_fid_is_zero_between_equal_sets_and_grows_with_their_distance(cache: Path):
    save_inception(cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores, sentence = perceptual_scores("cpu")
    assert scores is not None
    assert FID_FILE not in sentence
    assert LPIPS_FILE in sentence

    truth = pictures(3, 0)
    scores.update(truth, truth)
    same = scores.compute()["fid"]
    scores.reset()
    scores.update(truth // 4, truth)
    assert abs(same) < 1e-2 * scores.compute()["fid"]


def save_inception(folder: Path) -> None:
    """Save random weights in the layout that torch-fidelity reads."""
    from unittest.mock import patch

    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # The class only builds itself from weights: it is built without reading any, then saved.
    with (
        patch("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url"),
        patch.object(FeatureExtractorInceptionV3, "load_state_dict"),
    ):
        torch.manual_seed(0)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    torch.save(network.state_dict(), folder / FID_FILE)
