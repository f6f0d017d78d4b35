import random
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colorization.data.curation.assignment import Assignment, Move, assign
from colorization.data.curation.candidate import Candidate
from colorization.data.splits import Shares, Split

SHARES = Shares(0.5, 0.25, 0.25)
HELD_OUT = {"train": 0, "validation": 1, "test": 2}


def picture(name: str, content: str | None = None, source: int = 0, **more) -> Candidate:
    digest = blake2b((content or name).encode(), digest_size=16).hexdigest()
    return Candidate(source, name, content=digest, digest=digest, **more)


def assign_all(
    candidates: list[Candidate],
    declared: dict[str, str] | None = None,
    given: dict[str, Split] | None = None,
    near: dict[str, int] | None = None,
    previous: dict[str, Split] | None = None,
    drop_duplicates: bool = True,
) -> Assignment:
    """Assign with what the other arguments say of pictures by name."""
    return assign(
        candidates,
        declared=[(declared or {}).get(one.name) for one in candidates],
        given=[(given or {}).get(one.name) for one in candidates],
        shares=SHARES,
        near=[(near or {}).get(one.name, -1) for one in candidates],
        drop_duplicates=drop_duplicates,
        previous=previous or {},
    )


def splits_of(found: Assignment) -> dict[str, Split | None]:
    return {one.name: split for one, split in zip(found.candidates, found.splits, strict=True)}


def dropped_of(found: Assignment) -> dict[str, str | None]:
    return {one.name: one.dropped for one in found.candidates}


def earlier(found: Assignment) -> dict[str, Split]:
    return {
        one.content: split
        for one, split in zip(found.candidates, found.splits, strict=True)
        if split is not None
    }


def in_split(split: Split, start: str = "p") -> Candidate:
    """Make a picture that the shares put into a split."""
    for number in range(1000):
        one = picture(f"{start}{number}")
        if assign_all([one]).splits == [split]:
            return one
    raise AssertionError(split)


def test_shares_are_met_by_pictures_that_stand_alone() -> None:
    found = assign_all([picture(f"{i}") for i in range(2000)])
    assert found.splits.count("train") == pytest.approx(1000, abs=100)
    assert found.splits.count("validation") == pytest.approx(500, abs=80)
    assert found.moved == []


def test_the_first_of_exact_copies_is_kept_and_named_by_the_others() -> None:
    found = assign_all([picture("c", "same", 1), picture("b", "same"), picture("a", "same", 1)])
    assert dropped_of(found) == {"c": "duplicate", "b": None, "a": "duplicate"}
    assert "0/b" in found.candidates[0].reason


def test_the_copy_that_its_source_holds_out_the_most_is_kept() -> None:
    copies = [picture(name, "same") for name in ("a", "b", "c", "d")]
    given: dict[str, Split] = {"a": "train", "b": "validation", "c": "test", "d": "test"}
    found = assign_all(copies, given=given)
    assert splits_of(found) == {"a": None, "b": None, "c": "test", "d": None}
    assert set(dropped_of(found).values()) == {None, "duplicate"}


def test_copies_that_are_kept_share_a_split() -> None:
    for number in range(20):
        copies = [picture("a", f"{number}"), picture("b", f"{number}")]
        found = assign_all(copies, drop_duplicates=False)
        assert found.splits[0] == found.splits[1] is not None


def test_what_belongs_to_a_published_test_picture_is_dropped_and_the_test_set_stays() -> None:
    given: dict[str, Split] = {"t": "test", "v": "validation", "a": "train"}
    near = {"t": 7, "v": 7, "a": 7, "b": 7}
    found = assign_all([picture(name) for name in ("a", "b", "t", "v")], given=given, near=near)
    assert splits_of(found) == {"a": None, "b": None, "t": "test", "v": None}
    assert dropped_of(found) == dict.fromkeys(("a", "b", "v"), "near_held_out") | {"t": None}
    assert "0/t" in found.candidates[0].reason


def test_a_group_through_others_is_one_group() -> None:
    names = [f"{i}" for i in range(40)]
    declared = {name: str(int(name) // 2) for name in names}  # 0 1, 2 3, ...
    near = {name: (int(name) + 1) // 2 for name in names}  # 1 2, 3 4, ...
    found = assign_all([picture(name) for name in names], declared=declared, near=near)
    assert len(set(found.splits)) == 1


def test_a_group_is_split_by_the_least_digest_of_its_members() -> None:
    for number in range(20):
        members = [picture(f"{number} {i}") for i in range(3)]
        least = min(members, key=lambda one: one.digest)
        found = assign_all(members, declared=dict.fromkeys([one.name for one in members], "g"))
        assert found.splits == assign_all([least]).splits * 3


def test_given_training_pictures_give_up_whole_groups_to_the_splits_that_are_missing() -> None:
    names = [f"{i}" for i in range(60)]
    declared = {name: str(int(name) // 3) for name in names}
    given: dict[str, Split] = {name: "train" for name in names if int(name) % 3}
    splits = splits_of(assign_all([picture(n) for n in names], declared=declared, given=given))
    assert set(splits.values()) == {"train", "validation", "test"}
    assert all(len({splits[f"{g * 3 + k}"] for k in range(3)}) == 1 for g in range(20))


def test_given_training_pictures_stay_where_validation_and_test_are_given() -> None:
    given: dict[str, Split] = {"v": "validation", "t": "test"}
    given |= {f"{i}": "train" for i in range(40)}
    splits = splits_of(assign_all([picture(name) for name in given], given=given))
    assert splits == given


def test_a_new_picture_joins_the_split_that_its_group_had() -> None:
    old = in_split("test")
    new = in_split("train", "new")
    near = {old.name: 0, new.name: 0}
    found = assign_all([old, new], near=near, previous=earlier(assign_all([old])))
    assert found.splits == ["test", "test"]
    assert found.moved == []


def test_groups_that_a_new_picture_joins_go_to_the_least_held_out_split() -> None:
    train, test = in_split("train"), in_split("test")
    new = picture("new")
    near = {train.name: 0, new.name: 0, test.name: 0}
    previous = earlier(assign_all([train, test]))
    found = assign_all([test, new, train], near=near, previous=previous)
    assert found.splits == ["train"] * 3
    because = f"it belongs together with 0/{train.name}"
    assert found.moved == [Move(f"0/{test.name}", "test", "train", because)]


def test_a_source_that_holds_out_a_known_picture_now_moves_it_and_says_so() -> None:
    one = in_split("train")
    found = assign_all([one], given={one.name: "test"}, previous=earlier(assign_all([one])))
    assert found.splits == ["test"]
    assert found.moved == [Move(f"0/{one.name}", "train", "test", "its source says so")]


def test_what_was_dropped_before_stays_as_it_is_and_binds_nothing() -> None:
    bad = Candidate(0, "bad", dropped="unreadable", reason="found text")
    test = picture("t")
    found = assign_all([bad, test], near={"bad": 3, "t": 3}, declared={"bad": "g", "t": "g"})
    assert found.candidates == [bad, test]
    assert found.splits[0] is None
    assert found.splits[1] is not None


GIVEN: list[Split | None] = ["train", "validation", "test", None, None]


@st.composite
def situations(draw: st.DrawFn) -> dict[str, tuple[Candidate, str | None, Split | None, int]]:
    names = [f"{i}" for i in range(draw(st.integers(1, 14)))]
    few = st.integers(0, 4)
    return {
        name: (
            picture(name, f"content {draw(st.integers(0, 9))}", draw(st.integers(0, 1)))
            if draw(st.integers(0, 9))
            else Candidate(0, name, dropped="unreadable"),
            draw(st.none() | few.map(str)),
            draw(st.sampled_from(GIVEN)),
            draw(st.just(-1) | few),
        )
        for name in names
    }


def run(situation, names, drop_duplicates=True, previous=None) -> Assignment:
    rows = [situation[name] for name in names]
    return assign(
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        SHARES,
        [row[3] for row in rows],
        drop_duplicates,
        previous or {},
    )


FIXED = settings(derandomize=True, deadline=None, max_examples=150, database=None)


@FIXED
@given(situations(), st.booleans())
def test_every_picture_is_kept_in_one_split_or_dropped_and_no_group_straddles(
    situation, drop_duplicates
) -> None:
    found = run(situation, list(situation), drop_duplicates)
    assert [one.name for one in found.candidates] == list(situation)
    kept: dict[str, Split] = {}
    for one, split in zip(found.candidates, found.splits, strict=True):
        assert (one.dropped is None) == (split in HELD_OUT)
        if split is not None:
            kept[one.name] = split
    for key in (lambda row: row[0].content or None, lambda row: row[1], lambda row: row[3]):
        of_group: dict[object, set[Split]] = {}
        for name, split in kept.items():
            if (group := key(situation[name])) not in (None, -1):
                of_group.setdefault(group, set()).add(split)
        assert all(len(splits) == 1 for splits in of_group.values())
    for name, split in kept.items():
        if situation[name][2] in ("validation", "test"):
            assert split == situation[name][2]
    if drop_duplicates:
        contents = [situation[name][0].content for name in kept]
        assert len(contents) == len(set(contents))


@FIXED
@given(situations(), st.integers(0, 1000))
def test_order_changes_nothing(situation, seed) -> None:
    names = list(situation)
    random.Random(seed).shuffle(names)
    one, other = run(situation, list(situation)), run(situation, names)
    assert splits_of(one) == splits_of(other)
    assert {c.name: c for c in one.candidates} == {c.name: c for c in other.candidates}


@FIXED
@given(situations(), st.data())
def test_adding_pictures_moves_none_without_a_word(situation, data) -> None:
    names = list(situation)
    first = run(situation, names[: data.draw(st.integers(0, len(names)))])
    before = earlier(first)
    found = run(situation, names, previous=before)
    moved = {move.name: move for move in found.moved}
    assert len(moved) == len(found.moved)
    for one, split in zip(found.candidates, found.splits, strict=True):
        if split is None or one.content not in before:
            assert f"{one.source}/{one.name}" not in moved
            continue
        move = moved.get(f"{one.source}/{one.name}")
        assert (move is None) == (before[one.content] == split)
        if move is not None:
            assert (move.before, move.after) == (before[one.content], split)
            by_source = situation[one.name][2] == split
            assert by_source or HELD_OUT[move.after] < HELD_OUT[move.before]
    again = run(situation, names, previous=earlier(found))
    assert again.splits == found.splits
    assert again.moved == []
