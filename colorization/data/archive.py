"""Pictures inside a zip or a tar, read in place."""

import struct
import tarfile
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from pydantic import Field

from colorization.config import ConfigError
from colorization.data.collection import CollectedSource, EncodedCollection, ends_of
from colorization.data.folder import AbsolutePath, divided_by_folders, is_picture_name
from colorization.data.splits import Split
from colorization.pictures import UnreadablePicture

MAX_MEMBER_BYTES = 2**30  # a picture of 250 megapixels without compression has 750 MB
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_LOCAL_HEADER = struct.Struct("<4s22x2H")  # of a member of a zip: signature, lengths of two fields
_TAR_BLOCK = 512
_MOST_LINKS = 40  # of links that point to links, as Linux has it
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    struct.error,
    NotImplementedError,
    EOFError,
    OSError,
    ValueError,
    IndexError,
    OverflowError,
)


class ArchiveSource(CollectedSource):
    """A zip or an uncompressed tar; its folders `train` and `val` (and `test`) are the splits."""

    name: Literal["archive"] = "archive"
    path: AbsolutePath = Field(min_length=1, description="the zip or tar; it is not unpacked")

    def collect(self) -> "ArchiveCollection":
        """Read the table of contents.

        Pictures are taken as out of a folder: hidden files are left out, and so is `__MACOSX`. A
        member is unreadable where its path or link points outside of the archive, where it is
        encrypted, or where it declares more than MAX_MEMBER_BYTES. Raises ConfigError where the
        file is missing, damaged, a compressed tar or no archive, and as FolderSource does.
        """
        path = Path(self.path)
        kind = _kind(path)
        try:
            contents = _read_zip(path) if kind is ZipCollection else _read_tar(path)
        except _DAMAGE as error:
            raise ConfigError(
                f"data.source.path: {path} is a damaged or truncated archive ({error}); "
                "copy or download it again"
            ) from error
        pictures = {m.name: m for m in contents.members if _is_picture(m.name)}  # the last one wins
        place, names, given = divided_by_folders(
            str(path), sorted(pictures), lambda at: _folders_below(at, contents)
        )
        return kind(place, path, [pictures[name] for name in names], given)


class Member(NamedTuple):
    """A file inside an archive."""

    name: str
    offset: int  # in the archive, of its header (zip) or its bytes (tar)
    length: int  # in the archive
    size: int  # of the file
    mark: int  # CRC (zip) or time of change (tar)
    method: int = _STORED
    refusal: str = ""  # why it is not read


class _Contents(NamedTuple):
    members: list[Member]
    folders: set[str]  # that have an entry of their own, even if they are empty


class ArchiveCollection(EncodedCollection):
    """Members of an archive, which is opened for each one: so it can be read from several threads,
    from forked processes and after pickling."""

    def __init__(
        self, place: str, path: Path, members: list[Member], given: list[Split] | None
    ) -> None:
        super().__init__(place, [member.name for member in members], given)
        self.path = path
        # An array: millions of tuples would be copied into every loader process bit by bit.
        self._places = np.array([m[1:6] if not m.refusal else [0] * 5 for m in members], np.int64)
        self._refused = {i: member.refusal for i, member in enumerate(members) if member.refusal}

    def version(self, index: int) -> str:
        """Return a file's size with its CRC (zip) or its time of change (tar)."""
        _, _, size, mark, _ = self._places[index]
        return f"{size} {mark}"

    def content(self, index: int) -> bytes:
        """Read a file; raises UnreadablePicture, also where its CRC is wrong."""
        member = self._member(index)
        try:
            with self.path.open("rb") as archive:
                return self._read(archive, member)
        except (OSError, zlib.error) as error:
            raise self._unreadable(member, f"cannot be read ({error})") from error

    def ends(self, index: int) -> tuple[bytes, bytes, int]:
        """Read the two ends of a file only, unless it is compressed; raises UnreadablePicture."""
        member = self._member(index)
        if member.method != _STORED:
            return super().ends(index)
        try:
            with self.path.open("rb") as archive:
                return ends_of(archive, self._start(archive, member), member.size)
        except OSError as error:
            raise self._unreadable(member, f"cannot be read ({error})") from error

    def _member(self, index: int) -> Member:
        offset, length, size, mark, method = map(int, self._places[index])
        member = Member(self.names[index], offset, length, size, mark, method)
        if index in self._refused:
            raise self._unreadable(member, self._refused[index])
        return member

    def _read(self, archive: BinaryIO, member: Member) -> bytes:
        archive.seek(self._start(archive, member))
        content = archive.read(member.length)
        if len(content) < member.length:
            raise self._unreadable(member, "lies beyond the end of the file")
        return content

    @abstractmethod
    def _start(self, archive: BinaryIO, member: Member) -> int:
        """Return where a member's bytes begin; raises UnreadablePicture."""

    def _unreadable(self, member: Member, reason: str) -> UnreadablePicture:
        return UnreadablePicture(f"{member.name} in {self.path}: {reason}")


class TarCollection(ArchiveCollection):
    """Members of a tar."""

    def _start(self, archive: BinaryIO, member: Member) -> int:
        del archive
        return member.offset


class ZipCollection(ArchiveCollection):
    """Members of a zip."""

    def _start(self, archive: BinaryIO, member: Member) -> int:
        archive.seek(member.offset)
        header = archive.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
            raise self._unreadable(member, f"no file begins at byte {member.offset} of the zip")
        _, name, extra = _LOCAL_HEADER.unpack(header)
        return member.offset + _LOCAL_HEADER.size + name + extra

    def _read(self, archive: BinaryIO, member: Member) -> bytes:
        content = super()._read(archive, member)
        if member.method == _DEFLATED:
            # One byte more than declared: a bomb is seen without being unpacked.
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, member.size + 1)
        if len(content) != member.size or zlib.crc32(content) != member.mark:
            raise self._unreadable(
                member, f"damaged: its {member.size} bytes do not have the CRC {member.mark:08x}"
            )
        return content


def _kind(path: Path) -> type[TarCollection] | type[ZipCollection]:
    """Look at a file's first bytes; raises ConfigError where it is no archive that can be read."""
    try:
        with path.open("rb") as file:
            start = file.read(_TAR_BLOCK)
    except FileNotFoundError:
        raise ConfigError(f"data.source.path: no file {path} (seen from {Path.cwd()})") from None
    except IsADirectoryError:
        raise ConfigError(
            f"data.source.path: {path} is a folder; take data.source.name=folder for it"
        ) from None
    except OSError as error:
        raise ConfigError(f"data.source.path: cannot read {path}: {error.strerror}") from error
    for signature, name in _COMPRESSED.items():
        if start.startswith(signature):
            raise ConfigError(
                f"data.source.path: {path} is compressed as a whole ({name}), single pictures in it"
                " cannot be reached; unpack it and take data.source.name=folder, or store the "
                "pictures in a zip or an uncompressed tar"
            )
    if start[257:262] == b"ustar":
        return TarCollection
    if zipfile.is_zipfile(path):
        return ZipCollection
    if start.startswith(b"PK\3\4"):
        raise ConfigError(
            f"data.source.path: {path} is a zip without the table of contents at its end: it is "
            "truncated, copy or download it again"
        )
    if tarfile.is_tarfile(path):  # of the time before `ustar`
        return TarCollection
    raise ConfigError(f"data.source.path: {path} is neither a zip nor a tar")


def _read_zip(path: Path) -> _Contents:
    members: list[Member] = []
    folders: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = _plain(info.filename.replace("\\", "/"))  # as some programs for Windows write it
            if info.is_dir() or name.endswith("/"):
                folders.add(name.rstrip("/"))
                continue
            member = Member(
                name,
                info.header_offset,
                info.compress_size,
                info.file_size,
                info.CRC,
                info.compress_type,
            )
            members.append(member._replace(refusal=_zip_refusal(info, member)))
    return _Contents(members, folders)


def _zip_refusal(info: zipfile.ZipInfo, member: Member) -> str:
    if info.flag_bits & 1:
        return "is encrypted: unpack the zip with its password"
    if info.external_attr >> 28 == 0xA:  # how Unix writes a link's kind
        return "is a link, which is not followed in a zip"
    if member.method not in (_STORED, _DEFLATED):
        return f"is compressed by method {member.method}; only stored and deflated files are read"
    if member.method == _STORED and member.length != member.size:
        return f"is stored, but {member.length} bytes are declared as {member.size}"
    return _refusal(member)


def _refusal(member: Member) -> str:
    if _points_outside(member.name):
        return "its path points outside of the archive"
    size = max(member.length, member.size)
    if size > MAX_MEMBER_BYTES:
        return f"{size} bytes are declared, at most {MAX_MEMBER_BYTES} are read"
    if min(member.offset, member.length, member.size) < 0:
        return f"{member.size} bytes at byte {member.offset} are declared: the archive is damaged"
    return ""


def _read_tar(path: Path) -> _Contents:
    members: list[Member] = []
    folders: set[str] = set()
    links: list[tuple[str, str]] = []
    with tarfile.open(path, "r:") as archive:
        while (info := archive.next()) is not None:
            # Kept by tarfile: gigabytes for millions of pictures.
            archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
            name = _plain(info.name)
            if info.isdir():
                folders.add(name)
            elif info.islnk():
                links.append((name, _plain(info.linkname)))
            elif info.issym():
                links.append((name, _joined(name, info.linkname)))
            elif info.isfile():
                members.append(_tar_member(name, info))
        end = archive.offset
    with path.open("rb") as file:
        file.seek(end)
        if file.read(_TAR_BLOCK) != bytes(_TAR_BLOCK):  # tarfile takes any damage for the end
            raise tarfile.ReadError(f"neither a file nor the end of the tar begins at byte {end}")
    return _Contents([*members, *_linked(members, dict(links))], folders)


def _tar_member(name: str, info: tarfile.TarInfo) -> Member:
    member = Member(name, info.offset_data, info.size, info.size, int(info.mtime))
    if info.issparse():
        return member._replace(refusal="is stored with holes (a sparse file): pack it without")
    return member._replace(refusal=_refusal(member))


def _linked(members: list[Member], links: dict[str, str]) -> Iterator[Member]:
    """Give each link the bytes of the file it leads to."""
    files = {member.name: member for member in members}
    for name, target in links.items():
        nothing = Member(name, 0, 0, 0, 0)
        for _ in range(_MOST_LINKS):
            if target not in files:
                target = links.get(target, target)
        if _points_outside(name):
            yield nothing._replace(refusal="its path points outside of the archive")
        elif _points_outside(target):
            yield nothing._replace(refusal=f"is a link that points outside of it, to {target}")
        elif target not in files:
            yield nothing._replace(refusal=f"is a link to {target}, which is no file in it")
        else:
            yield files[target]._replace(name=name)


def _joined(name: str, target: str) -> str:
    """Return where a symbolic link leads to, from the archive's root; it begins with `..` or `/`
    where that is outside."""
    if target.startswith("/"):
        return target
    parts: list[str] = []
    for part in (*name.split("/")[:-1], *target.split("/")):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _plain(name: str) -> str:
    while name.startswith("./"):
        name = name[2:]
    return name


def _points_outside(name: str) -> bool:
    """Tell whether a path is absolute, has a drive's letter, or goes up."""
    return name.startswith("/") or name[1:2] == ":" or ".." in name.split("/")


def _is_picture(name: str) -> bool:
    *folders, file = name.split("/")
    hidden = any(p == "__MACOSX" or (p.startswith(".") and p != "..") for p in folders)
    return is_picture_name(file) and not hidden


def _folders_below(above: str, contents: _Contents) -> Iterable[str]:
    """List the names of the folders in a folder, which is "" or ends in a slash."""
    paths = (*(f"{folder}/" for folder in contents.folders), *(m.name for m in contents.members))
    below = (path.removeprefix(above) for path in paths if path.startswith(above))
    return {path.split("/", 1)[0] for path in below if "/" in path}
