from pathlib import Path

import pytest

from colorization.config import ConfigError
from colorization.data.celeba import CelebASource
from written_pictures import all_names, write_pictures


def test_the_aligned_faces_are_split_by_share(tmp_path: Path) -> None:
    write_pictures(tmp_path / "celeba" / "img_align_celeba", 60, ".jpg")
    (tmp_path / "celeba" / "list_attr_celeba.txt").write_text("60")
    sets = CelebASource(root=str(tmp_path), split="0.7/0.3").open(0.1)
    assert len(all_names(sets)) == 60
    assert 30 <= len(sets.train) <= 54
    assert sets.train.picture(0).shape == (8, 9, 3)


def test_missing_faces_are_named_with_the_way_to_get_them(tmp_path: Path) -> None:
    message = r"celeba lacks img_align_celeba; .* data\.source\.download=true"
    with pytest.raises(ConfigError, match=message):
        CelebASource(root=str(tmp_path)).collect()


def test_an_empty_folder_of_faces_is_named(tmp_path: Path) -> None:
    (tmp_path / "celeba" / "img_align_celeba").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"no pictures \(\*\.jpg\) in .*img_align_celeba"):
        CelebASource(root=str(tmp_path)).collect()
