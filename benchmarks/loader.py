"""How fast pictures reach the model: the published loader, ours on a folder, packed, in memory.

Run it on a quiet machine: `python benchmarks/loader.py --photos FOLDER`. Each way gives batches of
Lab on one core, without loader processes; the ways take turns within one process, so that whatever
else the machine does meets them alike, and medians of processor time are compared. Then loader
processes are watched over several epochs: private memory that goes on growing would be a leak.
"""

import argparse
import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage.color import rgb2lab
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from colorization.color import rgb_to_lab
from colorization.config import parse
from colorization.data import DataConfig, PictureSet, SampleSource, TrainingLoader
from colorization.data.collection import Subset
from colorization.data.folder import FolderSource
from colorization.data.in_memory import InMemory
from colorization.data.packed import PackedSet
from colorization.data.packed_manifest import FORMAT, Encoding, parse_manifest
from colorization.data.packing import encode
from colorization.data.shard_store import ShardStore
from colorization.pictures import Picture, read_rgb, write_picture

SIZE, BATCH = 256, 16
CROPS = {"largest square": (1.0, 1.0), "default crop": (0.6, 1.0)}
Way = Callable[[int], Iterable[Any]]  # the batches of an epoch


class Published(Dataset[dict[str, Tensor]]):
    """The dataset of the published pix2pix colorization (system B3), step by step."""

    def __init__(self, paths: Sequence[Path]) -> None:
        resize = transforms.Resize((SIZE, SIZE), transforms.InterpolationMode.BICUBIC)
        self.transforms = transforms.Compose([resize, transforms.RandomHorizontalFlip()])
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return lightness and ab of a picture, scaled."""
        image = np.array(self.transforms(Image.open(self.paths[index]).convert("RGB")))
        lab = transforms.ToTensor()(rgb2lab(image).astype("float32"))
        return {"L": lab[[0], ...] / 50.0 - 1.0, "ab": lab[[1, 2], ...] / 110.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print tables; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of JPEG files (sample photographs)")
    parser.add_argument("--pictures", type=int, default=64, help="taken of them at most (64)")
    parser.add_argument("--rounds", type=int, default=5, help="measured a way (5)")
    parser.add_argument("--epochs", type=int, default=10, help="that memory is watched over (10)")
    parser.add_argument("--workers", type=int, default=2, help="loader processes watched (2)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    console = Console()
    with tempfile.TemporaryDirectory() as place:
        paths = _write_photographs(options.photos, options.pictures, Path(place) / "photos")
        found = FolderSource(path=str(Path(place) / "photos")).collect()
        sets: dict[str, PictureSet] = {
            "folder": Subset(found, range(len(found))),
            "packed as JPEG": pack(paths, Path(place) / "jpeg", "jpeg"),
            "packed raw": pack(paths, Path(place) / "raw", "raw"),
        }
        console.print(_speed(paths, sets, options.rounds))
        console.print(_memory(sets, options.epochs, options.workers))
    return 0


def pack(paths: Sequence[Path], folder: Path, encoding: Encoding) -> PictureSet:
    """Write pictures as one packed shard and open it."""
    folder.mkdir()
    file = folder / "train-00000.npy"
    entries: list[dict[str, Any]] = []
    contents: list[bytes] = []
    offset = 0
    for path in paths:
        rgb = read_rgb(path)
        contents.append(encode(rgb, encoding))
        entries.append(
            {
                "source": 0,
                "name": path.name,
                "split": "train",
                "shard": file.name,
                "offset": offset,
                "bytes": len(contents[-1]),
                "size": [rgb.shape[1], rgb.shape[0]],
            }
        )
        offset += len(contents[-1])
    np.save(file, np.frombuffer(b"".join(contents), np.uint8))
    size = file.stat().st_size
    shard = {"file": file.name, "file_bytes": size, "split": "train", "pictures": len(paths)}
    manifest = {
        "format": FORMAT,
        "hash": "benchmark",
        "counts": {"train": len(paths), "validation": 0, "test": 0},
        "statistics": {"ab": {"mean": [0, 0], "deviation": [1, 1]}},
        "settings": {"encoding": encoding, "size": SIZE},
        "shards": [shard],
        "pictures": entries,
    }
    store = ShardStore(str(folder), None, 1)
    return PackedSet(store, parse_manifest(json.dumps(manifest), str(folder)), "train")


def _write_photographs(photos: Path | None, most: int, folder: Path) -> list[Path]:
    """Put JPEG files into a folder: the given ones, else sample photographs of 256 pixels."""
    folder.mkdir()
    if photos is not None:
        for path in sorted(path for path in photos.rglob("*.jp*g"))[:most]:
            shutil.copy(path, folder / path.name)
    else:
        scenes = SampleSource().open(0).train.scenes  # pyright: ignore[reportAttributeAccessIssue]
        for number, (name, scene) in enumerate((most // len(scenes) or 1) * [*scenes.items()]):
            scale = SIZE / min(scene.shape[:2])
            size = (round(scene.shape[1] * scale), round(scene.shape[0] * scale))
            small = cv2.resize(scene, size, interpolation=cv2.INTER_AREA)
            write_picture(Picture(small), folder / f"{number:04d}-{name}.jpg")
    return sorted(folder.iterdir())


def _config(crop: str, workers: int = 0) -> DataConfig:
    return parse(DataConfig, {"size": SIZE, "crop_scale": CROPS[crop], "loader_workers": workers})


def _published(paths: Sequence[Path]) -> Way:
    loader = DataLoader(Published(paths), batch_size=BATCH, shuffle=True, drop_last=True)
    return lambda epoch: loader


def _ours(pictures: PictureSet, crop: str) -> Way:
    loader = TrainingLoader(pictures, _config(crop), batch_size=BATCH, seed=0)
    return lambda epoch: (rgb_to_lab(batch.rgb) for batch in loader.epoch(epoch))


def _decoding(paths: Sequence[Path]) -> Way:
    def decode(epoch: int) -> Iterable[Any]:
        for path in paths[: len(paths) // BATCH * BATCH]:
            yield cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)

    return decode


def _speed(paths: Sequence[Path], sets: dict[str, PictureSet], rounds: int) -> Table:
    ways: dict[str, Way] = {"published": _published(paths), "decoding only": _decoding(paths)}
    for crop in CROPS:
        for name, pictures in sets.items():
            ways[f"{name}, {crop}"] = _ours(pictures, crop)
        memory = InMemory(sets["folder"], _config(crop))
        ways[f"in memory, {crop}"] = _ours(memory, crop)
    pictures = len(paths) // BATCH * BATCH
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for epoch in range(rounds + 1):  # the first one warms up
        for name, way in ways.items():
            started = time.process_time()
            for _ in way(epoch):
                pass
            if epoch > 0:
                seconds[name].append(time.process_time() - started)
    median = {name: statistics.median(taken) / pictures for name, taken in seconds.items()}
    title = f"{pictures} pictures at {SIZE}, batches of {BATCH}, one core, median of {rounds}"
    table = Table("way", title=title)
    for heading in ("us a picture", "pictures/s", "x published", "x decoding only"):
        table.add_column(heading, justify="right")
    for name, taken in median.items():
        table.add_row(
            name,
            f"{1e6 * taken:.0f}",
            f"{1 / taken:.0f}",
            f"{median['published'] / taken:.2f}",
            f"{median['decoding only'] / taken:.2f}",
        )
    return table


def _memory(sets: dict[str, PictureSet], epochs: int, workers: int) -> Table:
    table = Table("way", title=f"memory of each of {workers} loader processes, MB")
    for heading in ("resident, epoch 1", f"epoch {epochs}", "private, epoch 1", f"epoch {epochs}"):
        table.add_column(heading, justify="right")
    for name, pictures in sets.items():
        before = set(multiprocessing.active_children())
        loader = TrainingLoader(
            pictures, _config("default crop", workers), batch_size=BATCH, seed=0
        )
        found: list[list[tuple[float, float]]] = []
        for epoch in range(epochs):
            for _ in loader.epoch(epoch):
                pass
            own = set(multiprocessing.active_children()) - before
            found.append(sorted(_megabytes(process.pid or 0) for process in own))
        columns = [
            " ".join(f"{one[kind]:.0f}" for one in found[epoch])
            for kind in (0, 1)
            for epoch in (0, -1)
        ]
        table.add_row(name, *columns)
        del loader
    return table


def _megabytes(process: int) -> tuple[float, float]:
    """Return what a process holds in memory, and what of it no other process shares."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return kilobytes["Rss"] / 1e3, private / 1e3


if __name__ == "__main__":
    raise SystemExit(main())
