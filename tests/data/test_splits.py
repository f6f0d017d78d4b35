"""Splits by content hold for all sets of pictures: properties, checked on generated sets."""

from collections.abc import Mapping
from math import sqrt

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from colorization.data.splits import (
    SPLITS,
    Shares,
    Split,
    content_digest,
    digest_of,
    fingerprint,
    parse_shares,
    representatives,
    split_all,
    split_of,
)

always = settings(derandomize=True, deadline=None, max_examples=100)
digests = st.integers(0, 10**6).map(lambda n: digest_of(n.to_bytes(4, "big")))
groups = st.none() | st.sampled_from("abcdef")
pictures = st.lists(st.tuples(digests, groups), min_size=1, max_size=60)
held_out = st.floats(0.01, 0.45)
shares = st.builds(lambda v, t: Shares(1 - v - t, v, t), held_out, held_out)
Picture = tuple[bytes, str | None]
Contents = Mapping[Split, list[bytes]]


def drawn(found: list[Picture], wanted: Shares) -> list[Split]:
    return split_all([d for d, _ in found], [g for _, g in found], [None] * len(found), wanted)


@always
@given(pictures, shares)
def test_every_picture_is_in_one_split_with_its_copies_and_its_group(
    found: list[Picture], wanted: Shares
) -> None:
    splits = drawn(found, wanted)
    assert len(splits) == len(found)
    assert set(splits) <= set(SPLITS)
    ungrouped: dict[bytes, Split] = {}
    grouped: dict[str, Split] = {}
    for (digest, group), split in zip(found, splits, strict=True):
        if group is None:
            assert ungrouped.setdefault(digest, split) == split
        else:
            assert grouped.setdefault(group, split) == split


@always
@given(pictures, pictures, shares)
def test_adding_pictures_moves_only_groups_whose_representative_changes(
    found: list[Picture], added: list[Picture], wanted: Shares
) -> None:
    before = drawn(found, wanted)
    after = drawn([*found, *added], wanted)[: len(found)]
    joined = {group for _, group in added} - {None}
    least = {g: min(d for d, own in found if own == g) for _, g in found if g is not None}
    for (_, group), old, new in zip(found, before, after, strict=True):
        if group not in joined or min(d for d, own in added if own == group) >= least[group or ""]:
            assert old == new


@always
@given(pictures, shares, st.randoms(use_true_random=False))
def test_the_order_of_the_pictures_means_nothing(
    found: list[Picture], wanted: Shares, random: object
) -> None:
    order = list(range(len(found)))
    random.shuffle(order)  # pyright: ignore[reportAttributeAccessIssue]
    shuffled = drawn([found[i] for i in order], wanted)
    assert [drawn(found, wanted)[i] for i in order] == shuffled


@always
@given(shares, st.integers(0, 10**6))
def test_shares_are_met_as_well_as_chance_allows(wanted: Shares, seed: int) -> None:
    count = 1500
    splits = [split_of(digest_of(f"{seed} {i}".encode()), wanted) for i in range(count)]
    for split, share in zip(SPLITS, wanted, strict=True):
        # Five standard deviations of a binomial distribution, and one picture.
        assert abs(splits.count(split) - count * share) <= 5 * sqrt(count * share * (1 - share)) + 1


@always
@given(digests, shares, st.floats(0.01, 1))
def test_a_smaller_share_takes_pictures_out_of_a_held_out_split_and_moves_none_into_it(
    digest: bytes, wanted: Shares, factor: float
) -> None:
    validation, test = wanted.validation * factor, wanted.test * factor
    smaller = Shares(1 - validation - test, validation, test)
    assert split_of(digest, smaller) in {split_of(digest, wanted), "train"}


@always
@given(pictures, shares, st.data())
def test_given_splits_are_kept_and_what_they_lack_is_taken_out_of_training(
    found: list[Picture], wanted: Shares, data: st.DataObject
) -> None:
    some: list[tuple[Split, ...]] = [("train", "test"), ("train", "validation"), SPLITS]
    present = data.draw(st.sampled_from(some))
    given_splits: list[Split] = [data.draw(st.sampled_from(present)) for _ in found]
    known = set(given_splits)
    result = split_all([d for d, _ in found], [None] * len(found), given_splits, wanted)
    for own, split in zip(given_splits, result, strict=True):
        assert split == own or (own == "train" and split not in known)


def test_the_split_of_a_picture_never_changes_with_the_version_of_the_code() -> None:
    content = b"a picture"
    assert digest_of(content).hex() == "5abf3945f09a89c1d64e97b6e9e37b13"
    found = [split_of(digest_of(bytes([i])), Shares(0.5, 0.25, 0.25))[:2] for i in range(12)]
    assert " ".join(found) == "tr tr tr tr va tr va tr va tr tr tr"


@always
@given(st.binary(max_size=200))
def test_the_digest_is_that_of_length_and_both_ends(content: bytes) -> None:
    assert digest_of(content) == content_digest(content, content, len(content))
    assert digest_of(content) != digest_of(content + b"\0")
    assert len(digest_of(content)) == 16


def test_the_middle_of_a_long_content_is_not_read_and_its_ends_are() -> None:
    zeros = bytes(100_000)
    middle, start, end = (bytearray(zeros) for _ in range(3))
    middle[50_000] = start[0] = end[-1] = 1
    assert digest_of(bytes(middle)) == digest_of(zeros)
    assert len({digest_of(zeros), digest_of(bytes(start)), digest_of(bytes(end))}) == 3


@always
@given(pictures)
def test_a_representative_is_the_least_of_its_group(found: list[Picture]) -> None:
    result = representatives([d for d, _ in found], [g for _, g in found])
    for (digest, group), own in zip(found, result, strict=True):
        assert own == (digest if group is None else min(d for d, g in found if g == group))


@always
@given(st.integers(1, 98), st.integers(1, 98))
def test_shares_that_add_up_to_one_are_read(validation: int, test: int) -> None:
    assume(validation + test < 100)
    train = 100 - validation - test
    found = parse_shares(f"{train / 100}/{validation / 100}/{test / 100}")
    assert found == pytest.approx((train / 100, validation / 100, test / 100))
    held = validation + test
    assert parse_shares(f"{train / 100}/{held / 100}") == pytest.approx(
        (train / 100, held / 200, held / 200)
    )


def refusal(text: str) -> str | None:
    try:
        found = parse_shares(text)
    except ValueError as error:
        return str(error)
    assert sum(found) == pytest.approx(1)
    assert min(found) > 0
    return None


@always
@given(st.lists(st.floats(), max_size=5) | st.lists(st.floats(0, 1), min_size=2, max_size=3))
def test_numbers_are_read_where_they_are_shares_and_refused_elsewhere(numbers: list[float]) -> None:
    text = "/".join(map(str, numbers))
    if (error := refusal(text)) is not None:
        assert repr(text) in error
        assert "shares above 0 that add up to 1" in error
        possible = len(numbers) in (2, 3) and all(n > 0 for n in numbers)
        assert not (possible and abs(sum(numbers) - 1) < 1e-7)


@always
@given(st.text(max_size=20))
def test_any_other_text_is_refused_with_what_is_wanted(text: str) -> None:
    error = refusal(text)
    assert error is None or repr(text) in error


@pytest.mark.parametrize(
    "text",
    ["", "1", "1/0", "0.5/0.6", "0.9/0.1/0.1", "-1/1/1", "nan/1", "inf/0.1", "0.8,0.2", "1/0/0"],
)
def test_what_gives_no_three_splits_is_refused(text: str) -> None:
    assert refusal(text) is not None


def each_split(train: list[bytes], validation: list[bytes], test: list[bytes]) -> Contents:
    return {"train": train, "validation": validation, "test": test}


some = st.lists(digests, max_size=8)
SETS = st.builds(each_split, some, some, some)


@always
@given(SETS, SETS)
def test_the_fingerprint_stands_for_what_each_split_holds(one: Contents, other: Contents) -> None:
    same = all(sorted(one[split]) == sorted(other[split]) for split in SPLITS)
    assert (fingerprint(one) == fingerprint(other)) == same
    reordered: dict[Split, list[bytes]] = {split: one[split][::-1] for split in SPLITS}
    assert fingerprint(reordered) == fingerprint(one)
    assert len(fingerprint(one)) == 12
