"""Which split every picture belongs to, so that nothing held out is seen in training."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from colorization.data.curation.candidate import Candidate
from colorization.data.curation.components import components
from colorization.data.splits import SPLITS, Shares, Split, split_all

_HELD_OUT: dict[Split, int] = {split: rank for rank, split in enumerate(SPLITS)}


@dataclass(frozen=True)
class Move:
    """A picture of an earlier manifest that is in another split now."""

    name: str  # source/name
    before: Split
    after: Split
    because: str


@dataclass(frozen=True)
class Assignment:
    """The split of every candidate, None where it is dropped, and what changed."""

    splits: list[Split | None]
    candidates: list[Candidate]  # those dropped here are marked
    moved: list[Move]


def assign(
    candidates: Sequence[Candidate],
    declared: Sequence[str | None],
    given: Sequence[Split | None],
    shares: Shares,
    near: Sequence[int],
    drop_duplicates: bool,
    previous: Mapping[str, Split],
) -> Assignment:
    """Give every candidate a split or drop it; no group of pictures straddles two splits.

    Groups are what equal contents, equal `declared` names (None: none) and equal numbers in `near`
    (-1: none) join, directly or through others. `given` is the split that a source itself decides.
    `previous` has the splits of an earlier manifest by content. The sequences are parallel to
    `candidates`, those dropped already among them; order changes nothing but the order of results.

    * Of exact copies, with `drop_duplicates`, the most held out by its source is kept, of several
      the first by source and name; the others are dropped as `duplicate`.
    * Where a source holds out a member of a group, the members that are less held out are dropped
      as `near_held_out`: published test sets stay as published.
    * Any other group stays in its earlier split. Where it joins pictures of several, all go to the
      least held out of these, for that one was trained on. A new group is split by the least of
      its digests.
    """
    marked = list(candidates)

    def order(index: int) -> tuple[int, int, str]:
        candidate = candidates[index]
        return -_HELD_OUT[given[index] or "train"], candidate.source, candidate.name

    def drop(index: int, rule: str, reason: str) -> None:
        marked[index] = replace(candidates[index], dropped=rule, reason=reason)

    alive = sorted((i for i, one in enumerate(candidates) if one.dropped is None), key=order)
    groups = _groups(alive, candidates, declared, near)
    if drop_duplicates:
        for kept, *copies in _gather(alive, lambda i: candidates[i].content):
            for index in copies:
                drop(index, "duplicate", f"its content is that of {_label(candidates[kept])}")
    for first, *others in groups:
        if given[first] in ("validation", "test"):
            for index in others:
                if given[index] != given[first] and marked[index].dropped is None:
                    because = f"belongs together with {_label(candidates[first])}"
                    drop(index, "near_held_out", f"{because}, held out for {given[first]}")
    return _decide(groups, marked, given, shares, previous)


def _decide(
    groups: Sequence[Sequence[int]],
    marked: list[Candidate],
    given: Sequence[Split | None],
    shares: Shares,
    previous: Mapping[str, Split],
) -> Assignment:
    """Split whole groups, whose first members are the most held out."""
    drawn = _draw(groups, marked, given, shares)
    splits: list[Split | None] = [None] * len(marked)
    moved: list[Move] = []
    split: Split
    for group, split in zip(groups, drawn, strict=True):
        known: dict[int, Split] = {
            i: previous[marked[i].content] for i in group if marked[i].content in previous
        }
        because = "its source says so"
        if known and given[group[0]] not in ("validation", "test"):
            least = min(
                known, key=lambda i: (_HELD_OUT[known[i]], marked[i].source, marked[i].name)
            )
            split = known[least]
            because = f"it belongs together with {_label(marked[least])}"
        for index in group:
            if marked[index].dropped is not None:
                continue
            splits[index] = split
            before = known.get(index, split)
            if before != split:
                moved.append(Move(_label(marked[index]), before, split, because))
    return Assignment(splits, marked, sorted(moved, key=lambda move: move.name))


def _draw(
    groups: Sequence[Sequence[int]],
    candidates: Sequence[Candidate],
    given: Sequence[Split | None],
    shares: Shares,
) -> list[Split]:
    """Return the split of each group as if there were no earlier manifest."""
    digests = [min(bytes.fromhex(candidates[i].digest) for i in group) for group in groups]
    own: list[Split | None] = [given[group[0]] for group in groups]
    for number, group in enumerate(groups):
        if own[number] is None and any(given[i] == "train" for i in group):
            own[number] = "train"
    return split_all(digests, [None] * len(groups), own, shares)


def _groups(
    alive: Sequence[int],
    candidates: Sequence[Candidate],
    declared: Sequence[str | None],
    near: Sequence[int],
) -> list[list[int]]:
    """Return the groups; members, and groups by their first one, in the order of `alive`."""
    keys: list[Callable[[int], Hashable | None]] = [
        lambda i: candidates[i].content,
        lambda i: declared[i],
        lambda i: None if near[i] < 0 else near[i],
    ]
    links = (link for key in keys for group in _gather(alive, key) for link in pairwise(group))
    found = components(len(candidates), links)
    return list(_gather(alive, lambda i: found[i]))


def _gather(indices: Iterable[int], key: Callable[[int], Hashable | None]) -> Iterator[list[int]]:
    """Gather the indices with equal keys, in their order; those without a key are left out."""
    gathered: dict[Hashable, list[int]] = defaultdict(list)
    for index in indices:
        if (own := key(index)) is not None:
            gathered[own].append(index)
    yield from gathered.values()


def _label(candidate: Candidate) -> str:
    return f"{candidate.source}/{candidate.name}"
