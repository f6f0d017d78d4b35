"""What is refused before a study starts, and what two studies may not do to each other."""

import re
from collections.abc import Sequence

import pytest

from colorization.config import ConfigError
from space import Space
from storage import lock_folder
from tune import main


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.batch_size=500"], "train.batch_size: found 500.*holds 192 pictures"),
        (["data.size=!choice [32, 64]"], "data.size: of data.*may be searched"),
        (["search.objective={ab_mae: max}"], "ab_mae: found max, the better way is min"),
        (["search.objective={fid: min}"], "fid need train.perceptual=true"),
        (
            ["search.objective={ab_mae: min, mean_sample_psnr: max, best_of_8_rmse: min}"],
            "objective: best_of_8_rmse, mean_sample_psnr are scores of stochastic models; "
            "gan gives one answer a picture",
        ),
        (["search.objective={best_of_8_rmse: max}"], "best_of_8_rmse: found max, the better way"),
        (
            ["search.objective={sample_variance: max}"],
            "no score 'sample_variance'; scores: .*best_of",
        ),
    ],
)
def test_what_no_trial_could_do_is_refused_before_any_starts(
    settings: Sequence[str], message: str, tmp_path, capsys
):
    storage = tmp_path / "storage"
    assert main(["--model", "gan", "--storage", str(storage), *settings]) == 2
    assert not storage.exists()
    error = capsys.readouterr().err
    assert re.search(message, error), error


def test_a_storage_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--model", "gan", "--storage", str(tmp_path / "file")]) == 2
    assert "is a file, a directory is needed" in capsys.readouterr().err


def test_a_study_belongs_to_one_process_at_a_time(tmp_path):
    held = lock_folder(tmp_path / "study", "give it another --name")
    with pytest.raises(ConfigError, match=r"another process works in .*study; give it another"):
        lock_folder(tmp_path / "study", "give it another --name")
    held.close()
    lock_folder(tmp_path / "study", "give it another --name").close()


def test_how_pictures_are_trained_on_may_be_searched():
    space = Space.read(None, "gan", ["data.flip=!choice [true, false]"])
    assert {experiment.data.flip for experiment in space.validate()} == {True, False}
