"""Which code runs: git's commit, what was changed since, and the installed distributions."""

import hashlib
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from colorization.passwords import without_secrets

_LONGEST_DIFF = 1_000_000  # characters
_MOST_UNTRACKED = 100
_LIBRARY = Path(__file__).with_name("__init__.py")


@dataclass(frozen=True)
class CodeVersion:
    """A checkout as git knows it."""

    commit: str
    diff: str  # of tracked files against the commit, secrets masked; "" where none is changed
    diff_hash: str  # of the whole diff, which may be longer; "" without one
    untracked: tuple[str, ...]  # files that are not in git and not ignored either

    @property
    def changed(self) -> bool:
        """Whether the code is any other than the commit's."""
        return bool(self.diff or self.untracked)


@cache
def code_version(file: Path = _LIBRARY) -> CodeVersion | None:
    """Return the version of the checkout that a file is in, as it was when first asked.

    None where the file is in no commit, as an installed library's, or where there is no git.
    """
    folder = file.parent
    # An environment inside somebody else's checkout is none of its code.
    if _git(folder, "ls-files", "--error-unmatch", file.name) is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    root = _git(folder, "rev-parse", "--show-toplevel")
    if commit is None or root is None:
        return None
    top = Path(root.strip())
    diff = _git(top, "diff", "HEAD", "--no-color", "--no-ext-diff") or ""
    others = (_git(top, "ls-files", "--others", "--exclude-standard") or "").splitlines()
    return CodeVersion(
        commit.strip(),
        without_secrets(_shortened(diff)),
        hashlib.sha256(diff.encode()).hexdigest()[:12] if diff else "",
        tuple(others[:_MOST_UNTRACKED]),
    )


@cache
def library_hash() -> str:
    """Return a hash of the library's own files, for a copy that git knows nothing of.

    The machines of a cluster have the project without its history.
    """
    digest = hashlib.sha256()
    for file in sorted(_LIBRARY.parent.rglob("*")):
        if file.suffix in (".py", ".yaml"):
            digest.update(f"{file.relative_to(_LIBRARY.parent)}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


@cache
def installed() -> dict[str, str]:
    """Return the version of each installed distribution, by name; half a second when first asked.

    Of two with the same name the first counts, which is the one that is imported.
    """
    found: dict[str, str] = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if name:  # None: the remains of an uninstalled one
            found.setdefault(name.lower().replace("_", "-"), distribution.version)
    return dict(sorted(found.items()))


def _shortened(diff: str) -> str:
    left = len(diff) - _LONGEST_DIFF
    return diff if left <= 0 else f"{diff[:_LONGEST_DIFF]}\n# {left} more characters are left out\n"


def _git(folder: Path, *arguments: str) -> str | None:
    """Ask git; None where it has no answer or is not there."""
    command = ["git", "-C", str(folder), *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # others may work in the checkout
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
            timeout=10,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
