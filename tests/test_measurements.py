from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import tiny_colorizers
from colorization.color import rgb_to_lab
from colorization.data import open_data
from colorization.data.transforms import scoring_crop
from colorization.distributed import current_ranks
from colorization.experiment import Experiment
from colorization.measurements import Measurements
from rank_pool import RankPool
from tiny_colorizers import Partial, Tones

Make = Callable[..., Experiment]


def lab(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def measure(model: Tones, *batches: Tensor) -> dict[str, float]:
    measurements = Measurements(model, 16, current_ranks("cpu"))
    for batch in batches:
        measurements.update(batch)
    return measurements.compute()


def test_each_picture_counts_once_whatever_batch_it_is_in() -> None:
    pictures = lab(7)
    pictures[:2, 0] = 0.9  # else random pictures would all be as light
    together = measure(Tones(), pictures)
    assert measure(Tones(), pictures[:2], pictures[2:3], pictures[3:]) == pytest.approx(together)
    light = ((pictures[:, 0] + 1) / 2).mean((1, 2))
    assert together["light"] == pytest.approx(light.mean().item())
    assert together["light_variance"] == pytest.approx(light.var(correction=0).item(), rel=1e-4)


def test_a_model_summarizes_means_over_the_whole_set_once() -> None:
    class Watched(Tones):
        def __init__(self) -> None:
            super().__init__()
            self.summarized: list[dict[str, Tensor]] = []

        def summarize(self, means: dict[str, Tensor]) -> dict[str, float]:
            self.summarized.append(means)
            return {"count": float(len(means))}

    model = Watched()
    assert measure(model, lab(3), lab(1, seed=1)) == {"count": 2.0}
    (means,) = model.summarized
    both = torch.cat([lab(3), lab(1, seed=1)])
    expected = Tones().measure(both)
    assert means.keys() == expected.keys()
    for name, mean in means.items():
        assert mean.shape == expected[name].shape[1:]
        torch.testing.assert_close(mean, expected[name].mean(0).double())


def test_means_become_numbers_where_a_model_says_nothing_else() -> None:
    class Plain(Tones):
        def measure(self, lab: Tensor) -> dict[str, Tensor]:
            return {"light": lab[:, 0].mean((1, 2))}

        def summarize(self, means: dict[str, Tensor]) -> dict[str, float]:
            return super(Tones, self).summarize(means)

    pictures = lab(3)
    assert measure(Plain(), pictures) == {"light": pytest.approx(pictures[:, 0].mean().item())}


def test_a_model_that_measures_nothing_adds_nothing() -> None:
    class Silent(Tones):
        def measure(self, lab: Tensor) -> dict[str, Tensor]:
            return super(Tones, self).measure(lab)

        def summarize(self, means: dict[str, Tensor]) -> dict[str, float]:
            return super(Tones, self).summarize(means)

    assert measure(Silent(), lab(2)) == {}


def test_measuring_builds_no_graph() -> None:
    class Watched(Partial):
        def measure(self, lab: Tensor) -> dict[str, Tensor]:
            measured = super().measure(lab)
            assert not any(values.requires_grad for values in measured.values())
            return measured

    measurements = Measurements(Watched().eval(), 16, current_ranks("cpu"))
    measurements.update(lab(2))
    assert measurements.compute()["taught_mae"] > 0


def test_measurements_stand_beside_the_scores_of_all_pictures(tiny: Make) -> None:
    experiment = tiny("data.source.scoring_crops=7", "train.batch_size=3")
    found = tiny_colorizers.score_tones(experiment)
    pictures = open_data(experiment.data).validation
    crops = [torch.from_numpy(scoring_crop(pictures.picture(i), 32)) for i in range(7)]
    light = (rgb_to_lab(torch.stack(crops).permute(0, 3, 1, 2))[:, 0].mean((1, 2)) + 1) / 2
    assert found["light"] == pytest.approx(light.mean().item(), rel=1e-5)
    assert found["light_variance"] == pytest.approx(light.var(correction=0).item(), rel=1e-4)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("pictures", [7, 1])  # shares of 3 and 4; of none and 1
def test_ranks_of_uneven_shares_measure_what_one_does(
    pictures: int, tiny: Make, two_ranks: RankPool
) -> None:
    experiment = tiny(f"data.source.scoring_crops={pictures}", "train.batch_size=4")
    one = tiny_colorizers.score_tones(experiment)
    for found in two_ranks.run(tiny_colorizers.score_tones, experiment):
        for name in ("light", "light_variance"):
            assert found[name] == pytest.approx(one[name], rel=1e-6, abs=1e-9)
