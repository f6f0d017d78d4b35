"""Where a study and its runs are written."""

from pathlib import Path

from colorization.config import ConfigError

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = ROOT / "runs"


def storage_folder(given: str | None) -> Path:
    """Return where everything is written: `--storage`, else `runs/` at the project's root.

    Raises ConfigError for an address that is no folder.
    """
    if given is None:
        return DEFAULT
    if given.startswith("file://"):
        given = given.removeprefix("file://")
    if "://" in given:
        raise ConfigError(
            f"--storage: found {given}; a directory is needed, on a cluster one that all its "
            "machines share (NFS, or a bucket mounted as one)"
        )
    return Path(given).expanduser().absolute()


def trial_folder(study: Path, number: int) -> Path:
    """Return the directory of a trial: all about it hangs on its number in the study."""
    return study / f"trial-{number:04d}"
