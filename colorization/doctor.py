"""Checks that what the wheels need of the system is there, and says which package brings it."""

import importlib
import re
from collections.abc import Sequence

# Shared libraries that wheels expect of the system; who brings them in Debian and in Fedora.
_PACKAGES = {
    "libGL.so": ("libgl1", "mesa-libGL"),
    "libgthread-2.0.so": ("libglib2.0-0", "glib2"),
    "libglib-2.0.so": ("libglib2.0-0", "glib2"),
    "libgomp.so": ("libgomp1", "libgomp"),
    "libxcb.so": ("libxcb1", "libxcb"),
}


def missing_libraries(modules: Sequence[str] = ("cv2",)) -> list[str]:
    """Import what rests on system libraries; return a sentence for each that cannot be."""
    faults: list[str] = []
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            faults.append(explain(module, str(error)))
    return faults


def explain(module: str, error: str) -> str:
    """Turn an import error into what is to be installed.

    "libGL.so.1: cannot open shared object file" becomes "cv2 needs libGL.so.1: apt-get install
    libgl1 (Debian, Ubuntu) or dnf install mesa-libGL (Fedora)".
    """
    found = re.match(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object", error)
    if found is None:
        return f"{module} cannot be imported: {error}"
    library = found.group(1)
    for known, (debian, fedora) in _PACKAGES.items():
        if library.startswith(known):
            return (
                f"{module} needs {library}: apt-get install {debian} (Debian, Ubuntu) "
                f"or dnf install {fedora} (Fedora)"
            )
    return f"{module} needs the system library {library}: install the package that holds it"
