import os
import subprocess
import sys
from pathlib import Path

import pytest

from colorization.__main__ import main
from colorization.doctor import explain, missing_libraries

NO_LIBGL = "libGL.so.1: cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    ("library", "debian", "fedora"),
    [
        ("libGL.so.1", "libgl1", "mesa-libGL"),
        ("libgthread-2.0.so.0", "libglib2.0-0", "glib2"),
        ("libgomp.so.1", "libgomp1", "libgomp"),
    ],
)
def test_a_missing_library_is_explained_with_the_packages_that_bring_it(
    library: str, debian: str, fedora: str
) -> None:
    error = f"{library}: cannot open shared object file: No such file or directory"
    told = explain("cv2", error)
    assert told.startswith(f"cv2 needs {library}: ")
    assert f"apt-get install {debian} " in told
    assert f"dnf install {fedora} " in told


def test_a_library_of_an_unknown_package_is_named_all_the_same() -> None:
    error = "libfoo.so.3: cannot open shared object file: No such file or directory"
    assert "cv2 needs the system library libfoo.so.3" in explain("cv2", error)


def test_what_is_wrong_otherwise_is_repeated() -> None:
    assert explain("cv2", "numpy is too old") == "cv2 cannot be imported: numpy is too old"


def test_what_can_be_imported_is_no_fault() -> None:
    assert missing_libraries(["json", "cv2"]) == []
    assert missing_libraries(["json", "no_such_module_anywhere"]) == [
        "no_such_module_anywhere cannot be imported: No module named 'no_such_module_anywhere'"
    ]


def test_a_sound_machine_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", [["doctor"], ["train", "resnet_gan"]])
def test_every_command_ends_with_the_package_where_a_library_is_missing(
    command: list[str], tmp_path: Path
) -> None:
    (tmp_path / "cv2.py").write_text(f"raise ImportError({NO_LIBGL!r})")
    # Torch is not this test's affair, and takes seconds.
    for module in ("torch", "torchvision"):
        (tmp_path / f"{module}.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "colorization", *command],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == explain("cv2", NO_LIBGL)
    assert "libgl1" in done.stderr
