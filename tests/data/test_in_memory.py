import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing

from colorization.config import ConfigError
from colorization.data import Batch, DataConfig, SampleSource, TrainingLoader, in_memory
from colorization.data.in_memory import InMemory, TrainingSets
from colorization.pictures import UnreadablePicture

CONFIG = DataConfig(size=16, crop_scale=(0.5, 1.0), max_unreadable=0.5, in_memory=True)  # 32 needed


@dataclass(frozen=True)
class Noise:
    """Random pictures of many shapes, some of them damaged; counts how often it is asked."""

    count: int
    shapes: tuple[tuple[int, int], ...]
    damaged: frozenset[int] = frozenset()
    asked: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        self.asked.append(index)
        if index in self.damaged:
            raise UnreadablePicture(f"{self.name(index)} is damaged")
        shape = (*self.shapes[index % len(self.shapes)], 3)
        return np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)

    def name(self, index: int) -> str:
        return f"noise {index}"


SMALL = ((32, 40), (20, 24), (50, 32))
LARGE = ((64, 80), (33, 70), (97, 41))


def batches(pictures: Any, config: DataConfig) -> list[Batch]:
    loader = TrainingLoader(pictures, config, batch_size=4, seed=3)
    return [batch for epoch in (0, 1) for batch in loader.epoch(epoch)]


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_that_need_no_shrinking_give_identical_batches(workers: int) -> None:
    pictures = Noise(13, SMALL, frozenset({2, 5}))
    config = CONFIG.model_copy(update={"loader_workers": workers})
    held = batches(InMemory(pictures, config), config)
    for found, expected in zip(held, batches(pictures, CONFIG), strict=True):
        assert torch.equal(found[0], expected[0])
        assert found[1:] == expected[1:]


def test_larger_pictures_are_shrunk_to_what_crops_need_and_keep_their_shape() -> None:
    held = InMemory(Noise(3, LARGE), CONFIG)
    assert [held.picture(i).shape for i in range(3)] == [(32, 40, 3), (32, 68, 3), (76, 32, 3)]


def test_crops_of_shrunk_pictures_show_the_same_place() -> None:
    y, x = np.mgrid[0:96, 0:128]
    smooth = np.dstack((x, y, (x + y) // 2)).astype(np.uint8)

    class Smooth(Noise):
        def picture(self, index: int, short_side: int = 0) -> np.ndarray:
            return smooth

    pictures = Smooth(8, SMALL)
    pairs = zip(batches(InMemory(pictures, CONFIG), CONFIG), batches(pictures, CONFIG), strict=True)
    for found, expected in pairs:
        assert found.names == expected.names
        assert (found[0].float() - expected[0].float()).abs().mean() < 1


def test_damaged_pictures_stay_unreadable_with_their_reason() -> None:
    held = InMemory(Noise(4, SMALL, frozenset({1})), CONFIG)
    for _ in range(2):
        with pytest.raises(UnreadablePicture, match="noise 1 is damaged"):
            held.picture(1)
    assert held.name(1) == "noise 1"
    assert len(held) == 4


def test_a_set_fills_as_many_buffers_as_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_memory, "_CHUNK", 8000)
    monkeypatch.setattr(in_memory, "_AT_ONCE", 3)
    pictures = Noise(11, ((32, 40), (20, 24), (32, 90)))  # the last is larger than a buffer
    held = InMemory(pictures, CONFIG)
    assert all(np.array_equal(held.picture(i), pictures.picture(i)) for i in range(11))


def test_pictures_are_decoded_once_for_all_epochs_and_stages() -> None:
    sets, pictures = TrainingSets(), Noise(8, SMALL)
    first = sets.of_stage(pictures, CONFIG)
    decoded = len(pictures.asked)
    batches(first, CONFIG)
    assert sets.of_stage(pictures, CONFIG.model_copy(update={"flip": False})) is first
    assert len(pictures.asked) == decoded
    assert set(pictures.asked) == set(range(8))


def test_stages_that_need_more_pixels_other_pictures_or_none_in_memory_get_them() -> None:
    sets, pictures = TrainingSets(), Noise(4, LARGE)
    first = sets.of_stage(pictures, CONFIG)
    larger = sets.of_stage(pictures, CONFIG.model_copy(update={"size": 24}))
    assert larger is not first
    assert larger.picture(0).shape == (48, 60, 3)
    other = Noise(4, SMALL)
    assert sets.of_stage(other, CONFIG).picture(0).shape == (32, 40, 3)
    assert sets.of_stage(other, CONFIG.model_copy(update={"in_memory": False})) is other


@pytest.mark.parametrize("start", [pytest.param("spawn", marks=pytest.mark.slow), "fork"])
def test_other_processes_see_the_pixels_however_they_are_started(start: str) -> None:
    pictures = SampleSource(crops=4).open(0).train  # of a module that a spawned one can import
    held = InMemory(pictures, CONFIG.model_copy(update={"loader_workers": 1}))
    assert all(chunk.is_shared() for chunk in held._chunks)
    with torch.multiprocessing.get_context(start).Pool(1) as pool:
        seen = pool.apply_async(InMemory.picture, (held, 3)).get(timeout=60)
    assert np.array_equal(seen, held.picture(3))


@pytest.mark.parametrize(("workers", "kind"), [(0, "memory"), (2, "/dev/shm")])
def test_what_does_not_fit_is_refused_with_what_is_needed_and_what_is_free(
    monkeypatch: pytest.MonkeyPatch, workers: int, kind: str
) -> None:
    pictures = Noise(10_000_000, ((32, 40),))
    free = {"_free_memory": 1e18 if workers else 5e9, "_free_shared_memory": 5e9}
    for name, count in free.items():
        monkeypatch.setattr(in_memory, name, lambda count=count: count)
    needed = math.ceil(1.1 * 10_000_000 * 32 * 40 * 3)
    with pytest.raises(
        ConfigError, match=rf"data\.in_memory: .*{needed} bytes.*5000000000"
    ) as told:
        InMemory(pictures, CONFIG.model_copy(update={"loader_workers": workers}))
    assert kind in str(told.value)
    assert len(pictures.asked) <= 64


def test_ranks_on_one_machine_need_the_memory_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_memory, "_free_memory", lambda: 10_000)
    pictures = Noise(2, ((32, 40),))
    assert len(InMemory(pictures, CONFIG)) == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 local ranks need"):
        InMemory(pictures, CONFIG)


def test_the_memory_that_is_free_is_found_on_linux() -> None:
    if not Path("/proc/meminfo").exists():
        pytest.skip("no /proc")
    assert 1e6 < in_memory._free_memory() < 1e15
