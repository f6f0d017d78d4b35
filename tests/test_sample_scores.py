"""Scores of a model whose samples are known: see Tones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tiny_colorizers
from colorization.color import rgb_to_lab
from colorization.data import open_data
from colorization.data.transforms import scoring_crop
from colorization.distributed import current_ranks
from colorization.evaluation import Evaluation
from colorization.experiment import Experiment
from colorization.loss_log import Diverged
from colorization.metrics import ColorizationScores
from colorization.models.colorizer import noise
from colorization.score_names import BEST_OF, SAMPLE_SCORES, SCORES
from rank_pool import RankPool
from tiny_colorizers import Tones

Make = Callable[..., Experiment]


def truth(experiment: Experiment) -> Tensor:
    """Return the validation pictures, scaled Lab (B, 3, H, W)."""
    pictures = open_data(experiment.data).validation
    crops = [
        torch.from_numpy(scoring_crop(pictures.picture(i), experiment.data.size))
        for i in range(len(pictures))
    ]
    return rgb_to_lab(torch.stack(crops).permute(0, 3, 1, 2))


def score(lab: Tensor, tone: Tensor) -> dict[str, float]:
    """Score one answer to all pictures."""
    scores = ColorizationScores("cpu")
    light = (lab[:, :1] + 1) / 2
    scores.update(lab[:, :1], tone.view(1, 2, 1, 1) * light, lab[:, 1:])
    return scores.compute()


def test_the_main_scores_are_those_of_the_first_sample(tiny: Make) -> None:
    experiment = tiny()
    found = tiny_colorizers.score_tones(experiment)
    lab = truth(experiment)
    first, second = (score(lab, tone) for tone in Tones().tones(2))
    for name, value in first.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    assert found["ab_mae"] != pytest.approx(second["ab_mae"], rel=1e-2)


def test_the_mean_sample_is_the_one_at_temperature_0(tiny: Make) -> None:
    experiment = tiny()
    found = tiny_colorizers.score_tones(experiment)
    expected = score(truth(experiment), Tones.mean)
    for name in ("ab_mae", "ab_jsd", "psnr"):
        assert found[f"mean_sample_{name}"] == pytest.approx(expected[name], rel=1e-5)
        assert found[f"mean_sample_{name}"] != pytest.approx(found[name], rel=1e-3)


def test_the_best_of_8_is_chosen_for_each_picture_by_its_rgb_error(tiny: Make) -> None:
    experiment = tiny()
    found = tiny_colorizers.score_tones(experiment)
    lab = truth(experiment)
    tones = Tones().tones(BEST_OF)
    alone = [[score(picture, tone) for tone in tones] for picture in lab.split(1)]
    best = [min(scores, key=lambda one: one["rmse"]) for scores in alone]
    choices = {scores.index(one) for scores, one in zip(alone, best, strict=True)}
    assert len(choices) > 1  # no sample is the best of all
    rmse = np.sqrt(np.mean([one["rmse"] ** 2 for one in best]))
    assert found["best_of_8_rmse"] == pytest.approx(rmse, rel=1e-5)
    for name in ("ab_mae", "psnr"):
        mean = np.mean([one[name] for one in best])
        assert found[f"best_of_8_{name}"] == pytest.approx(mean, rel=1e-5)


def test_the_best_of_8_is_at_least_as_good_as_each_sample(tiny: Make) -> None:
    experiment = tiny()
    found = tiny_colorizers.score_tones(experiment)
    lab = truth(experiment)
    for tone in Tones().tones(BEST_OF):
        one = score(lab, tone)
        assert found["best_of_8_rmse"] <= one["rmse"]
        assert found["best_of_8_psnr"] >= one["psnr"]
    assert found["best_of_8_rmse"] < found["rmse"]


def test_the_variance_is_that_of_scaled_ab_over_8_samples(tiny: Make) -> None:
    experiment = tiny()
    lab = truth(experiment)
    light = (lab[:, 0].double().numpy() + 1) / 2
    deviations = Tones.deviation.double().numpy()
    drawn = noise(BEST_OF, 2, torch.device("cpu")).double().numpy()
    variances = deviations**2 * np.var(drawn, axis=0, ddof=1)
    expected = variances.mean() * (light**2).mean()
    found = tiny_colorizers.score_tones(experiment)["sample_variance"]
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_no_score_depends_on_the_batch_size(batch_size: int, tiny: Make) -> None:
    found = tiny_colorizers.score_tones(tiny(f"train.batch_size={batch_size}"))
    expected = tiny_colorizers.score_tones(tiny("train.batch_size=8"))
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("pictures", [7, 1])  # shares of 3 and 4; of none and 1
def test_two_ranks_report_what_one_does(pictures: int, tiny: Make, two_ranks: RankPool) -> None:
    experiment = tiny(f"data.source.scoring_crops={pictures}", "train.batch_size=4")
    one = tiny_colorizers.score_tones(experiment)
    first, second = two_ranks.run(tiny_colorizers.score_tones, experiment)
    assert first == second
    assert first["pictures"] == pictures
    assert first == pytest.approx(one, rel=1e-6)


def test_a_model_without_randomness_has_no_scores_of_samples(tiny: Make) -> None:
    class Still(Tones):
        stochastic = False

    experiment = tiny()
    scored = Evaluation(experiment, open_data(experiment.data).validation, current_ranks("cpu"))
    found = scored.scores(Still(), scored.leave_gray())
    assert found.keys() == {*SCORES, "pictures", "colorfulness", "light", "light_variance"}


def test_the_known_scores_of_samples_are_those_that_are_computed(tiny: Make) -> None:
    own = {"light", "light_variance"}
    others = {*SCORES, "pictures", "colorfulness"}
    computed = tiny_colorizers.score_tones(tiny()).keys() - own - others
    assert computed == {*SAMPLE_SCORES, "sample_variance"}


@pytest.mark.parametrize("number", [0, 5])
def test_a_sample_that_is_no_number_is_divergence_whichever_it_is(number: int, tiny: Make) -> None:
    class Broken(Tones):
        def tones(self, samples: int, temperature: float = 1.0, seed: int = 0) -> Tensor:
            tones = super().tones(samples, temperature, seed)
            tones[number : number + 1] = torch.nan
            return tones

    experiment = tiny()
    scored = Evaluation(experiment, open_data(experiment.data).validation, current_ranks("cpu"))
    with pytest.raises(Diverged, match="NaN or infinity"):
        scored.scores(Broken(), scored.leave_gray())


def test_the_grid_shows_several_samples_of_the_same_pictures(tiny: Make, tmp_path: Path) -> None:
    experiment = tiny("data.size=96", "train.grid_pictures=2")
    scored = Evaluation(experiment, open_data(experiment.data).validation, current_ranks("cpu"))
    path = scored.write_grid(Tones(), tmp_path, epoch=1)
    assert path
    grid = np.asarray(Image.open(path)).astype(int)
    columns = np.array_split(np.arange(grid.shape[1] - 4) + 4, 6)  # gray, 4 samples, truth
    blocks = [grid[-190:-10, column[10:80]] for column in columns]
    assert np.ptp(blocks[0], axis=2).max() <= 1  # rendered gray is off by a level here and there
    for sample, tone in zip(blocks[1:5], Tones().tones(4), strict=True):
        lab = rgb_to_lab(torch.from_numpy(sample.astype(np.uint8)).permute(2, 0, 1))
        light = (lab[0] + 1) / 2
        middle = (light > 0.3) & (light < 0.7)  # where no color leaves sRGB
        assert middle.any()
        expected = tone.view(2, 1) * light[middle]
        assert (lab[1:, middle] - expected).abs().mean() < 0.01
    assert len({block.tobytes() for block in blocks}) == 6
