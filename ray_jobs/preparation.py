"""From sources of pictures to a packed set: what prepare.py runs."""

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from rich.console import Console

from chunk_work import WorkersFailed, shut_down, start_ray, work_off
from colorization import config
from colorization.config import ConfigError
from colorization.data.collection import Collection
from colorization.data.crops import picture_of
from colorization.data.curation.assignment import Assignment, assign
from colorization.data.curation.candidate import Candidate
from colorization.data.curation.near_duplicates import near_duplicates
from colorization.data.given_instances import GivenInstances
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
from curator import MASK_RCNN, Chunk, Curator, cut_out
from instance_search import search_instances
from preparation_report import print_result, say, write_contact_sheet
from preparation_settings import Preparation, check_classes, check_place, results_of
from storage import lock_folder

_PARTS = ".parts"
_WRITERS = 4  # threads that copy pictures into shards


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
            pictures = [source.collect() for source in job.sources]
            check_classes(job.settings, pictures)
        told = _instances(job, pictures, console)
        given = GivenInstances(told) if told else None
        collections = [cut_out(found, job.settings, given) for found in pictures]
        chunks = _chunks(job, collections, given)
        listing = json_digest([chunk.key for chunk in chunks])
        old = read_manifest(job.out)
        if old is not None:
            _refuse_other_settings(job, old)
            as_asked = (listing, job.settings.shard_megabytes)
            found = (old["listing"], old["shard_megabytes"])
            if found == as_asked and _is_whole(job.out, old):
                _clear(job.out, old, old)
                say(console, f"{job.out} is prepared already: data {old['hash']}")
                return 0
        looked = _look(job, chunks, told, console)
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
        write_contact_sheet(job.out, collections, assignment, looked)
        write_manifest(job.out, manifest)
        _clear(job.out, manifest, old)
        print_result(console, job.out, manifest, assignment.moved, time.monotonic() - started)
        return 0
    except WorkersFailed as error:
        print(f"no worker could go on: {error}", file=sys.stderr)
        print("what was done stays; without this fault the same command goes on", file=sys.stderr)
        return 1
    finally:
        shut_down()
        lock.close()


def _instances(job: Preparation, pictures: Sequence[Collection], console: Console) -> Path | None:
    """Return the file that says what is in pictures, where instances are asked for."""
    if job.settings.instances is None:
        return None
    if job.settings.detections == MASK_RCNN:
        return search_instances(job, pictures, job.out / _PARTS, console)
    return Path(str(job.settings.detections))


def _chunks(
    job: Preparation, collections: Sequence[Collection], given: GivenInstances | None
) -> list[Chunk]:
    """Cut the sources' pictures into pieces of work, each under a name that stands for it."""
    rules = results_of(job)
    chunks: list[Chunk] = []
    for number, collection in enumerate(collections):
        for start in range(0, len(collection), job.chunk):
            stop = min(start + job.chunk, len(collection))
            names = [collection.name(i) for i in range(start, stop)]
            versions = [(name, collection.version(start + i)) for i, name in enumerate(names)]
            asked = [rules, number, config.dump(job.sources[number]), versions]
            if job.painter is not None and given is not None:
                asked.append([[config.dump(one) for one in given.told(name)] for name in names])
            chunks.append(Chunk(json_digest(*asked), number, start, names))
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


def _look(
    job: Preparation, chunks: Sequence[Chunk], told: Path | None, console: Console
) -> list[Looked]:
    """Let the workers look at what was not looked at yet; return what is known of all pictures."""
    parts = job.out / _PARTS
    missing = [chunk for chunk in chunks if not chunk.is_done(parts)]
    if missing:
        arguments = {
            "sources": job.sources,
            "rules": job.settings,
            "detections": job.settings.detections,
            "parts": parts,
            "session": uuid4().hex[:8],
            "told": told,
        }
        if job.painter is not None:
            arguments["painter"] = start_ray().put(dict(job.painter.files))
        work_off(
            missing,
            sum(len(chunk.names) for chunk in chunks) - sum(len(c.names) for c in missing),
            Curator,
            arguments,
            processes=job.workers,
            gpus=job.painter is not None,
            title="looking",
            console=console,
        )
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
    if job.settings.instances == "crops":
        name = picture_of(candidate.name)
        group = job.sources[candidate.source].group(name)
        return f"{candidate.source} {group or name}"
    group = job.sources[candidate.source].group(candidate.name)
    return None if group is None else f"{candidate.source} {group}"


def _write_shards(job: Preparation, plans: Sequence[ShardPlan]) -> list[dict[str, Any]]:
    """Put the parts together to shards: it is bound by the disk, so that threads are enough."""
    parts = job.out / _PARTS
    with ThreadPoolExecutor(_WRITERS) as pool:
        return list(pool.map(lambda plan: write_shard(plan, parts, job.out), plans))


def _clear(out: Path, manifest: Mapping[str, Any], old: Mapping[str, Any] | None) -> None:
    """Remove the parts, what a killed run left half written, and shards of an earlier manifest."""
    shutil.rmtree(out / _PARTS, ignore_errors=True)
    for path in out.glob(f".*{PARTIAL}"):
        path.unlink()
    known = {shard["file"] for shard in manifest["shards"]}
    for shard in old["shards"] if old else ():
        if shard["file"] not in known:
            (out / shard["file"]).unlink(missing_ok=True)
