"""The rules that keep the library a library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import colorization

LIBRARY = Path(next(iter(colorization.__path__)))
MODULES = sorted(LIBRARY.rglob("*.py"))
CLUSTER = {"ray", "mlflow", "optuna"}


def name(path: Path) -> str:
    return str(path.relative_to(LIBRARY))


def imports(path: Path) -> set[str]:
    """Return the dotted names a file imports, at its top and inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_there_are_modules_to_look_at() -> None:
    assert {"training.py", "models/gan.py"} <= {name(path) for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_the_library_imports_nothing_of_the_cluster(path: Path) -> None:
    assert not {imported.split(".")[0] for imported in imports(path)} & {*CLUSTER, "ray_jobs"}


@pytest.mark.parametrize("path", sorted((LIBRARY / "models").rglob("*.py")), ids=name)
def test_models_know_nothing_of_data_training_and_scores(path: Path) -> None:
    above = ("data", "training", "stage", "metrics", "evaluation", "experiment", "checkpoint")
    forbidden = tuple(f"colorization.{module}" for module in above)
    assert not [i for i in imports(path) if i.startswith(forbidden)]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_no_grab_bag_and_holds_one_idea(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "misc", "common"}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_pickles_are_loaded_without_running_code(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        loads = called in {"torch.load", "torch.hub.load_state_dict_from_url"}
        if loads or called.endswith(".get_state_dict"):
            safe = {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only")
            assert safe == "True", f"{name(path)}:{node.lineno}"
        assert called.split(".")[0] not in {"pickle", "exec", "eval"}, f"{name(path)}:{node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_error_is_caught_namelessly(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{name(path)}:{node.lineno}"
            silent = all(isinstance(line, ast.Pass) for line in node.body)
            assert not silent, f"{name(path)}:{node.lineno}"


def test_training_can_be_imported_where_ray_mlflow_and_optuna_are_missing() -> None:
    block = "".join(f"sys.modules[{module!r}] = None; " for module in sorted(CLUSTER))
    code = f"import sys; {block}import colorization.training, colorization.inference"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
