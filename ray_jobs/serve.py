"""Serve a model over HTTP, and a page to drop photographs on: ray_jobs/serve.py --model MODEL."""

import argparse
import sys
from collections.abc import Sequence

from command_line import run_with_errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM; return 0, 2 for wrong words."""
    parser = argparse.ArgumentParser(prog="serve.py", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--model",
        required=True,
        help="models:/NAME@ALIAS, which is followed when it moves, models:/NAME/VERSION, or the "
        "directory of a run or an export",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="(8000)")
    parser.add_argument("--storage", help="where tune.py wrote (runs/ of the project)")
    parser.add_argument(
        "--tracking-uri", help="MLflow's address (MLFLOW_TRACKING_URI, else the storage's database)"
    )
    processes = parser.add_argument_group("processes that color")
    processes.add_argument("--replicas", type=int, help="(one a GPU; without GPUs 2)")
    processes.add_argument(
        "--gpus-per-replica", type=float, help="may be a fraction (1 where there are GPUs, else 0)"
    )
    processes.add_argument("--batch", type=int, default=1, help="pictures at once (1)")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-megabytes", type=float, default=50, help="of a request (50)")
    limits.add_argument(
        "--max-megapixels", type=float, default=100, help="of a picture, times its samples (100)"
    )
    limits.add_argument("--max-waiting", type=int, default=32, help="requests at once (32)")
    limits.add_argument(
        "--timeout", type=float, default=120, help="seconds of coloring, wait included (120)"
    )
    limits.add_argument(
        "--upload-timeout", type=float, default=30, help="seconds of a slow upload (30)"
    )
    options = parser.parse_args(arguments)
    return run_with_errors(lambda: _serve(options))


_BOUNDS = {
    "port": (1, 65535),
    "replicas": (1, 1000),
    "gpus_per_replica": (0, 1000),
    "batch": (1, 256),
    "max_megabytes": (0.001, 2000),
    "max_megapixels": (0.001, 250),
    "max_waiting": (1, 10_000),
    "timeout": (0.1, 86_400),
    "upload_timeout": (0.1, 86_400),
}


def _serve(options: argparse.Namespace) -> int:
    from colorization.config import ConfigError

    for flag, (least, most) in _BOUNDS.items():
        value = getattr(options, flag)
        if value is not None and not least <= value <= most:
            word = f"--{flag.replace('_', '-')}"
            raise ConfigError(f"{word}: found {value:g}; {least:g} to {most:g} is possible")
    from mlflow_store import default_tracking_uri
    from serving import ServingJob, serve_model
    from storage import storage_folder
    from web_limits import Limits

    uri = options.tracking_uri or default_tracking_uri(storage_folder(options.storage))
    return serve_model(
        ServingJob(
            model=options.model,
            tracking_uri=uri,
            host=options.host,
            port=options.port,
            replicas=options.replicas,
            gpus=options.gpus_per_replica,
            batch=options.batch,
            limits=Limits(
                megabytes=options.max_megabytes,
                megapixels=options.max_megapixels,
                waiting=options.max_waiting,
                seconds=options.timeout,
                upload_seconds=options.upload_timeout,
            ),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
