"""Make a version the champion if it is better: python ray_jobs/promote.py colorizer-gan 5."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from command_line import run_with_errors, split_settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from rich.console import Console

    from promotion import Decision


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 where the version is the champion now, 1 where the gate refused, 2 for errors."""
    parser = argparse.ArgumentParser(prog="promote.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("words", nargs="*", metavar="MODEL [VERSION] [data.*=...]")
    parser.add_argument(
        "--policy",
        choices=["if-better", "always", "never"],
        default="if-better",
        help="when it becomes the champion; never: only score and say (if-better)",
    )
    parser.add_argument(
        "--margin", type=float, help="share of the champion's score by which it must win (0.01)"
    )
    parser.add_argument(
        "--split",
        choices=["validation", "test"],
        default="test",
        help="which pictures both are scored on (test)",
    )
    parser.add_argument("--why", default="", help="a reason, for the history")
    parser.add_argument(
        "--rollback", action="store_true", help="make the champion before today's it again"
    )
    parser.add_argument("--history", action="store_true", help="print all moves of the champion")
    parser.add_argument("--storage", help="where tune.py wrote (runs/ of the project)")
    parser.add_argument(
        "--tracking-uri", help="MLflow's address (MLFLOW_TRACKING_URI, else the storage's database)"
    )
    options = parser.parse_intermixed_args(arguments)
    return run_with_errors(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    from colorization.config import ConfigError
    from mlflow_store import default_tracking_uri, prepare, without_password
    from storage import storage_folder

    # isort: split
    from mlflow import MlflowClient, MlflowException

    names, settings = split_settings(options.words)
    wanted = 1 if options.history or options.rollback else 2
    if len(names) != wanted or (settings and wanted == 1):
        form = "MODEL" if wanted == 1 else "MODEL VERSION [data.*=...]"
        raise ConfigError(f"promote.py: found {' '.join(options.words) or 'nothing'}; give {form}")
    if options.history and options.rollback:
        raise ConfigError("--history and --rollback: one of them")
    if options.margin is not None and not 0 <= options.margin < 1:
        raise ConfigError(f"--margin: found {options.margin:g}; a share of 0 at least, below 1")
    uri = options.tracking_uri or default_tracking_uri(storage_folder(options.storage))
    if trouble := prepare(uri):
        raise ConfigError(f"MLflow at {without_password(uri)} cannot be used now: {trouble}")
    client = MlflowClient(uri)
    try:
        _require(client, uri, *names)
        if options.history:
            return _print_history(client, names[0])
        if options.rollback:
            return _roll_back(client, names[0], options.why)
        model, version = names
        return _promote(client, uri, model, version, settings, options)
    except MlflowException as error:
        told = without_password(" ".join(str(error).split())[:500])
        raise ConfigError(f"MLflow at {without_password(uri)}: {told}") from error


def _require(client: "MlflowClient", uri: str, model: str, version: str | None = None) -> None:
    """Raise ConfigError with what there is, where there is no such model or version."""
    from colorization.config import ConfigError
    from mlflow_store import without_password

    # isort: split
    from mlflow import MlflowException

    try:
        client.get_registered_model(model)
        if version is not None and version.isdigit():
            client.get_model_version(model, version)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    else:
        if version is None or version.isdigit():
            return
    found = client.search_model_versions(f"name = '{model}'")
    if found:
        numbers = ", ".join(sorted((str(v.version) for v in found), key=int))
        raise ConfigError(f"VERSION: found {version!r}; {model} has {numbers}")
    models = ", ".join(m.name for m in client.search_registered_models())
    raise ConfigError(
        f"MODEL: found {model!r}; at {without_password(uri)} there is {models or 'none'}"
    )


def _promote(
    client: "MlflowClient",
    uri: str,
    model: str,
    version: str,
    settings: Sequence[str],
    options: argparse.Namespace,
) -> int:
    from rich.console import Console

    from colorization import config
    from colorization.config import ConfigError
    from colorization.data import open_data
    from colorization.experiment import Experiment
    from promotion import MARGIN, Scoring, promote
    from registry import experiment_of, rescore

    changes = config.parse_overrides(settings)
    if others := [key for key in changes if not key.startswith("data.")]:
        raise ConfigError(f"{', '.join(others)}: a registered model cannot change; data.* may")
    trained = experiment_of(f"models:/{model}/{version}", uri)
    experiment = config.parse(Experiment, config.override(config.dump(trained), changes))
    sets = open_data(experiment.data)
    console = Console(highlight=False, soft_wrap=True)
    known = client.get_model_version(model, version).tags.get("data.hash", sets.fingerprint)
    if known != sets.fingerprint:
        console.print(
            f"warning: this data has the hash {sets.fingerprint}, version {version} was trained on "
            f"{known}: {options.split} pictures may be among those it was trained on",
            style="yellow",
        )
    pictures = sets.test if options.split == "test" else sets.validation
    scoring = Scoring(
        lambda loaded: rescore(loaded, experiment, pictures), sets.fingerprint, options.split
    )
    decision = promote(
        model,
        version,
        options.policy,
        scoring,
        tracking_uri=uri,
        margin=MARGIN if options.margin is None else options.margin,
        why=options.why,
        say=lambda message: console.print(message, markup=False),
    )
    _print_scores(console, version, options.split, decision)
    alias = "is the champion" if decision.promoted else "is not the champion"
    console.print(f"{model} version {version} {alias}: {decision.reason}", markup=False)
    return 0 if decision.promoted else 1


def _print_scores(console: "Console", version: str, split: str, decision: "Decision") -> None:
    from rich import box
    from rich.table import Table

    from colorization.paired_scores import compare

    challenger, champion = decision.challenger, decision.champion
    both = champion is not None and decision.champion_version != version
    title = f"{len(challenger.pictures)} {split} pictures"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("score")
    for heading in [
        f"version {version}",
        *([f"champion {decision.champion_version}", "difference", "95% interval"] if both else []),
        "gray",
    ]:
        table.add_column(heading, justify="right", no_wrap=True)
    for name in ("against_gray", "ab_mae", "ab_jsd"):
        cells = [f"{challenger.scores[name]:.4f}"]
        if champion is not None and both:
            off = compare(challenger.pictures, champion.pictures, challenger.gray_pictures, name)
            cells.append(f"{champion.scores[name]:.4f}")
            cells += [f"{off.mean:+.4f}", f"{off.low:+.4f} to {off.high:+.4f}"]
        gray = 1.0 if name == "against_gray" else challenger.gray[name]
        table.add_row(name, *cells, f"{gray:.4f}")
    console.print(table)


def _roll_back(client: "MlflowClient", model: str, why: str) -> int:
    from champion import roll_back

    move = roll_back(client, model, why or "rolled back", print)
    print(f"{model}: the champion is version {move.after} again, after version {move.before}")
    return 0


def _print_history(client: "MlflowClient", model: str) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from champion import Champion

    champion = Champion(client, model)
    moves, version = champion.moves, champion.version
    console = Console(highlight=False)
    table = Table(title=f"{model}: moves of the champion", title_justify="left")
    for heading in ("", "UTC", "from", "to", "policy", "who", "why"):
        table.add_column(heading, overflow="fold")
    for move in moves:
        policy = move.policy if move.state == "done" else f"{move.policy} ({move.state})"
        cells = (str(move.number), move.time.rstrip("Z").replace("T", " "), move.before or "-")
        cells += (move.after or "-", policy, move.who, move.why)
        table.add_row(*map(Text, cells))
    console.print(table)
    print(f"the champion is {f'version {version}' if version else 'none'}")
    done = [move.after for move in moves if move.state == "done"]
    if done and done[-1] != version:
        print("it was moved without these jobs since: the next move writes that down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
