"""Commands run as a person types them, in surroundings of their own, and what they leave behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow_store import default_tracking_uri

# isort: split
import matplotlib
import optuna
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Place:
    """Where commands run: an empty home, an empty current folder, a storage, Ray's own files."""

    folder: Path
    ray: Path

    @property
    def storage(self) -> Path:
        """Return the folder that a command is told to write into."""
        return self.folder / "storage"

    def environment(self, changes: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a command: none of this process's cluster or MLflow server."""
        inherited = {
            key: value
            for key, value in os.environ.items()
            if key not in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")
        }
        own = {
            "HOME": str(self.folder / "home"),
            "RAY_TMPDIR": str(self.ray),
            "MPLCONFIGDIR": matplotlib.get_configdir(),  # else its list of fonts is made anew
        }
        return {**inherited, **own, **(changes or {})}

    def start(
        self,
        script: str,
        *arguments: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a script of ray_jobs/ in a process group of its own, its outputs in one pipe."""
        return subprocess.Popen(
            [sys.executable, "-u", ROOT / "ray_jobs" / script, *arguments],
            cwd=cwd or self.folder / "here",
            env=self.environment(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        script: str,
        *arguments: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> "Done":
        """Run a script to its end."""
        process = self.start(script, *arguments, cwd=cwd, env=env)
        try:
            output, _ = process.communicate(timeout=600)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return Done(process.returncode, output)

    def strays(self) -> list[Path]:
        """List what was written into the home and the current folder; Ray keeps a token there."""
        found = [*(self.folder / "home").rglob("*"), *(self.folder / "here").rglob("*")]
        return [path for path in found if ".ray" not in path.parts]

    def trials(self, study: str) -> list[FrozenTrial]:
        """Read a study's trials as Optuna has them."""
        journal = self.storage / "studies" / study / "optuna.journal"
        storage = JournalStorage(JournalFileBackend(str(journal)))
        return optuna.load_study(study_name=study, storage=storage).trials

    def client(self) -> MlflowClient:
        """Return a client of the MLflow store that lies in the storage."""
        return MlflowClient(default_tracking_uri(self.storage))

    def runs(self, study: str) -> tuple[Run, dict[int, Run]]:
        """Return a study's run and those of its trials."""
        client = self.client()
        experiment = client.get_experiment_by_name("colorization")
        assert experiment is not None
        found = client.search_runs(
            [experiment.experiment_id], f"tags.`colorization.study` = '{study}'"
        )
        parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
        children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
        assert len(parents) == 1
        by_number = {int(run.data.tags["trial"]): run for run in children}
        assert len(by_number) == len(children), "a trial has two runs"
        return parents[0], by_number

    def steps(self, run: Run, metric: str) -> list[int]:
        """List the steps at which a run has a metric, each as often as it was logged."""
        history = self.client().get_metric_history(run.info.run_id, metric)
        return sorted(point.step for point in history)

    def processes(self) -> dict[int, str]:
        """Return the living processes that were started from this place, with their titles."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if f"RAY_TMPDIR={self.ray}\0".encode() in (entry / "environ").read_bytes():
                    title = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry.name)] = title.decode(errors="replace")
            except OSError:  # it ended meanwhile
                continue
        return found


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    output: str


@contextmanager
def new_place(folder: Path) -> Iterator[Place]:
    """Make surroundings in a folder; Ray's files, whose paths must be short, elsewhere."""
    (folder / "home").mkdir(parents=True)
    (folder / "here").mkdir()
    place = Place(folder, Path(tempfile.mkdtemp(prefix="ray-")))
    try:
        yield place
    finally:
        for pid in place.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(place.ray, ignore_errors=True)
