"""Changes of a search space by `key=value` words from the command line."""

from collections.abc import Mapping, Sequence
from typing import Any

from colorization.config import ConfigError
from distributions import Choice, read_tagged


def parse_tagged_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Split `a.b=c` words into {"a.b": value}; values are YAML and may be tagged distributions.

    Raises ConfigError for a word without key or value that can be read.
    """
    changes: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"{word!r} is no setting: write key=value, e.g. train.batch_size=8")
        changes[key] = read_tagged(text, key)
    return changes


def override(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a space's document with dotted keys set.

    Keys are the experiment's; those that begin with `search.` are the search's. A new `name` begins
    its part anew, but where a choice offers that name its branch is kept, distributions and all.
    Names are set first, whatever the order of the changes.
    """
    result = dict(document)
    for key, value in sorted(changes.items(), key=lambda item: not item[0].endswith(".name")):
        keys = key.split(".")
        part = keys.pop(0) if keys[0] == "search" and len(keys) > 1 else "experiment"
        result[part] = _set(result[part], keys, value, key, [])
    return result


def _set(tree: Any, keys: list[str], value: Any, whole: str, above: list[str]) -> Any:
    if not keys:
        return value
    place, (key, *below) = ".".join(above), keys
    if isinstance(tree, Choice):
        if keys == ["name"] and (branches := _branches_named(tree, value)):
            return Choice(branches)
        if keys == ["name"] and _is_of_subtrees(tree):
            return {"name": value}
        by_text = {str(label): label for label in tree.options}
        if key in by_text and below:
            label = by_text[key]
            branch = _set(tree.options[label], below, value, whole, [*above, key])
        elif len(tree.options) == 1:
            ((label, only),) = tree.options.items()
            branch = _set(only, keys, value, whole, above)
        else:
            raise ConfigError(_which_branch(tree, keys, whole, place))
        return Choice({**tree.options, label: branch})
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{whole}: {place} is {tree}, it has no settings of its own")
    if keys == ["name"]:
        return dict(tree) if tree.get("name") == value else {"name": value}
    return {**tree, key: _set(tree.get(key, {}), below, value, whole, [*above, key])}


def _branches_named(choice: Choice, name: Any) -> dict[Any, Any]:
    if name in choice.options and isinstance(choice.options[name], Mapping):
        return {name: choice.options[name]}
    return {
        label: option
        for label, option in choice.options.items()
        if isinstance(option, Mapping) and option.get("name") == name
    }


def _is_of_subtrees(choice: Choice) -> bool:
    return any(isinstance(option, Mapping) for option in choice.options.values())


def _which_branch(choice: Choice, keys: list[str], whole: str, place: str) -> str:
    if not _is_of_subtrees(choice):
        return f"{whole}: {place} is {choice}, it has no settings of its own"
    label = next(iter(choice.options))
    return (
        f"{whole}: {place} is {choice}; pick one ({place}.name={label}), or say in which branch "
        f"({place}.{label}.{'.'.join(keys)}=...)"
    )
