"""From sources of pictures to a packed set: what prepare.py runs."""

import shutil
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cluster import connect, find_running
from colorization import config
from colorization.config import ConfigError
from colorization.data.collection import Collection
from colorization.data.curation.assignment import Assignment, Move, assign
from colorization.data.curation.candidate import Candidate
from colorization.data.curation.contact_sheet import MOST_SHOWN, Section, contact_sheet
from colorization.data.curation.near_duplicates import near_duplicates
from colorization.data.manifest import build_manifest, read_manifest, write_manifest
from colorization.data.packing import (
    PARTIAL,
    Looked,
    ShardPlan,
    file_digest,
    json_digest,
    plan_shards,
    read_part,
    write_shard,
)
from colorization.data.splits import SPLITS, parse_shares
from colorization.pictures import Picture, UnreadablePicture, encode_picture, replace_file
from curator import Chunk, Curator
from preparation_settings import Preparation, check_classes, check_place, results_of
from storage import lock_folder

CHUNK = 256  # pictures that a worker looks at before it writes what it found
CONTACT_SHEET = "contact-sheet.jpg"
_PARTS = ".parts"
_WRITERS = 4  # threads that copy pictures into shards
_WIDTH = 128  # short side in pixels of what is shown there


class WorkersFailed(RuntimeError):
    """No worker could go on: what they wrote down stays, to go on with."""


def prepare(job: Preparation) -> int:
    """Curate and pack; return the exit status.

    Raises ConfigError before Ray is started for what cannot work. Interrupted at any time, the
    same command goes on; done already, it changes nothing.
    """
    console = Console(highlight=False)
    started = time.monotonic()
    check_place(job)
    lock = lock_folder(job.out, "wait for it, or take another --out")
    try:
        with console.status("looking for pictures"):
            collections = [source.collect() for source in job.sources]
            check_classes(job.settings, collections)
        chunks = _chunks(job, collections)
        listing = json_digest([chunk.key for chunk in chunks])
        old = read_manifest(job.out)
        if old is not None:
            _refuse_other_settings(job, old)
            as_asked = (listing, job.settings.shard_megabytes)
            found = (old["listing"], old["shard_megabytes"])
            if found == as_asked and _is_whole(job.out, old):
                _clear(job.out, old, old)
                console.print(f"{job.out} is prepared already: data {old['hash']}")
                return 0
        looked = _look(job, chunks, console)
        if old is not None:
            _compare(job.out, looked, old, console)
        assignment = _assign(job, collections, looked, old)
        if empty := [split for split in SPLITS if split not in assignment.splits]:
            kept = sum(split is not None for split in assignment.splits)
            raise ConfigError(
                f"split: of {len(looked)} pictures {kept} are kept and none came into "
                f"{empty[0]}; add pictures, or change split, now {job.settings.split}"
            )
        plans = plan_shards(looked, assignment.splits, job.settings.shard_megabytes * 1024**2)
        shards = _write_shards(job, plans)
        manifest = build_manifest(
            sources=[
                {**config.dump(source), "found": f"{len(found)} pictures in {found.place}"}
                for source, found in zip(job.sources, collections, strict=True)
            ],
            settings=results_of(job),
            listing=listing,
            shard_megabytes=job.settings.shard_megabytes,
            assignment=assignment,
            looked=looked,
            plans=plans,
            shards=shards,
            old=old,
        )
        _write_contact_sheet(job, collections, assignment, looked)
        write_manifest(job.out, manifest)
        _clear(job.out, manifest, old)
        _print_result(console, job.out, manifest, assignment.moved, time.monotonic() - started)
        return 0
    except WorkersFailed as error:
        print(f"{error}\nwhat was done stays; the same command goes on with it", file=sys.stderr)
        return 1
    finally:
        _shut_down()
        lock.close()


def _chunks(job: Preparation, collections: Sequence[Collection]) -> list[Chunk]:
    """Cut the sources' pictures into pieces of work, each under a name that stands for it."""
    rules = results_of(job)
    chunks: list[Chunk] = []
    for number, collection in enumerate(collections):
        for start in range(0, len(collection), CHUNK):
            stop = min(start + CHUNK, len(collection))
            versions = [(collection.name(i), collection.version(i)) for i in range(start, stop)]
            key = json_digest(rules, number, config.dump(job.sources[number]), versions)
            chunks.append(Chunk(key, number, start, [name for name, _ in versions]))
    return chunks


def _refuse_other_settings(job: Preparation, old: Mapping[str, Any]) -> None:
    for key, value in results_of(job).items():
        if old["settings"].get(key) != value:
            raise ConfigError(
                f"--out: {job.out} was prepared with {key}={old['settings'].get(key)}, found "
                f"{key}={value}; take another --out, or the same setting"
            )


def _is_whole(out: Path, manifest: Mapping[str, Any]) -> bool:
    """Tell whether all shards are there, to the bit."""
    for shard in manifest["shards"]:
        path = out / shard["file"]
        if not path.exists() or file_digest(path) != shard["blake2b"]:
            return False
    return True


def _compare(out: Path, looked: Sequence[Looked], old: Mapping[str, Any], console: Console) -> None:
    """Say how many pictures of before are gone; refuse where nothing is left of them."""
    before = {p["content"] for p in old["pictures"] if p["split"]}
    gone = before - {one.candidate.content for one in looked}
    if gone == before:
        raise ConfigError(
            f"--out: {out} holds {len(before)} other pictures, none of which is in these sources; "
            "take another folder"
        )
    if gone:
        console.print(f"{len(gone)} pictures that were kept before are no longer there")


def _look(job: Preparation, chunks: Sequence[Chunk], console: Console) -> list[Looked]:
    """Let the workers look at what was not looked at yet; return what is known of all pictures."""
    parts = job.out / _PARTS
    missing = [chunk for chunk in chunks if not chunk.is_done(parts)]
    if missing:
        ray = start_ray()
        cpus = int(ray.cluster_resources().get("CPU", 1))
        workers = min(job.workers or cpus, len(missing))
        data = ray.data.from_items(
            [vars(chunk) for chunk in missing], override_num_blocks=len(missing)
        ).map(
            Curator,
            fn_constructor_args=(
                job.sources,
                job.settings,
                job.settings.detections,
                parts,
                uuid4().hex[:8],
            ),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=min(1.0, cpus / workers),
        )
        done = sum(len(chunk.names) for chunk in chunks) - sum(len(c.names) for c in missing)
        with _progress(console) as progress:
            task = progress.add_task("looking", total=sum(len(chunk.names) for chunk in chunks))
            progress.update(task, completed=done)
            try:
                for row in data.iter_rows():
                    progress.advance(task, row["looked"])
            except ray.exceptions.RayError as error:
                raise WorkersFailed(str(error).strip().splitlines()[-1]) from error
    return [one for chunk in chunks for one in read_part(parts, chunk.key)]


def _assign(
    job: Preparation,
    collections: Sequence[Collection],
    looked: Sequence[Looked],
    old: Mapping[str, Any] | None,
) -> Assignment:
    candidates = [one.candidate for one in looked]
    alive = [i for i, candidate in enumerate(candidates) if candidate.dropped is None]
    hashes = np.array([candidates[i].perceptual for i in alive], np.uint64)
    pixels = bytes.fromhex("".join(candidates[i].thumbnail for i in alive))
    thumbnails = np.frombuffer(pixels, np.uint8).reshape(len(alive), -1)
    near = np.full(len(candidates), -1)
    near[alive] = near_duplicates(hashes, thumbnails, job.settings.near_bits)
    previous = {p["content"]: p["split"] for p in old["pictures"] if p["split"]} if old else {}
    return assign(
        candidates,
        declared=[_group(job, candidate) for candidate in candidates],
        given=[split for collection in collections for split in collection.given],
        shares=parse_shares(job.settings.split),
        near=near.tolist(),
        drop_duplicates=job.settings.drop_duplicates,
        previous=previous,
    )


def _group(job: Preparation, candidate: Candidate) -> str | None:
    """Return a declared group; equal ones of two sources have nothing in common."""
    group = job.sources[candidate.source].group(candidate.name)
    return None if group is None else f"{candidate.source} {group}"


def _write_shards(job: Preparation, plans: Sequence[ShardPlan]) -> list[dict[str, Any]]:
    """Put the parts together to shards: it is bound by the disk, so that threads are enough."""
    parts = job.out / _PARTS
    with ThreadPoolExecutor(_WRITERS) as pool:
        return list(pool.map(lambda plan: write_shard(plan, parts, job.out), plans))


def _write_contact_sheet(
    job: Preparation,
    collections: Sequence[Collection],
    assignment: Assignment,
    looked: Sequence[Looked],
) -> None:
    """Show the first of each split, and of each reason for which pictures were dropped."""
    places = [(n, i) for n, found in enumerate(collections) for i in range(len(found))]
    sections: dict[str, list[int]] = {f"kept: {split}": [] for split in SPLITS}
    for index, (candidate, split) in enumerate(
        zip(assignment.candidates, assignment.splits, strict=True)
    ):
        title = f"kept: {split}" if split else f"dropped: {candidate.dropped}"
        sections.setdefault(title, []).append(index)
    sheet: list[Section] = []
    for title, members in sections.items():
        members.sort(key=lambda index: looked[index].candidate.content)
        shown: list[tuple[str, np.ndarray | None]] = []
        for index in members[:MOST_SHOWN]:
            source, number = places[index]
            try:
                rgb = collections[source].picture(number, _WIDTH)
            except UnreadablePicture:
                rgb = None
            shown.append((assignment.candidates[index].name, rgb))
        sheet.append((title, len(members), shown))
    replace_file(job.out / CONTACT_SHEET, encode_picture(Picture(contact_sheet(sheet)), ".jpg"))


def _clear(out: Path, manifest: Mapping[str, Any], old: Mapping[str, Any] | None) -> None:
    """Remove the parts, what a killed run left half written, and shards of an earlier manifest."""
    shutil.rmtree(out / _PARTS, ignore_errors=True)
    for path in out.glob(f".*{PARTIAL}"):
        path.unlink()
    known = {shard["file"] for shard in manifest["shards"]}
    for shard in old["shards"] if old else ():
        if shard["file"] not in known:
            (out / shard["file"]).unlink(missing_ok=True)


def _print_result(
    console: Console,
    out: Path,
    manifest: Mapping[str, Any],
    moved: Sequence[Move],
    seconds: float,
) -> None:
    counts = manifest["counts"]
    table = Table()
    table.add_column("pictures")
    table.add_column("", justify="right")
    table.add_row("found", str(counts["found"]))
    for reason, number in counts["dropped"].items():
        table.add_row(f"dropped: {reason}", str(number))
    for split in SPLITS:
        table.add_row(f"kept: {split}", str(counts[split]))
    for source in manifest["sources"]:
        _say(console, source["found"])
    console.print(table)
    for move in moved:
        _say(console, f"moved: {move.name} {move.before} -> {move.after}: {move.because}")
    size = sum(shard["file_bytes"] for shard in manifest["shards"]) / 1e9
    console.print(f"{len(manifest['shards'])} shards, {size:.2f} GB, {seconds:.0f} s")
    console.print(f"data {manifest['hash']} in {out}", soft_wrap=True)
    console.print(f"look at {out / CONTACT_SHEET}", soft_wrap=True)
    console.print(f"train on it: data.source.name=packed data.source.path={out}", soft_wrap=True)


def _say(console: Console, text: str) -> None:
    """Print a line with names in it, which may hold brackets and bytes that are no letters."""
    console.print(text.encode(errors="replace").decode(), markup=False, soft_wrap=True)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def start_ray() -> Any:
    """Join the cluster or start one; return Ray, set so that workers leave GPUs to others."""
    import ray
    import ray.data

    if not ray.is_initialized():
        connect(find_running())
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    with warnings.catch_warnings():
        # Ray Data itself is to see to it from 2.64 on. Until then it spreads workers over all
        # machines, where Ray's own way is those without GPUs first.
        warnings.simplefilter("ignore")
        context.scheduling_strategy = "DEFAULT"
    return ray


def _shut_down() -> None:
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
