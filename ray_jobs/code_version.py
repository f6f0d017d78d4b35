"""Which code computed something: commit, whether files differ from it, library version."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def code_version() -> dict[str, str]:
    """Return `code.commit`, `code.changed` (true or false) and `code.version`, as far as known."""
    found = {}
    if commit := _git("rev-parse", "HEAD"):
        found["code.commit"] = commit
        found["code.changed"] = str(bool(_git("status", "--porcelain"))).lower()
    try:
        found["code.version"] = version("colorization")
    except PackageNotFoundError:  # run from a folder, never installed
        found["code.version"] = "not installed"
    return found


def _git(*arguments: str) -> str | None:
    """Ask git about the project's checkout; None outside of one or where there is no git."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
