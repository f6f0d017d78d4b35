import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import yaml

from colorization import checkpoint
from colorization.__main__ import main
from colorization.config import dump, to_yaml
from colorization.experiment import Experiment
from colorization.export import export
from colorization.training import Report, fit, read_history
from tiny_experiment import TINY
from written_pictures import write_pictures

Make = Callable[..., Experiment]
Out = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def fault(words: Sequence[str | Path], capsys: Out) -> str:
    """Run a command that is refused; return its message, all that it says."""
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert said.err.count("\n") == 1
    return said.err


# wrong settings


def test_an_unknown_recipe_is_answered_with_the_known_ones(capsys: Out) -> None:
    message = fault(["train", "resnet_gna"], capsys)
    assert "'resnet_gna' is neither a recipe nor a file" in message
    assert "resnet_gan" in message


@pytest.mark.parametrize("command", ["train", "show"])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.lamda_l1=3", "model.lamda_l1: unknown setting; did you mean 'lambda_l1'?"),
        ("train.batch_size=0", "train.batch_size: found 0; input should be greater than or equal"),
        ("model.name=gna", "model.name: found 'gna'; did you mean 'gan'?"),
        ("train.stages.adversarial.freeze=[generator.encodr]", "no part 'generator.encodr'"),
        ("data.size=50", "the nearest is"),
        ("data.source=3", "data.source"),
        ("train.batch_size={", "train.batch_size: cannot read the value '{'"),
    ],
)
def test_a_wrong_setting_is_named(
    command: str, setting: str, message: str, file: Path, capsys: Out
) -> None:
    if setting.endswith("{"):
        assert main([command, str(file), setting]) == 2
        assert message in capsys.readouterr().err
    else:
        assert message in fault([command, file, setting], capsys)
    assert not (file.parent / "runs").exists()


def test_what_is_no_experiment_is_refused(tmp_path: Path, capsys: Out) -> None:
    contents = {
        "a_list.yaml": ("[1, 2]", "holds list"),
        "empty.yaml": ("", "holds NoneType"),
        "a_folder": (None, "Is a directory"),
        "binary.yaml": (b"\xff\xfe\x00\x80", "cannot read"),
    }
    for name, (text, message) in contents.items():
        path = tmp_path / name
        if text is None:
            path.mkdir()
        else:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        for command in ("train", "show"):
            said = fault([command, path], capsys)
            assert str(path) in said
            assert message in said
    (tmp_path / "torn.yaml").write_text("data: {source: [\nmodel:")
    assert main(["train", str(tmp_path / "torn.yaml")]) == 2
    assert f"{tmp_path / 'torn.yaml'} is not YAML" in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path: Path, capsys: Out) -> None:
    assert "nothing.yaml" in fault(["train", tmp_path / "nothing.yaml"], capsys)
    message = fault(["colorize", tmp_path / "run", tmp_path, "-o", tmp_path / "out"], capsys)
    assert f"{tmp_path / 'run'} is no directory of a run" in message


def test_a_folder_of_pictures_that_is_not_there_or_empty_is_named(
    file: Path, tmp_path: Path, capsys: Out
) -> None:
    (tmp_path / "empty").mkdir()
    for folder, message in (("missing", "no folder"), ("empty", "no pictures in")):
        source = f"data.source={{name: folder, path: {tmp_path / folder}}}"
        assert main(["train", str(file), source, "--run-dir", str(tmp_path / "run")]) == 2
        said = capsys.readouterr().err
        assert f"{message} {tmp_path / folder}" in said
        assert said.count("\n") == 1


def test_a_directory_of_another_experiment_is_refused(
    tiny: Make, file: Path, tmp_path: Path, capsys: Out
) -> None:
    checkpoint.write_experiment(tmp_path / "run", tiny())
    checkpoint.save(tmp_path / "run", {"epoch": 1, "best_epoch": None}, keep=2)
    words = ["train", str(file), "model.lambda_l1=5", "--run-dir", str(tmp_path / "run")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "model.lambda_l1: 100.0 there, 5.0 here" in said
    assert said.count("\n") == 1


def test_a_setting_put_right_needs_no_other_directory(file: Path, tmp_path: Path) -> None:
    stages = "train.stages={a: {turns: l1, epochs: 1}}"
    words = ["train", str(file), stages, "--run-dir", str(tmp_path / "run")]
    assert main([*words, "train.batch_size=17"]) == 2
    assert main([*words, "train.batch_size=16"]) == 0


@pytest.mark.parametrize("words", [["evaluate"], ["colorize", ".", "-o", "out"]])
def test_a_directory_without_a_checkpoint_is_refused(
    words: list[str], tiny: Make, tmp_path: Path, capsys: Out
) -> None:
    checkpoint.write_experiment(tmp_path, tiny())
    assert "holds no checkpoint" in fault([words[0], tmp_path, *words[1:]], capsys)


def test_evaluate_warns_in_a_line_where_the_data_is_not_what_was_trained_on(
    tmp_path: Path, capsys: Out
) -> None:
    write_pictures(tmp_path / "photos", 40)
    settings = yaml.safe_load(TINY)
    settings["data"]["source"] = {"name": "folder", "path": str(tmp_path / "photos")}
    settings["train"]["stages"] = {"l1": {"turns": "l1", "epochs": 1}}
    file = tmp_path / "photos.yaml"
    file.write_text(yaml.safe_dump(settings))
    run = tmp_path / "run"
    assert main(["train", str(file), "--run-dir", str(run)]) == 0
    folders = [run, export(run, tmp_path / "exported")]
    for changed in (False, True):
        if changed:
            write_pictures(tmp_path / "photos", 1, seed=1)
        for folder in folders:
            capsys.readouterr()
            assert main(["evaluate", str(folder), "--split", "test"]) == 0
            lines = capsys.readouterr().out.splitlines()
            warnings = [line for line in lines if line.startswith("warning: ")]
            assert len(warnings) == changed
            assert not changed or f"{folder} was trained on" in warnings[0]


def test_a_place_that_cannot_be_written_is_named(file: Path, capsys: Out) -> None:
    run = file / "run"  # below a file: nobody may write there
    assert main(["train", str(file), "--run-dir", str(run)]) == 2
    said = capsys.readouterr().err
    assert str(run) in said
    assert said.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_directory_that_may_not_be_written_is_named(
    file: Path, tmp_path: Path, capsys: Out
) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    assert main(["train", str(file), "--run-dir", str(tmp_path / "closed" / "run")]) == 2
    assert "Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["train", "resnet_gan", "--bogus"],
        ["train", "resnet_gan", "--run-dir", "x", "no-setting"],
        ["colorize", "run", "pictures", "-o", "out", "data.size=64"],
        ["evaluate", "run", "--split", "train"],
        ["paint"],
        [],
    ],
)
def test_words_that_mean_nothing_are_answered_with_the_usage(words: list[str], capsys: Out) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: python -m colorization" in capsys.readouterr().err


# failures on the way


def test_a_run_that_diverges_ends_with_1_and_says_where(
    tiny: Make, file: Path, tmp_path: Path, capsys: Out
) -> None:
    def interrupt(_: Report) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), run, report=interrupt)
    newest = checkpoint.latest(run)
    assert newest
    state = checkpoint.load(newest)
    state["model"]["discriminator.0.weight"][0] = torch.nan
    torch.save(state, newest / "state.pt")
    assert main(["train", str(file), "--run-dir", str(run)]) == 1
    said = capsys.readouterr().err
    assert "of the discriminator is nan in step 0 of stage adversarial (epoch 2)" in said
    assert said.count("\n") == 1


def test_a_damaged_checkpoint_ends_with_1_and_is_named(
    tiny: Make, tmp_path: Path, capsys: Out
) -> None:
    checkpoint.write_experiment(tmp_path, tiny())
    saved = checkpoint.save(tmp_path, {"epoch": 1, "best_epoch": 1}, keep=2)
    (saved / "state.pt").write_bytes(b"half a file")
    assert main(["evaluate", str(tmp_path)]) == 1
    assert str(saved / "state.pt") in capsys.readouterr().err


@pytest.fixture
def library_alone(tmp_path: Path) -> dict[str, str]:
    """An environment in which Ray, MLflow and Optuna cannot be imported."""
    shim = tmp_path / "shim"
    shim.mkdir()
    for module in ("ray", "mlflow", "optuna"):
        (shim / f"{module}.py").write_text(f"raise ImportError('no {module} here')")
    project = Path(__file__).parent.parent
    paths = os.pathsep.join([str(shim), str(project)])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def test_without_ray_a_run_stopped_by_ctrl_c_goes_on_with_the_same_command(
    file: Path, tmp_path: Path, library_alone: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "colorization", "train", str(file)]
    command += ["train.stages={a: {turns: l1, epochs: 200}}", "train.grid_every=200"]
    command += ["data.source.crops=8", "data.source.scoring_crops=4"]
    command += ["--run-dir", str(tmp_path / "run")]
    with subprocess.Popen(
        command,
        env=library_alone,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        while not process.stdout.readline().startswith("epoch 2 "):
            assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        said = process.stderr.read()
    assert said == "stopped; the same command goes on from the last checkpoint\n"
    reached = len(read_history(tmp_path / "run"))
    assert 2 <= reached < 200
    done = subprocess.run(command, env=library_alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("epoch ")]
    numbers = [int(line.split()[1]) for line in lines]
    assert numbers[0] in (reached, reached + 1)
    assert numbers[-1] == 200
    history = read_history(tmp_path / "run")
    assert [line["epoch"] for line in history] == list(range(1, 201))


def torchrun(
    words: Sequence[str | Path],
    env: dict[str, str],
    program: Sequence[str] = ("-m", "colorization"),
) -> subprocess.CompletedProcess[str]:
    """Run a command on two ranks over loopback."""
    flags = ["--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *flags, *program, *words],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_under_torchrun_two_ranks_train_one_run_and_the_first_speaks(
    tiny: Make, file: Path, tmp_path: Path, library_alone: dict[str, str]
) -> None:
    done = torchrun(["train", file, "--run-dir", tmp_path / "two"], library_alone)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [re.split("[:(]", line)[0].strip() for line in lines] == [
        f"gan in {tmp_path / 'two'}",
        "leave-gray",
        "epoch 1",
        "epoch 2",
        "epoch 3",
        "done",
        "next",
    ]
    history = fit(tiny(), tmp_path / "one").history
    both = read_history(tmp_path / "two")
    assert len(both) == len(history)
    for mine, theirs in zip(both, history, strict=True):
        assert mine["pictures"] == theirs["pictures"]
        assert mine["ab_mae"] == pytest.approx(theirs["ab_mae"], abs=1e-5)
    weights = [
        checkpoint.load(checkpoint.best(tmp_path / name))["model"] for name in ("one", "two")
    ]
    for key in weights[0]:
        torch.testing.assert_close(weights[0][key], weights[1][key], rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.lamda_l1=3", "did you mean 'lambda_l1'?"),  # before the ranks do anything together
        ("train.batch_size=7", "2 workers share it equally"),  # on every rank, later
        ("model.lambda_l1=5", "holds a run with other settings"),  # on the first, others waiting
    ],
)
def test_under_torchrun_a_wrong_setting_is_told_once(
    setting: str,
    message: str,
    tiny: Make,
    file: Path,
    tmp_path: Path,
    library_alone: dict[str, str],
) -> None:
    run = tmp_path / "run"
    if "5" in setting:
        checkpoint.write_experiment(run, tiny())
        checkpoint.save(run, {"epoch": 1, "best_epoch": None}, keep=2)
    done = torchrun(["train", file, "--run-dir", run, setting], library_alone)
    assert done.returncode != 0
    assert done.stderr.count(message) == 1, done.stderr
    assert "colorization/commands.py" not in done.stderr  # no traceback of ours


@pytest.mark.slow
def test_under_torchrun_a_fault_of_another_rank_alone_is_told(
    file: Path, tmp_path: Path, library_alone: dict[str, str]
) -> None:
    # A machine whose second rank cannot see the pictures.
    code = (
        "import os, sys\n"
        "from colorization.__main__ import main\n"
        "missing = 'data.source={name: folder, path: /nowhere/at/all}'\n"
        "words = [missing] if os.environ['RANK'] == '1' else []\n"
        "sys.exit(main([*sys.argv[1:], *words]))\n"
    )
    script = tmp_path / "uneven.py"
    script.write_text(code)
    run = ["--run-dir", tmp_path / "run"]
    done = torchrun([script, "train", file, *run], library_alone, program=())
    assert done.returncode != 0
    assert done.stderr.count("no folder /nowhere/at/all") == 1, done.stderr


@pytest.mark.slow
def test_under_torchrun_ranks_without_a_network_end_with_who_and_why(
    file: Path, tmp_path: Path, library_alone: dict[str, str]
) -> None:
    wrong = {**library_alone, "GLOO_SOCKET_IFNAME": "eth77"}
    done = torchrun(["train", file, "--run-dir", tmp_path / "run"], wrong)
    assert done.returncode != 0
    assert "has no interface eth77, which GLOO_SOCKET_IFNAME names; it has " in done.stderr
    assert "colorization/meeting.py" not in done.stderr  # no traceback of ours


def test_a_typo_is_found_without_what_only_training_needs(file: Path) -> None:
    code = (
        "import sys\n"
        "from colorization.__main__ import main\n"
        f"assert main(['train', {str(file)!r}, 'model.lamda_l1=3']) == 2\n"
        "slow = {'torchvision', 'torchmetrics', 'scipy', 'torch._dynamo'} & sys.modules.keys()\n"
        "sys.exit(f'imported: {slow}' if slow else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_settings_printed_can_be_piped_into_a_file(
    tiny: Make, tmp_path: Path, capsys: Out
) -> None:
    (tmp_path / "first.yaml").write_text(to_yaml(dump(tiny())))
    assert main(["show", str(tmp_path / "first.yaml")]) == 0
    (tmp_path / "second.yaml").write_text(capsys.readouterr().out)
    assert main(["show", str(tmp_path / "second.yaml")]) == 0
    assert capsys.readouterr().out == (tmp_path / "second.yaml").read_text()
