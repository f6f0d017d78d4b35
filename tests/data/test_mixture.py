import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colorization.config import ConfigError, dump, parse
from colorization.data.folder import FolderSource
from colorization.data.loaders import TrainingLoader
from colorization.data.picture_sets import PictureSets
from colorization.data.sources import DataConfig, open_data
from written_pictures import all_names, names, write_pictures


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two folders of 60 and 12 training, 5 validation, 4 test pictures of equal names."""
    for number, count in enumerate((60, 12)):
        for folder, some in (("train", count), ("val", 5), ("test", 4)):
            write_pictures(tmp_path / str(number) / folder, some, seed=len(folder) + 10 * number)
    (tmp_path / "1" / "train" / "letter.png").write_text("dear all")
    return [tmp_path / "0", tmp_path / "1"]


def config(folders: list[Path], weights: list[float], **settings: Any) -> DataConfig:
    parts = [
        {"weight": weight, "source": {"name": "folder", "path": str(folder)}}
        for folder, weight in zip(folders, weights, strict=True)
    ]
    return parse(DataConfig, {"source": {"name": "mixture", "sources": parts}, **settings})


def mixture(folders: list[Path], *weights: float) -> PictureSets:
    return open_data(config(folders, list(weights)))


def test_training_pictures_come_in_the_shares_of_the_weights_and_all_of_them(
    folders: list[Path],
) -> None:
    for weights, expected in (((1, 1), (60, 60)), ((3, 1), (60, 20)), ((0.2, 0.1), (60, 30))):
        counts = Counter(names(mixture(folders, *weights).train))
        parts = [Counter({n: c for n, c in counts.items() if n[0] == part}) for part in "01"]
        assert tuple(part.total() for part in parts) == expected
        assert [len(part) for part in parts] == [60, 12]
        for part in parts:
            assert max(part.values()) - min(part.values()) <= 1


def test_a_weight_that_wants_more_of_the_large_source_repeats_it(folders: list[Path]) -> None:
    counts = Counter(name[0] for name in names(mixture(folders, 10, 1).train))
    assert counts == {"0": 120, "1": 12}


def test_validation_and_test_are_those_of_all_sources(folders: list[Path]) -> None:
    sets = mixture(folders, 10, 1)
    for split, folder, count in ((sets.validation, "val", 5), (sets.test, "test", 4)):
        found = names(split)
        assert len(found) == len(set(found)) == 2 * count
        assert [name[: 3 + len(folder)] for name in found] == [
            f"{part}/{folder}/" for part in "01" for _ in range(count)
        ]


def test_names_lead_to_the_pictures_of_their_source(folders: list[Path]) -> None:
    train = mixture(folders, 1, 1).train
    for part, folder in enumerate(folders):
        alone = FolderSource(path=str(folder)).open(0.1)
        expected = {f"{part}/{name}": i for i, name in enumerate(names(alone.train))}
        for index, name in enumerate(names(train)):
            if name.startswith(f"{part}/"):
                picture = alone.train.picture(expected[name])
                assert np.array_equal(train.picture(index), picture)


def test_what_is_said_of_it_is_joined(folders: list[Path]) -> None:
    sets = mixture(folders, 3, 1)
    assert sets.unreadable == ["1/train/letter.png"]
    assert sets.measures_generalization
    assert "80 training pictures an epoch" in sets.description
    assert re.search(rf"75\.0% .*{folders[0]}.*25\.0% .*{folders[1]}", sets.description)
    sample = {"weight": 1, "source": {"name": "sample", "crops": 8, "scoring_crops": 4}}
    folder = {"weight": 1, "source": {"name": "folder", "path": str(folders[0])}}
    mixed = parse(DataConfig, {"source": {"name": "mixture", "sources": [sample, folder]}})
    assert not open_data(mixed).measures_generalization


def test_the_fingerprint_stands_for_contents_and_shares(folders: list[Path]) -> None:
    before = mixture(folders, 3, 1).fingerprint
    assert mixture(folders, 6, 2).fingerprint == before
    assert mixture(folders, 2, 1).fingerprint != before
    assert mixture(folders[::-1], 3, 1).fingerprint != before
    write_pictures(folders[1] / "val", 1, seed=99)
    assert mixture(folders, 3, 1).fingerprint != before


def test_an_epoch_shows_every_picture(folders: list[Path]) -> None:
    settings = config(folders, [3, 1], size=16, loader_workers=2)
    sets = open_data(settings)
    loader = TrainingLoader(sets.train, settings, batch_size=8, seed=0)
    seen = Counter(name for batch in loader.epoch(0) for name in batch.names)
    assert set(seen) == set(names(sets.train))
    assert sum(count for name, count in seen.items() if name.startswith("1/")) == 20


def test_a_millions_fold_share_needs_no_list(folders: list[Path]) -> None:
    train = mixture(folders, 1, 1e8).train
    assert len(train) == pytest.approx(60e8, rel=1e-6)
    assert train.name(len(train) - 1).startswith("1/train/")


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "found 0 sources; a mixture needs two or more"),
        ([{"weight": 1, "source": {"name": "sample"}}], "found 1 sources"),
        ([{"weight": 0, "source": {"name": "sample"}}] * 2, r"sources\.1\.weight: found 0"),
        ([{"weight": 1, "source": {"name": "mixture", "sources": []}}] * 2, "found 'mixture'; "),
        ([{"weight": 1, "source": {"name": "foldr"}}] * 2, "did you mean 'folder'"),
        ([{"weight": 1, "source": {"name": "folder"}}] * 2, r"sources\.1\.source\.path: a value"),
    ],
)
def test_what_is_no_mixture_is_refused_by_key(sources: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(DataConfig, {"source": {"name": "mixture", "sources": sources}})


def test_a_source_that_cannot_be_opened_is_named_by_its_place(folders: list[Path]) -> None:
    with pytest.raises(ConfigError, match=r"data\.source\.sources, entry 1: .*no folder .*gone"):
        mixture([folders[0], folders[0] / "gone"], 1, 1)


def test_it_survives_the_way_through_plain_data(folders: list[Path]) -> None:
    settings = config(folders, [3, 1])
    assert parse(DataConfig, dump(settings)) == settings
    assert len(all_names(open_data(settings))) == 60 + 12 + 2 * 9
