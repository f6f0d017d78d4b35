"""Which reservations of workers are taken for those of dead trials."""

from types import SimpleNamespace

import pytest
import ray

import worker_groups
from cluster import Shape
from worker_groups import WorkerGroups

GROUP, OTHER = "ab" * 18, "cd" * 18
MOST = 3  # that Ray lists, in these tests
TWO = Shape(2, 1, 0)


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The groups of the actors in each state, in a job with one group of two workers."""
    found: dict[str, list[str]] = {}
    bundles = [{"unit_resources": {"CPU": 1.0}}] * 2
    group = SimpleNamespace(placement_group_id=GROUP, state="CREATED", bundles=bundles)

    def list_actors(filters: list[tuple[str, str, str]], **_: object) -> list[SimpleNamespace]:
        state = {key: value for key, _, value in filters}["state"]
        return [SimpleNamespace(placement_group_id=group) for group in found.get(state, [])][:MOST]

    monkeypatch.setattr(worker_groups, "list_placement_groups", lambda **_: [group])
    monkeypatch.setattr(worker_groups, "list_actors", list_actors)
    monkeypatch.setattr(worker_groups, "_MOST", MOST)
    job = SimpleNamespace(get_job_id=lambda: "01000000")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: job)
    monkeypatch.setattr(ray.util, "remove_placement_group", lambda group: None)
    return found


def freed() -> list[str]:
    """Look twice, half a minute apart."""
    groups = WorkerGroups(TWO)
    assert groups.look(0).freed == []
    return groups.look(30).freed


def test_a_group_without_a_worker_that_lives_is_freed(actors: dict[str, list[str]]):
    actors |= {"ALIVE": [OTHER], "DEAD": [GROUP] * 10}
    assert freed() == ["freed 2 workers x (1 CPU), which a trial that died had reserved"]


@pytest.mark.parametrize("state", ["PENDING_CREATION", "ALIVE", "RESTARTING"])
def test_a_group_whose_workers_start_or_live_is_left(state: str, actors: dict[str, list[str]]):
    actors[state] = [GROUP]
    assert freed() == []


def test_where_not_all_workers_are_listed_nothing_is_freed(actors: dict[str, list[str]]):
    actors["ALIVE"] = [OTHER] * MOST + [GROUP]
    assert freed() == []
