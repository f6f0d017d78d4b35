import os
import re

import pytest
import ray
from optuna.trial import TrialState

from study_commands import Done, Place
from train import main

NAME = "colorizer-gan"
EPOCHS = 6
UNTRAINED = "model.generator.pretrained=false"  # weights would be looked for in the cache


@pytest.fixture(scope="module")
def longer(finished) -> tuple[Place, Done]:
    """The winner of the finished study trained longer, by the third of its next commands."""
    place = finished.place
    best = place.storage / "studies" / "small" / "best.yaml"
    more = f"train.stages.adversarial.epochs={EPOCHS}"
    flags = ["--name", "longer", "--storage", str(place.storage), "--preflight", "off"]
    return place, place.run("train.py", str(best), more, *flags)


def test_best_yaml_feeds_train_as_it_is(longer):
    place, done = longer
    assert done.code == 0, done.output
    (trial,) = place.trials("longer")
    assert trial.state == TrialState.COMPLETE
    assert trial.params == {}
    assert trial.user_attrs["epochs"] == 1 + EPOCHS
    assert place.processes() == {}


def test_one_training_is_logged_like_a_trial(longer):
    place, _ = longer
    parent, children = place.runs("longer")
    assert parent.info.status == "FINISHED"
    assert [run.info.status for run in children.values()] == ["FINISHED"]
    assert place.steps(children[0], "ab_mae") == list(range(1, 2 + EPOCHS))
    assert children[0].data.params["train.stages.adversarial.epochs"] == str(EPOCHS)


def test_the_challenger_becomes_champion_only_if_it_is_better(longer):
    place, _ = longer
    client = place.client()
    versions = {v.version: v for v in client.search_model_versions(f"name = '{NAME}'")}
    (challenger,) = [v for v in versions.values() if v.tags["study"] == "longer"]
    (before,) = [v for v in versions.values() if v.tags["study"] == "small"]
    new = float(challenger.tags["promotion.challenger.against_gray"])
    old = float(challenger.tags["promotion.champion.against_gray"])
    champion = client.get_model_version_by_alias(NAME, "champion").version
    assert challenger.tags["promotion.policy"] == "if-better"
    assert challenger.tags["promotion.champion.version"] == str(before.version)
    surely = float(challenger.tags["promotion.difference.against_gray.high"]) < 0
    better = new <= old * 0.99 and new < 1 and surely
    assert champion == (challenger.version if better else before.version)
    assert challenger.tags["promotion.decision"] == ("promoted" if better else "not promoted")


def test_both_were_scored_on_the_same_pictures(longer):
    place, _ = longer
    versions = place.client().search_model_versions(f"name = '{NAME}'")
    by_study = {version.tags["study"]: version.tags for version in versions}
    scored_then = by_study["small"]["promotion.challenger.against_gray"]
    assert by_study["longer"]["promotion.champion.against_gray"] == scored_then


def test_the_console_shows_the_run_and_where_it_stands(longer):
    _, done = longer
    assert "0 settings searched" in done.output
    assert re.search(rf"trial 0 epoch {1 + EPOCHS} adversarial: against gray", done.output)
    assert re.search(rf"{NAME} version 2 is .*against_gray .* of champion version 1", done.output)
    assert "Traceback" not in done.output


def test_everything_still_lies_in_the_storage(longer):
    place, _ = longer
    assert place.strays() == []
    assert sorted(os.listdir(place.storage / "studies")) == ["longer", "small"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["resnet_gna"], "resnet_gna.*resnet_gan"),
        (["no/such/file.yaml"], "no/such/file.yaml"),
        (["resnet_gan", "train.batch_size=0"], "train.batch_size.*0"),
        (["resnet_gan", UNTRAINED, "data.source={name: folder, path: nowhere}"], "nowhere"),
        (["resnet_gan", UNTRAINED, "--workers", "512"], "512 workers .* never fits"),
        (["resnet_gan", "--name", "a b"], "--name: found 'a b'"),
    ],
)
def test_a_wrong_setting_is_one_message_and_nothing_is_started(
    tmp_path, monkeypatch, capsys, arguments, told
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "ray"))
    assert main([*arguments, "--storage", "runs"]) == 2
    printed = capsys.readouterr()
    assert re.search(told, printed.err)
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert not ray.is_initialized()
    assert list(tmp_path.iterdir()) == []
