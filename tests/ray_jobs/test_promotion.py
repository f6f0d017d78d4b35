"""Who becomes champion: real versions in a real store, with planted and with real scores."""

import errno
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from champion import Champion
from promotion import Decision, Policy, promote
from registered_models import (
    NAME,
    Trained,
    champion_of,
    planted,
    planted_scoring,
    register_again,
    train,
)
from registry import Rescored

# isort: split
from mlflow import MlflowClient, MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from colorization.config import ConfigError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]) -> Trained:
    return train(tmp_path_factory.mktemp("promotion"), new_store)


@pytest.fixture(scope="module")
def versions(trained: Trained) -> dict[str, str]:
    """Two versions with the runs they are from: the first, old, and the second, new."""
    client = MlflowClient(trained.uri)
    run_ids = [client.create_run("1").info.run_id for _ in range(2)]
    return {register_again(trained, run_id): run_id for run_id in run_ids}


def decide(
    trained: Trained,
    versions: Mapping[str, str],
    policy: Policy,
    champion: Rescored | None,
    challenger: Rescored,
    tags: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {}),
    margin: float = 0.01,
) -> tuple[Decision, str | None, dict[str, str]]:
    """Judge the second version beside the first; return also who is champion, and the tags."""
    client = MlflowClient(trained.uri)
    old, new = versions
    if client.get_registered_model(NAME).aliases:
        client.delete_registered_model_alias(NAME, "champion")
    if champion is not None:
        client.set_registered_model_alias(NAME, "champion", old)
    for version, given in zip(versions, tags, strict=True):
        noted = client.get_model_version(NAME, version).tags
        for key in ("data", "data.hash", *(key for key in noted if key.startswith("promotion."))):
            client.delete_model_version_tag(NAME, version, key)
        for key, value in given.items():
            client.set_model_version_tag(NAME, version, key, value)
    scoring = planted_scoring({versions[old]: champion or challenger, versions[new]: challenger})
    decision = promote(NAME, new, policy, scoring, tracking_uri=trained.uri, margin=margin)
    who = {old: "old", new: "new", None: None}[champion_of(client)]
    return decision, who, client.get_model_version(NAME, new).tags


GOOD, SAME, LUCKY, POOR = (planted(e, s) for e, s in ((0.05, 1), (0.2, 1), (0.2, 4), (0.3, 1)))
WORSE_THAN_GRAY = planted(0.9, 1)


@pytest.mark.parametrize(
    ("policy", "champion", "challenger", "who", "told"),
    [
        ("if-better", None, SAME, "new", "no champion yet"),
        ("if-better", SAME, GOOD, "new", r"better by \d\d.\d% \(95% interval \d.* to \d.* over 24"),
        ("if-better", SAME, POOR, "old", r"worse by \d\d.\d% \(95% interval \d.* to \d.* over 24"),
        ("if-better", SAME, SAME, "old", r"better by 0.0% .*0.0% to 0.0%.* cannot be told apart"),
        ("if-better", SAME, LUCKY, "old", r"better by \d.\d% .*interval -.* cannot be told apart"),
        ("if-better", WORSE_THAN_GRAY, planted(0.7), "old", "no better than gray pictures"),
        ("if-better", None, WORSE_THAN_GRAY, None, "no better than gray pictures"),
        ("always", SAME, POOR, "new", "policy always; .* worse by"),
        ("never", SAME, GOOD, "old", "policy never; .* better by"),
        ("never", None, GOOD, None, "policy never; no champion yet"),
    ],
)
def test_the_alias_moves_by_the_policy_past_the_margin_and_beyond_noise(
    trained, versions, policy, champion, challenger, who, told
):
    decision, now, tags = decide(trained, versions, policy, champion, challenger)
    assert now == who, decision.reason
    assert decision.promoted == (who == "new")
    assert (decision.move is not None) == decision.promoted
    assert re.search(told, decision.reason)
    assert tags["promotion.decision"] == ("promoted" if who == "new" else "not promoted")
    assert tags["promotion.reason"] == decision.reason
    assert tags["promotion.policy"] == policy
    new = float(tags["promotion.challenger.against_gray"])
    assert new == pytest.approx(challenger.scores["against_gray"], rel=1e-5)
    if champion is not None:
        old = float(tags["promotion.champion.against_gray"])
        assert old == pytest.approx(champion.scores["against_gray"], rel=1e-5)


def test_beyond_noise_is_not_enough_without_the_margin(trained, versions):
    decision, who, tags = decide(trained, versions, "if-better", SAME, GOOD, margin=0.8)
    assert who == "old"
    assert decision.difference is not None
    assert decision.difference.high < 0
    assert decision.reason.endswith("; 80.0% is needed")
    assert tags["promotion.margin"] == "0.8"


def test_a_decision_says_on_which_pictures_and_by_which_code_and_replaces_the_last_one(
    trained, versions
):
    decision, _, tags = decide(trained, versions, "if-better", SAME, GOOD)
    assert decision.difference is not None
    _, new = versions
    for end in ("low", "high"):
        told = float(tags[f"promotion.difference.against_gray.{end}"])
        assert told == pytest.approx(getattr(decision.difference, end), rel=1e-4)
        assert f"promotion.champion.against_gray.{end}" in tags
    assert tags["promotion.data.hash"] == "12ab"
    assert tags["promotion.split"] == "test"
    assert tags["promotion.pictures"] == "24"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", tags["promotion.time"])
    assert "promotion.code.version" in tags
    client = MlflowClient(trained.uri)
    client.delete_registered_model_alias(NAME, "champion")
    promote(
        NAME, new, "if-better", planted_scoring({versions[new]: GOOD}), tracking_uri=trained.uri
    )
    tags = client.get_model_version(NAME, new).tags
    assert tags["promotion.reason"].startswith("no champion yet")
    assert "promotion.champion.version" not in tags
    assert "promotion.difference.against_gray" not in tags


def test_a_move_stands_in_the_history_with_its_reason(trained, versions):
    client = MlflowClient(trained.uri)
    old, new = versions
    decide(trained, versions, "if-better", SAME, GOOD)
    before = Champion(client, NAME).moves
    decision, _, _ = decide(trained, versions, "if-better", SAME, GOOD)
    *kept, by_hand, move = Champion(client, NAME).moves
    assert kept == before
    assert (by_hand.number, by_hand.policy) == (len(before) + 1, "elsewhere")  # the test's own
    assert move == decision.move
    assert move.number == len(before) + 2
    assert (move.before, move.after, move.policy, move.why) == (
        old,
        new,
        "if-better",
        decision.reason,
    )
    decide(trained, versions, "if-better", SAME, POOR)
    assert Champion(client, NAME).moves[-1] == move


def test_a_champion_that_cannot_be_scored_is_replaced_and_the_reason_says_so(trained, versions):
    client = MlflowClient(trained.uri)
    damaged = register_again(trained, client.create_run("1").info.run_id)
    client.set_registered_model_alias(NAME, "champion", damaged)
    logged = str(client.get_model_version(NAME, damaged).source).removeprefix("models:/")
    (weights,) = (trained.folder / "store" / "mlartifacts").rglob(f"{logged}/**/weights.pt")
    weights.write_bytes(b"damaged")
    _, new = versions
    scoring = planted_scoring({versions[new]: GOOD})
    decision = promote(NAME, new, "if-better", scoring, tracking_uri=trained.uri)
    assert decision.promoted
    assert decision.champion is None
    assert "weights.pt" in decision.reason
    assert champion_of(client) == new


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        TimeoutError("the store does not answer"),
        MlflowException("the store does not answer", TEMPORARILY_UNAVAILABLE),
        MlflowException("API request failed"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_fault_that_passes_while_the_champion_is_scored_moves_and_notes_nothing(
    trained, versions, error
):
    decide(trained, versions, "never", SAME, GOOD)
    client = MlflowClient(trained.uri)
    old, new = versions
    planted_scores = planted_scoring({versions[new]: GOOD})
    before = client.get_model_version(NAME, new).tags, Champion(client, NAME).moves

    def score(model):
        if model.metadata.run_id == versions[old]:
            raise error
        return planted_scores.score(model)

    with pytest.raises(ConfigError, match=f"version {old} cannot be scored now.*try again") as told:
        promote(
            NAME, new, "if-better", planted_scores._replace(score=score), tracking_uri=trained.uri
        )
    assert told.value.__cause__ is error
    assert champion_of(client) == old
    assert (client.get_model_version(NAME, new).tags, Champion(client, NAME).moves) == before


@pytest.mark.parametrize("lacking", ["weights.pt", "pyfunc_model.py", "MLmodel"])
def test_a_champion_that_lacks_a_file_is_replaced(trained, versions, lacking):
    client = MlflowClient(trained.uri)
    damaged = register_again(trained, client.create_run("1").info.run_id)
    logged = str(client.get_model_version(NAME, damaged).source).removeprefix("models:/")
    (file,) = (trained.folder / "store" / "mlartifacts").rglob(f"{logged}/**/{lacking}")
    file.unlink()
    client.set_registered_model_alias(NAME, "champion", damaged)
    _, new = versions
    scoring = planted_scoring({versions[new]: GOOD})
    decision = promote(NAME, new, "if-better", scoring, tracking_uri=trained.uri)
    assert decision.promoted
    assert f"version {damaged} cannot be loaded" in decision.reason
    assert champion_of(client) == new


@pytest.mark.parametrize("policy", ["if-better", "always", "never"])
def test_what_made_a_version_champion_stays_noted_when_it_is_judged_again(
    trained, versions, policy
):
    _, _, noted = decide(trained, versions, "if-better", SAME, GOOD)
    _, new = versions
    scoring = planted_scoring({versions[new]: POOR})
    assert promote(NAME, new, policy, scoring, tracking_uri=trained.uri).promoted
    assert MlflowClient(trained.uri).get_model_version(NAME, new).tags == noted


def test_only_scoring_leaves_an_earlier_decision_noted(trained, versions):
    _, _, noted = decide(trained, versions, "if-better", SAME, POOR)
    assert noted["promotion.policy"] == "if-better"
    old, new = versions
    scoring = planted_scoring({versions[old]: SAME, versions[new]: GOOD})
    assert not promote(NAME, new, "never", scoring, tracking_uri=trained.uri).promoted
    assert MlflowClient(trained.uri).get_model_version(NAME, new).tags == noted


def test_the_champion_stays_when_it_is_judged_again(trained, versions):
    _, new = versions
    scoring = planted_scoring({versions[new]: GOOD})
    moves = []
    for _ in range(2):
        assert promote(NAME, new, "always", scoring, tracking_uri=trained.uri).promoted
        moves.append(len(Champion(MlflowClient(trained.uri), NAME).moves))
    assert moves[0] == moves[1]


@pytest.mark.parametrize(
    ("champions", "challengers", "told"),
    [
        ({"data": "photographs"}, {"data": "samples"}, "data photographs, here samples"),
        ({"data": "a"}, {"data": "b", "data.hash": "12"}, "data a, here b"),
        (
            {"data": "a", "data.hash": "12"},
            {"data": "a", "data.hash": "34"},
            "data.hash 12, here 34",
        ),
    ],
    ids=["other place", "champion without a hash", "other pictures in the same place"],
)
def test_a_better_challenger_of_other_data_does_not_move_the_champion(
    trained, versions, champions, challengers, told
):
    tags = champions, challengers
    decision, who, _ = decide(trained, versions, "if-better", SAME, GOOD, tags)
    assert who == "old"
    assert f"trained on other data ({told})" in decision.reason


def test_the_same_pictures_in_another_place_or_the_policy_always_move_the_champion(
    trained, versions
):
    tags = {"data": "a", "data.hash": "12"}, {"data": "b", "data.hash": "12"}
    assert decide(trained, versions, "if-better", SAME, GOOD, tags)[0].promoted
    other = {"data": "a"}, {"data": "b"}
    assert decide(trained, versions, "always", SAME, GOOD, other)[0].promoted


def test_a_champion_that_came_while_scoring_is_scored_against_too(trained, versions):
    """The alias moves, by hand, while the challenger is judged against the champion before."""
    client = MlflowClient(trained.uri)
    third_run = client.create_run("1").info.run_id
    third = register_again(trained, third_run)
    old, new = versions
    client.set_registered_model_alias(NAME, "champion", old)
    planted_scores = planted_scoring({versions[old]: POOR, versions[new]: SAME, third_run: GOOD})

    def score(model):
        if model.metadata.run_id == versions[old]:
            client.set_registered_model_alias(NAME, "champion", third)
        return planted_scores.score(model)

    scoring, said = planted_scores._replace(score=score), []
    for version in (old, new):
        for key in ("data", "data.hash"):
            client.delete_model_version_tag(NAME, version, key)
    decision = promote(NAME, new, "if-better", scoring, tracking_uri=trained.uri, say=said.append)
    assert said == [f"{NAME} has another champion since version {new} was judged: once more"]
    assert decision.champion_version == third
    assert not decision.promoted
    assert champion_of(client) == third
    move = Champion(client, NAME).moves[-1]
    assert (move.after, move.policy) == (third, "elsewhere")
