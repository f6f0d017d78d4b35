"""Serve the MLflow page of what tune.py and train.py wrote, on this machine only."""

import argparse
import os
import subprocess
import sys

from colorization.config import ConfigError
from mlflow_store import default_tracking_uri
from storage import storage_folder


def main() -> int:
    """Start MLflow's server; return its exit status."""
    parser = argparse.ArgumentParser(prog="ui.py", description=__doc__)
    parser.add_argument("--storage", help="where tune.py wrote (runs/ of the project)")
    parser.add_argument("--port", type=int, default=5000)
    options = parser.parse_args()
    try:
        uri = default_tracking_uri(storage_folder(options.storage))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if not uri.startswith("sqlite:"):
        print(f"MLFLOW_TRACKING_URI is set: open {uri} in a browser")
        return 0
    print(f"MLflow on http://127.0.0.1:{options.port} (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", str(options.port), "--workers", "1"]
    # Its executor of jobs for language models would be processes that nothing here needs.
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment = {**os.environ, **quiet}
    try:
        return subprocess.run(command, env=environment, check=False).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
