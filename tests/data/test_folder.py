import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorization.config import ConfigError, parse
from colorization.data.folder import FolderSource
from colorization.data.picture_sets import PictureSets
from colorization.pictures import UnreadablePicture
from written_pictures import all_names, names, write_pictures


def open_folder(path: Path, max_unreadable: float = 0.1, **settings: str) -> PictureSets:
    return FolderSource.model_validate({"path": str(path), **settings}).open(max_unreadable)


def test_pictures_are_found_at_any_depth_with_any_suffix_in_any_case(tmp_path: Path) -> None:
    suffixes = [".jpg", ".JPEG", ".png", ".WebP", ".bmp", ".tif", ".TIFF"]
    for seed, suffix in enumerate(suffixes):
        write_pictures(tmp_path / "a" / f"b{seed}", 5, suffix, seed)
    (tmp_path / "notes.txt").write_text("no picture")
    sets = open_folder(tmp_path, split="0.4/0.3/0.3")
    assert len(all_names(sets)) == 35
    assert sets.unreadable == []
    assert sets.measures_generalization


def test_every_picture_is_in_one_split_and_shares_are_about_those_asked_for(
    tmp_path: Path,
) -> None:
    write_pictures(tmp_path, 300)
    sets = open_folder(tmp_path, split="0.7/0.2/0.1")
    assert len(sets.train) + len(sets.validation) + len(sets.test) == 300
    assert len(all_names(sets)) == 300
    assert 40 <= len(sets.validation) <= 80
    assert 15 <= len(sets.test) <= 48


def test_a_picture_stays_in_its_split_when_others_are_added_or_it_is_renamed(
    tmp_path: Path,
) -> None:
    paths = write_pictures(tmp_path, 60)
    before = open_folder(tmp_path)
    write_pictures(tmp_path / "more", 60, seed=1)
    after = open_folder(tmp_path)
    for split in ("train", "validation", "test"):
        assert set(names(getattr(before, split))) <= set(names(getattr(after, split)))
    tested = sorted(names(before.test))[0]
    (tmp_path / tested).rename(tmp_path / "renamed.png")
    assert "renamed.png" in names(open_folder(tmp_path).test)
    assert len(paths) == 60


def test_copies_of_one_picture_land_in_one_split(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 60)
    for path in paths:
        (tmp_path / f"copy-of-{path.name}").write_bytes(path.read_bytes())
    sets = open_folder(tmp_path)
    for split in (sets.train, sets.validation, sets.test):
        found = names(split)
        assert all(f"copy-of-{n}" in found for n in found if not n.startswith("copy"))


@pytest.mark.parametrize("folder", ["val", "validation", "Val"])
def test_subfolders_named_like_splits_are_the_splits(tmp_path: Path, folder: str) -> None:
    write_pictures(tmp_path / "train" / "deep", 6)
    write_pictures(tmp_path / folder, 3, seed=1)
    write_pictures(tmp_path / "test", 2, seed=2)
    write_pictures(tmp_path / "rejected", 4, seed=3)
    sets = open_folder(tmp_path)
    assert [len(s) for s in (sets.train, sets.validation, sets.test)] == [6, 3, 2]
    assert all(name.startswith("train/deep/") for name in names(sets.train))


def test_a_missing_validation_split_is_taken_out_of_train_and_never_out_of_test(
    tmp_path: Path,
) -> None:
    write_pictures(tmp_path / "train", 80)
    write_pictures(tmp_path / "test", 5, seed=1)
    write_pictures(tmp_path / "rejected", 3, seed=2)
    sets = open_folder(tmp_path)
    assert all(name.startswith("test/") for name in names(sets.test))
    assert len(sets.test) == 5
    assert len(sets.train) + len(sets.validation) == 80
    assert all(name.startswith("train/") for name in names(sets.validation))
    assert "(3 outside of test, train left out)" in sets.description


def test_a_missing_test_split_is_taken_out_of_train_and_never_out_of_validation(
    tmp_path: Path,
) -> None:
    write_pictures(tmp_path / "train", 80)
    write_pictures(tmp_path / "val", 5, seed=1)
    sets = open_folder(tmp_path)
    assert len(sets.validation) == 5
    assert len(sets.train) + len(sets.test) == 80
    assert all(name.startswith("train/") for name in names(sets.test))


def test_a_train_folder_alone_is_split_by_content(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", 80)
    sets = open_folder(tmp_path)
    assert len(all_names(sets)) == 80
    assert len(sets.validation) > 0


def test_pictures_come_in_one_order_and_decoded(tmp_path: Path) -> None:
    write_pictures(tmp_path, 80)
    train = open_folder(tmp_path).train
    listed = names(train)
    assert listed == sorted(listed)
    expected = np.asarray(Image.open(tmp_path / listed[2]))
    assert np.array_equal(train.picture(2), expected)


def test_a_text_file_renamed_jpg_is_counted_and_named(tmp_path: Path) -> None:
    write_pictures(tmp_path, 60)
    (tmp_path / "letter.jpg").write_text("dear all")
    (tmp_path / "empty.png").touch()
    sets = open_folder(tmp_path)
    assert sets.unreadable == ["empty.png", "letter.jpg"]
    assert len(all_names(sets)) == 60


def test_more_unreadable_pictures_than_allowed_end_with_their_names_and_the_key(
    tmp_path: Path,
) -> None:
    write_pictures(tmp_path, 60)
    for number in range(10):
        (tmp_path / f"letter{number}.jpg").write_text("dear all")
    with pytest.raises(ConfigError, match=r"data\.max_unreadable: 10 of 70 .*letter0\.jpg.* more"):
        open_folder(tmp_path)
    assert len(open_folder(tmp_path, max_unreadable=0.2).unreadable) == 10


def test_a_truncated_picture_passes_the_header_check_and_fails_at_decoding(
    tmp_path: Path,
) -> None:
    paths = write_pictures(tmp_path, 60)
    for path in paths:
        path.write_bytes(path.read_bytes()[:-60])
    sets = open_folder(tmp_path)
    assert sets.unreadable == []
    with pytest.raises(UnreadablePicture, match=sets.train.name(0)):
        sets.train.picture(0)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no folder .*nowhere"):
        open_folder(tmp_path / "nowhere")


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (path,) = write_pictures(tmp_path, 1)
    with pytest.raises(ConfigError, match=f"{path.name} is a file"):
        open_folder(path)


def test_a_folder_without_pictures_is_named_with_what_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ConfigError, match=rf"no pictures in {tmp_path} .*\.jpg"):
        open_folder(tmp_path)


def test_a_split_that_comes_out_empty_is_named_with_the_way_out(tmp_path: Path) -> None:
    write_pictures(tmp_path, 2)
    with pytest.raises(
        ConfigError,
        match=r"^data\.source\.split: of 2 pictures in .* none came into \w+; add .*0\.998/",
    ):
        open_folder(tmp_path, split="0.998/0.001/0.001")


def test_an_empty_split_folder_is_named(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", 20)
    (tmp_path / "val").mkdir()
    with pytest.raises(ConfigError, match=r"put pictures into its subfolder val$"):
        open_folder(tmp_path)


def test_hidden_files_and_folders_are_no_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path, 60)
    write_pictures(tmp_path / ".thumbnails", 5, seed=1)
    (tmp_path / "._000.png").write_bytes(b"\x00\x05\x16\x07")
    sets = open_folder(tmp_path)
    assert len(all_names(sets)) == 60
    assert sets.unreadable == []


def test_links_are_followed_and_a_link_in_a_circle_ends(tmp_path: Path) -> None:
    write_pictures(tmp_path / "elsewhere", 60)
    folder = tmp_path / "photos"
    folder.mkdir()
    os.symlink(tmp_path / "elsewhere", folder / "linked")
    os.symlink(folder, folder / "again")
    assert len(all_names(open_folder(folder))) == 60


def test_a_home_directory_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "photos", 60)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(all_names(open_folder(Path("~/photos")))) == 60


def test_split_folders_are_found_below_one_common_folder_and_no_deeper(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos" / "train", 6)
    write_pictures(tmp_path / "photos" / "val", 30, seed=1)
    sets = open_folder(tmp_path, split="0.4/0.3/0.3")
    assert len(sets.validation) == 30
    assert all(name.startswith("photos/val/") for name in names(sets.validation))
    deeper = tmp_path / "deeper"
    deeper.mkdir()
    (tmp_path / "photos").rename(deeper / "photos")
    write_pictures(tmp_path / "deeper" / "photos" / "train", 20)
    assert "split by a hash" in open_folder(tmp_path).description


def test_declared_groups_are_never_split(tmp_path: Path) -> None:
    for path in write_pictures(tmp_path, 120):
        number = int(path.stem[2:])
        path.rename(tmp_path / f"{number // 2:04}_{'LR'[number % 2]}.png")
    sets = open_folder(tmp_path, groups=r"(\d+)_[LR]", split="0.5/0.25/0.25")
    for split in (sets.train, sets.validation, sets.test):
        sides = {side: {n[:4] for n in names(split) if n[5] == side} for side in "LR"}
        assert sides["L"] == sides["R"]
    alone = open_folder(tmp_path, split="0.5/0.25/0.25")
    assert {n[:4] for n in names(alone.train)} & {n[:4] for n in names(alone.test)}


def test_a_group_stays_in_its_split_when_its_members_are_renamed_or_others_are_added(
    tmp_path: Path,
) -> None:
    for number, path in enumerate(write_pictures(tmp_path, 120)):
        path.rename(tmp_path / f"scene{number // 3:02}-{number}.png")
    before = open_folder(tmp_path, groups=r"scene\d+")
    write_pictures(tmp_path / "more", 40, seed=1)
    (tmp_path / "scene07-21.png").rename(tmp_path / "other-scene07.png")
    after = open_folder(tmp_path, groups=r"scene\d+")
    for split in ("train", "validation", "test"):
        kept = set(names(getattr(before, split))) - {"scene07-21.png"}
        assert kept <= set(names(getattr(after, split)))


def test_a_group_in_two_given_splits_is_refused_naming_both(tmp_path: Path) -> None:
    for folder, side, seed in (("train", "L", 0), ("val", "R", 1)):
        for path in write_pictures(tmp_path / folder, 30, seed=seed):
            path.rename(path.with_name(f"{path.stem[2:]}_{side}.png"))
    with pytest.raises(ConfigError, match=r"group '000' in .* the splits train and validation"):
        open_folder(tmp_path, groups=r"(\d+)_[LR]")
    assert len(open_folder(tmp_path, groups=r"(\d+_[LR])").validation) == 30


def test_a_group_expression_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"groups: found '\(', which is no regular expression"):
        parse(FolderSource, {"path": str(tmp_path), "groups": "("})
