"""Walking a space's tree: what is searched in it, what is drawn, what an experiment has of it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from distributions import Choice, Distribution, Floats, Integers, Key

Suggest = Callable[[str, Distribution], Any]


class Parameter(NamedTuple):
    """Something that is searched, and the keys of the choices that it is there under."""

    name: str
    distribution: Distribution
    under: dict[str, Key]


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def walk(tree: Any, path: str, under: dict[str, Key]) -> Iterator[Parameter]:
    """Yield all that is searched in a subtree at `path`, below the choices `under`."""
    match tree:
        case Floats() | Integers():
            yield Parameter(path, tree, under)
        case Choice():
            yield Parameter(path, tree, under)
            for key, option in tree.options.items():
                yield from walk(option, _join(path, key), {**under, path: key})
        case Mapping():
            for key, part in tree.items():
                yield from walk(part, _join(path, key), under)
        case list():
            for index, part in enumerate(tree):
                yield from walk(part, _join(path, index), under)


def resolve(tree: Any, path: str, suggest: Suggest) -> Any:
    """Put what `suggest` answers in the place of each distribution."""
    match tree:
        case Floats() | Integers():
            return suggest(path, tree)
        case Choice():
            key = suggest(path, tree)
            return resolve(tree.options[key], _join(path, key), suggest)
        case Mapping():
            return {key: resolve(part, _join(path, key), suggest) for key, part in tree.items()}
        case list():
            return [resolve(part, _join(path, i), suggest) for i, part in enumerate(tree)]
        case _:
            return tree


def project(tree: Any, found: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the parameters that stand for an experiment's data, where the subtree has any."""
    match tree:
        case Floats() | Integers():
            if isinstance(found, int | float) and not isinstance(found, bool):
                yield path, tree.clip(found)
        case Choice():
            distances = {key: distance(option, found) for key, option in tree.options.items()}
            offered = {key: far for key, far in distances.items() if far is not None}
            if offered:
                nearest = min(offered, key=lambda key: offered[key])
                yield path, nearest
                yield from project(tree.options[nearest], found, _join(path, nearest))
        case Mapping():
            if isinstance(found, Mapping) and distance(tree, found) is not None:
                for key, part in tree.items():
                    if key in found:
                        yield from project(part, found[key], _join(path, key))
        case list():
            if isinstance(found, list) and len(found) == len(tree):
                for index, (part, value) in enumerate(zip(tree, found, strict=True)):
                    yield from project(part, value, _join(path, index))


def distance(tree: Any, found: Any) -> int | None:
    """Count the settings in which a value differs from a subtree; None where it is another kind.

    Branches of one `name` (a critic held by a penalty, one by clipped weights) are told apart so.
    """
    match tree:
        case Floats() | Integers():
            if not isinstance(found, int | float) or isinstance(found, bool):
                return None
            return 0 if tree.contains(found) else 1
        case Choice():
            parts = (distance(option, found) for option in tree.options.values())
            return min((part for part in parts if part is not None), default=None)
        case Mapping():
            if not isinstance(found, Mapping):
                return None
            if "name" in tree and tree["name"] != found.get("name"):
                return None
            parts = [distance(part, found.get(key)) for key, part in tree.items()]
            return sum(1 if part is None else part for part in parts)
        case list():
            if not isinstance(found, list) or len(found) != len(tree):
                return None
            parts = [distance(*pair) for pair in zip(tree, found, strict=True)]
            return None if None in parts else sum(part or 0 for part in parts)
        case _:
            return 0 if tree == found else None


def is_fixed(tree: Any) -> bool:
    """Tell whether nothing is searched in a subtree that is there."""
    return bool(tree) and next(walk(tree, "", {}), None) is None
