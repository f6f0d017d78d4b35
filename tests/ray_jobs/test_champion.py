"""The alias's moves: all of them are kept, and can be gone back."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from champion import MOVE_TAG, Champion, Move, lineage, roll_back
from registered_models import NAME, bare_versions, champion_of

# isort: split
from mlflow import MlflowClient, MlflowException

from colorization.config import ConfigError


@pytest.fixture
def client(tmp_path: Path, new_store: Callable[[Path], str]) -> MlflowClient:
    return bare_versions(new_store(tmp_path / "store"), 4)


def move(client: MlflowClient, *targets: str) -> None:
    champion = Champion(client, NAME)
    for target in targets:
        with champion.turn() as turn:
            champion.move(turn, target, "always", "for the test")


def steps(client: MlflowClient) -> list[tuple[str | None, str | None, str, str]]:
    return [(m.before, m.after, m.policy, m.state) for m in Champion(client, NAME).moves]


def back(client: MlflowClient) -> Move:
    return roll_back(client, NAME, "for the test", print)


def test_every_move_is_a_tag_of_the_registered_model(client):
    move(client, "1", "3")
    assert champion_of(client) == "3"
    tags = client.get_registered_model(NAME).tags
    assert sorted(tags) == [f"{MOVE_TAG}0001", f"{MOVE_TAG}0002"]
    told = json.loads(tags[f"{MOVE_TAG}0002"])
    assert (told["before"], told["after"], told["why"]) == ("1", "3", "for the test")
    assert told["time"].endswith("Z")
    assert " on " in told["who"]


def test_a_rollback_goes_to_the_champion_before_and_repeated_further_back(client):
    move(client, "1", "2", "3")
    for expected in ("2", "1"):
        assert back(client).after == expected
        assert champion_of(client) == expected
    with pytest.raises(ConfigError, match=r"no champion before version 1: .* nothing to go back"):
        back(client)
    assert champion_of(client) == "1"


def test_after_a_rollback_and_a_new_champion_what_was_left_does_not_come_back(client):
    move(client, "1", "2")
    back(client)
    move(client, "3")
    assert back(client).after == "1"


def test_a_champion_from_before_there_was_a_history_can_be_gone_back_to(client):
    client.set_registered_model_alias(NAME, "champion", "2")
    move(client, "3")
    assert back(client).after == "2"


def test_without_any_champion_there_is_nothing_to_go_back_to(client):
    with pytest.raises(ConfigError, match="no champion before any"):
        back(client)


def test_a_deleted_version_is_not_gone_back_to_and_the_error_names_the_way_out(client):
    move(client, "1", "2", "3")
    client.delete_model_version(NAME, "2")
    with pytest.raises(ConfigError, match=r"version 2 .* was deleted; before it were version 1"):
        back(client)
    assert champion_of(client) == "3"


def test_a_move_by_hand_is_written_down_and_can_be_gone_back(client):
    move(client, "1")
    client.set_registered_model_alias(NAME, "champion", "4")
    assert back(client).after == "1"
    assert steps(client) == [
        (None, "1", "always", "done"),
        ("1", "4", "elsewhere", "done"),
        ("4", "1", "rollback", "done"),
    ]


@pytest.mark.parametrize("moved", [True, False])
def test_a_move_that_was_cut_short_is_told_from_one_that_was_made(client, monkeypatch, moved):
    move(client, "1")

    def die(*_: object) -> None:
        if moved:
            set_alias(NAME, "champion", "2")
        raise MlflowException("the server died")

    set_alias = client.set_registered_model_alias
    monkeypatch.setattr(client, "set_registered_model_alias", die)
    with pytest.raises(MlflowException, match="died"):
        move(client, "2")
    assert steps(client)[-1] == ("1", "2", "always", "begun")
    monkeypatch.undo()
    move(client, "3")
    assert steps(client)[1:] == [
        ("1", "2", "always", "done" if moved else "interrupted"),
        ("2" if moved else "1", "3", "always", "done"),
    ]
    assert back(client).after == ("2" if moved else "1")


def test_a_long_reason_is_cut_to_what_every_database_holds():
    move = Move(1, "2026-01-01T00:00:00Z", None, "1", "always", "ä" * 20_000, "me")
    key, value = move.to_tag()
    assert len(value) < 5000
    again = Move.of_tag(key, value)
    assert again.why.endswith("ä ...")
    assert replace(again, why=move.why) == move


def test_a_tag_that_was_edited_is_named(client):
    move(client, "1")
    client.set_registered_model_tag(NAME, f"{MOVE_TAG}0001", "nonsense")
    with pytest.raises(ConfigError, match=r"champion.move.0001 is no move"):
        back(client)


def test_a_lineage_leaves_out_what_never_happened():
    moves = [
        Move(1, "", None, "1", "always", "", ""),
        Move(2, "", "1", "2", "always", "", "", "interrupted"),
        Move(3, "", "1", "3", "always", "", ""),
    ]
    assert lineage(moves) == [None, "1", "3"]
