import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from colorization import code_version as module
from colorization.code_version import code_version, installed


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A repository of one file; what was asked before is forgotten."""
    code_version.cache_clear()
    file = tmp_path / "repository" / "code.py"
    file.parent.mkdir()
    file.write_text("a = 1\n")
    git(file, "init", "-q")
    git(file, "add", "code.py")
    git(file, "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "first")
    yield file
    code_version.cache_clear()


def git(file: Path, *arguments: str) -> str:
    command = ["git", "-C", str(file.parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    found = code_version(checkout)
    assert found is not None
    assert found.commit == git(checkout, "rev-parse", "HEAD")
    assert not found.changed
    assert (found.diff, found.diff_hash, found.untracked) == ("", "", ())


def test_what_is_changed_staged_and_new_is_told(checkout: Path) -> None:
    checkout.write_text("a = 2\nserver = 'http://me:pass@host'\nTOKEN = 'pass'\n")
    (checkout.parent / "new.py").write_text("b = 1\n")
    found = code_version(checkout)
    assert found is not None
    assert found.changed
    assert "-a = 1\n+a = 2\n" in found.diff
    assert found.untracked == ("new.py",)
    assert "me:***@host" in found.diff
    assert "+TOKEN = '***'\n" in found.diff
    assert "pass" not in found.diff


def test_a_long_diff_is_shortened_and_its_hash_is_of_all_of_it(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST_DIFF", 200)
    found = []
    for last in "xy":
        checkout.write_text("line\n" * 1000 + last)
        code_version.cache_clear()
        found.append(code_version(checkout))
    first, second = found
    assert len(first.diff) < 300
    assert first.diff.endswith("more characters are left out\n")
    assert first.diff_hash != second.diff_hash


def test_a_library_inside_somebody_elses_checkout_has_no_version(checkout: Path) -> None:
    library = checkout.parent / "site-packages" / "library.py"
    library.parent.mkdir()
    library.write_text("")
    assert code_version(library) is None


def test_the_version_stays_what_it_was_when_the_code_was_loaded(checkout: Path) -> None:
    before = code_version(checkout)
    checkout.write_text("a = 3\n")
    assert code_version(checkout) is before


def test_installed_distributions_have_their_versions() -> None:
    assert installed()["torch"] == version("torch")
    assert list(installed()) == sorted(installed())
