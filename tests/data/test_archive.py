"""Zips and tars of generated pictures, whole ones and spoiled ones."""

import io
import multiprocessing
import pickle
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from colorization.config import ConfigError
from colorization.data import archive
from colorization.data.archive import ArchiveCollection, ArchiveSource
from colorization.data.folder import FolderSource
from colorization.data.loaders import TrainingLoader
from colorization.data.picture_sets import PictureSets
from colorization.data.sources import DataConfig
from colorization.pictures import UnreadablePicture
from written_pictures import all_names, encoded, names

Files = dict[str, bytes]
PICTURES = {
    f"{kind}/{i:03}.png": encoded(i) for i in range(60) for kind in ("cat", "dog")[i % 2 :][:1]
}
SPLITS = {
    **{f"train/{i}.png": encoded(i) for i in range(6)},
    **{f"val/{i}.png": encoded(i + 10) for i in range(3)},
    **{f"test/{i}.png": encoded(i + 20) for i in range(2)},
}


def write_zip(path: Path, files: Files, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def write_tar(path: Path, files: Files, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as packed:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, content in files.items():
            add(packed, name, content)
    return path


def add(packed: tarfile.TarFile, name: str, content: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    packed.addfile(info, io.BytesIO(content))


def collected(path: Path) -> ArchiveCollection:
    return ArchiveSource(path=str(path)).collect()


def opened(path: Path, max_unreadable: float = 0.1) -> PictureSets:
    return ArchiveSource(path=str(path)).open(max_unreadable)


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError, match=r"^data\.source\.path: ") as caught:
        collected(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def reason(path: Path, name: str) -> str:
    """Return why a picture of an archive is not read: neither its header nor its pixels."""
    found = collected(path)
    index = list(found.names).index(name)
    with pytest.raises(UnreadablePicture) as caught:
        found.picture(index)
    with pytest.raises(UnreadablePicture):
        found.digest(index)
    assert name in str(caught.value)
    return str(caught.value)


WRITERS: dict[str, Callable[[Path, Files], Path]] = {
    "deflated.zip": write_zip,
    "stored.zip": lambda path, files: write_zip(path, files, zipfile.ZIP_STORED),
    "plain.tar": write_tar,
}


@pytest.fixture(params=WRITERS)
def pack(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Files], Path]:
    def write(files: Files) -> Path:
        return WRITERS[request.param](tmp_path / request.param, files)

    return write


Pack = Callable[[Files], Path]


def test_a_picture_lands_in_the_split_that_it_has_in_a_folder(pack: Pack, tmp_path: Path) -> None:
    # Larger than what is hashed of either end.
    files = {**PICTURES, "big.bmp": encoded(0, "BMP") + bytes(100_000)}
    sets = opened(pack(files))
    folder = tmp_path / "unpacked"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    unpacked = FolderSource(path=str(folder)).open(0.1)
    for split in ("train", "validation", "test"):
        assert names(getattr(sets, split)) == names(getattr(unpacked, split))
    assert sets.fingerprint == unpacked.fingerprint
    for index in range(len(sets.train)):
        assert np.array_equal(sets.train.picture(index), unpacked.train.picture(index))


@pytest.mark.parametrize("above", ["", "photos/", "./"])
def test_folders_named_like_splits_are_the_splits(pack: Pack, above: str) -> None:
    sets = opened(pack({above + name: content for name, content in SPLITS.items()}))
    assert [len(s) for s in (sets.train, sets.validation, sets.test)] == [6, 3, 2]
    assert names(sets.test) == [f"{above.replace('./', '')}test/{i}.png" for i in range(2)]


def test_an_empty_split_folder_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {f"x/train/{i}.png": encoded(i) for i in range(20)})
    with tarfile.open(path, "a") as packed:
        add(packed, "x/val", type=tarfile.DIRTYPE)
    assert f"no pictures in {path}/x/val, which is a split" in refusal(path)


def test_hidden_files_metadata_and_what_is_no_picture_are_left_out(pack: Pack) -> None:
    junk = [
        "__MACOSX/cat/._000.png",
        "cat/._000.png",
        ".thumbs/a.png",
        "notes.txt",
        "cat/Thumbs.db",
    ]
    assert all_names(opened(pack({**PICTURES, **dict.fromkeys(junk, b"junk")}))) == set(PICTURES)


def test_backslashes_of_windows_are_slashes(tmp_path: Path) -> None:
    files = {name.replace("/", "\\"): content for name, content in SPLITS.items()}
    assert all_names(opened(write_zip(tmp_path / "a.zip", files))) == set(SPLITS)


def test_of_two_members_of_one_name_the_last_is_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.png": encoded(1)})
    with tarfile.open(path, "a") as packed:
        add(packed, "a.png", encoded(2))
    found = collected(path)
    assert list(found.names) == ["a.png"]
    assert found.content(0) == encoded(2)


OUTSIDE = ["../evil.png", "/etc/evil.png", "cat/../../evil.png", "C:/evil.png", "c:evil.png"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_member_outside_of_the_archive_is_named_and_never_read(pack: Pack, name: str) -> None:
    path = pack({**PICTURES, name: encoded(99)})
    assert "its path points outside of the archive" in reason(path, name)
    assert opened(path).unreadable == [name]


def test_too_many_unreadable_members_end_with_their_names(pack: Pack) -> None:
    path = pack({**PICTURES, **dict.fromkeys(OUTSIDE, b""), "letter.jpg": b"dear all"})
    with pytest.raises(ConfigError, match=r"max_unreadable: 6 of 66 .*evil\.png"):
        opened(path, 0.05)
    assert len(opened(path).unreadable) == 6


def test_a_member_that_declares_too_much_is_refused(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 5000)
    path = pack({**PICTURES, "huge.png": encoded(0) + bytes(5000)})
    found = reason(path, "huge.png")
    assert found.endswith("bytes are declared, at most 5000 are read")
    assert opened(path).unreadable == ["huge.png"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/etc/passwd.png", "is a link that points outside of it"),
        ("../outside.png", "is a link that points outside of it"),
        ("../../etc/x.png", "is a link that points outside of it"),
        ("gone.png", "is a link to cat/gone.png, which is no file in it"),
        ("link.png", "which is no file in it"),
        ("chain.png", "which is no file in it"),
    ],
)
def test_links_that_lead_nowhere_in_a_tar_are_unreadable(
    tmp_path: Path, target: str, expected: str
) -> None:
    path = write_tar(tmp_path / "a.tar", PICTURES)
    with tarfile.open(path, "a") as packed:
        if target == "../outside.png":
            target = "../../outside.png"
        add(packed, "cat/link.png", type=tarfile.SYMTYPE, linkname=target)
        add(packed, "cat/chain.png", type=tarfile.SYMTYPE, linkname="link.png")
    assert expected in reason(path, "cat/link.png")
    assert set(opened(path).unreadable) == {"cat/link.png", "cat/chain.png"}


def test_links_within_a_tar_lead_to_their_pictures(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a/one.png": encoded(1)})
    with tarfile.open(path, "a") as packed:
        add(packed, "b/hard.png", type=tarfile.LNKTYPE, linkname="a/one.png")
        add(packed, "b/soft.png", type=tarfile.SYMTYPE, linkname="../a/./one.png")
        add(packed, "chain.png", type=tarfile.SYMTYPE, linkname="b/soft.png")
        add(packed, "../out.png", type=tarfile.SYMTYPE, linkname="a/one.png")
    found = collected(path)
    readable = [i for i, name in enumerate(found.names) if name != "../out.png"]
    assert len(readable) == 4
    assert {found.content(i) for i in readable} == {encoded(1)}
    assert "outside" in reason(path, "../out.png")


def test_a_link_in_a_zip_is_unreadable(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = write_zip(tmp_path / "a.zip", PICTURES)
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr(info, "/etc/passwd")
    assert "is a link" in reason(path, "link.png")


def changed_entry(path: Path, name: str, offset: int, form: str, value: int) -> None:
    """Change a field of a member's entry in a zip's table of contents."""
    content = bytearray(path.read_bytes())
    start = content.rindex(name.encode()) - 46
    assert content[start : start + 4] == b"PK\1\2"
    struct.pack_into(form, content, start + offset, value)
    path.write_bytes(content)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("offset", "form", "value", "expected"),
    [
        (8, "<H", 1, "is encrypted"),
        (10, "<H", 14, "is compressed by method 14"),
        (24, "<I", 7, "damaged|declared as 7"),  # a bomb declares less than it holds
        (20, "<I", 2**29, "beyond the end|declared as"),
        (42, "<I", 3, "no file begins at byte 3"),
    ],
)
def test_a_wrong_entry_of_a_zip_is_unreadable(
    tmp_path: Path, method: int, offset: int, form: str, value: int, expected: str
) -> None:
    path = write_zip(tmp_path / "a.zip", PICTURES, method)
    changed_entry(path, "cat/000.png", offset, form, value)
    assert any(part in reason(path, "cat/000.png") for part in expected.split("|"))
    assert opened(path).unreadable == ["cat/000.png"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_wrong_crc_is_unreadable(tmp_path: Path, method: int) -> None:
    path = write_zip(tmp_path / "a.zip", PICTURES, method)
    changed_entry(path, "cat/000.png", 16, "<I", 0)
    found = collected(path)
    with pytest.raises(UnreadablePicture, match=r"cat/000\.png in .*damaged: .* CRC 00000000"):
        found.picture(0)


def test_damaged_compressed_bytes_are_unreadable(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", PICTURES)
    content = bytearray(path.read_bytes())
    content[45:60] = b"\xff" * 15
    path.write_bytes(content)
    reason(path, "cat/000.png")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.99])
def test_a_truncated_archive_is_refused(pack: Pack, share: float) -> None:
    path = pack(PICTURES)
    content = path.read_bytes()
    if path.suffix == ".tar":
        content = content[: content.rindex(encoded(59)) + 1]  # without the padding of the end
    path.write_bytes(content[: int(len(content) * share)])
    refusal(path)


def test_a_tar_whose_middle_is_damaged_is_refused_and_not_taken_for_a_shorter_one(
    tmp_path: Path,
) -> None:
    path = write_tar(tmp_path / "a.tar", PICTURES)
    content = bytearray(path.read_bytes())
    start = content.index(b"cat/030.png")
    content[start : start + 512] = b"\x07" * 512
    path.write_bytes(content)
    assert f"neither a file nor the end of the tar begins at byte {start}" in refusal(path)


def test_damage_anywhere_is_a_config_error_or_an_unreadable_picture(pack: Pack) -> None:
    path = pack(dict(list(PICTURES.items())[:3]))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    outcomes = {"refused": 0, "unreadable": 0, "read": 0}
    for _ in range(300):
        content = bytearray(whole)
        for place in rng.integers(len(content), size=3):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            found = collected(path)
            for index in range(len(found)):
                found.digest(index)
                found.picture(index)
            outcomes["read"] += 1
        except ConfigError:
            outcomes["refused"] += 1
        except UnreadablePicture:
            outcomes["unreadable"] += 1
    assert all(outcomes.values()), outcomes


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_a_compressed_tar_is_refused_with_the_way_out(tmp_path: Path, mode: str) -> None:
    path = write_tar(tmp_path / f"a.tar.{mode}", PICTURES, f"w:{mode}")
    message = refusal(path)
    assert "compressed as a whole" in message
    assert "unpack it and take data.source.name=folder" in message


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    assert "no file" in refusal(tmp_path / "gone.zip")
    (tmp_path / "letter.zip").write_text("dear all")
    assert "is neither a zip nor a tar" in refusal(tmp_path / "letter.zip")
    (tmp_path / "folder").mkdir()
    assert "is a folder; take data.source.name=folder" in refusal(tmp_path / "folder")
    assert "no pictures in" in refusal(write_zip(tmp_path / "a.zip", {"notes.txt": b"hello"}))


@pytest.mark.parametrize("kind", [".zip", ".tar"])
def test_the_suffix_of_the_archive_says_nothing(tmp_path: Path, kind: str) -> None:
    for number, write in enumerate((write_zip, write_tar)):
        assert all_names(opened(write(tmp_path / f"{number}{kind}", PICTURES))) == set(PICTURES)


def test_the_version_changes_with_the_content(pack: Pack) -> None:
    path = pack({"a.png": encoded(1), "b.png": encoded(2)})
    before = [collected(path).version(i) for i in range(2)]
    pack({"a.png": encoded(1), "b.png": encoded(3) + b"0"})
    after = [collected(path).version(i) for i in range(2)]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_it_is_read_from_threads_and_after_pickling(pack: Pack) -> None:
    found = collected(pack(PICTURES))
    expected = [PICTURES[name] for name in found.names]
    again = pickle.loads(pickle.dumps(found))
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(again.content, range(len(again)))) == expected


def _contents(found: ArchiveCollection) -> list[bytes]:
    return [found.content(i) for i in range(len(found))]


def test_it_is_read_in_forked_processes_at_once(pack: Pack) -> None:
    found = collected(pack(PICTURES))
    found.content(0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = [pool.apply_async(_contents, (found,)) for _ in range(6)]
        expected = [PICTURES[name] for name in found.names]
        assert all(result.get(20) == expected for result in results)


def test_loader_processes_read_what_the_main_process_reads(pack: Pack) -> None:
    train = opened(pack(PICTURES)).train
    batches = [
        list(
            TrainingLoader(
                train, DataConfig(size=16, loader_workers=workers), batch_size=8, seed=0
            ).epoch(0)
        )
        for workers in (0, 2)
    ]
    assert len(batches[0]) == len(train) // 8
    for alone, parallel in zip(*batches, strict=True):
        assert alone.names == parallel.names
        assert alone.rgb.equal(parallel.rgb)
