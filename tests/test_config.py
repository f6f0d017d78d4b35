from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from colorization import config
from colorization.config import Config, ConfigError


class Cat(Config):
    name: Literal["cat"] = "cat"
    lives: int = Field(default=9, ge=1, le=9, description="how many are left")


class Fish(Config):
    name: Literal["fish"] = "fish"
    depth: float = Field(default=1.0, gt=0)
    food: str


class Part(Config):
    weight: float = 1.0


class Household(Config):
    pet: Annotated[Cat | Fish, Field(discriminator="name")] = Cat()
    rate: float = Field(default=1e-3, gt=0, le=1)
    rooms: tuple[int, int] = (2, 3)
    parts: dict[str, Part] = Field(default={})
    owner: str | None = None


def parsed(*overrides: str) -> Household:
    return config.parse(Household, config.override({}, config.parse_overrides(overrides)))


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(*overrides)
    return str(caught.value)


def test_a_number_that_yaml_reads_as_text_is_a_number() -> None:
    assert config.parse_overrides(["rate=1e-5"]) == {"rate": "1e-5"}
    assert parsed("rate=1e-5").rate == 1e-5


def test_values_are_read_as_yaml() -> None:
    household = parsed("rooms=[4, 5]", "owner=Ada", "pet={name: fish, food: flies}")
    assert household.rooms == (4, 5)
    assert household.owner == "Ada"
    assert household.pet == Fish(food="flies")
    assert parsed("owner=null").owner is None


def test_an_unknown_setting_names_the_nearest_and_all_known_ones() -> None:
    message = refusal("rat=1")
    assert message.startswith("rat: unknown setting; did you mean 'rate'? ")
    assert "known here: owner, parts, pet, rate, rooms" in message


def test_an_unknown_setting_of_a_part_names_the_parts_own_settings() -> None:
    message = refusal("pet.live=3")
    assert message == ("pet.live: unknown setting; did you mean 'lives'? known here: lives, name")


def test_a_setting_of_another_kind_tells_which_kind_it_belongs_to() -> None:
    message = refusal("pet.depth=3")
    assert "pet.depth: unknown setting; it belongs to fish: set pet.name=fish too" in message


def test_a_value_out_of_bounds_is_shown_with_the_bound() -> None:
    assert refusal("rate=0") == "rate: found 0; input should be greater than 0"
    assert "found 12" in refusal("pet.lives=12")
    assert "less than or equal to 9" in refusal("pet.lives=12")


def test_a_value_of_the_wrong_kind_is_shown() -> None:
    assert refusal("rate=fast").startswith("rate: found 'fast'; ")
    assert refusal("rate=.nan").startswith("rate: found nan; ")
    assert refusal("rate=.inf").startswith("rate: found inf; ")


def test_a_missing_value_is_named() -> None:
    assert refusal("pet.name=fish") == "pet.food: a value is needed"
    assert refusal("rooms=[1]") == "rooms.1: a value is needed"


def test_a_wrong_kind_is_answered_with_the_nearest_and_all_known_ones() -> None:
    assert refusal("pet.name=fsh") == "pet.name: found 'fsh'; did you mean 'fish'? known: cat, fish"


def test_a_wrong_setting_of_a_named_part_is_named_with_the_part() -> None:
    message = refusal("parts.roof.wight=2")
    assert message == (
        "parts.roof.wight: unknown setting; did you mean 'weight'? known here: weight"
    )


def test_every_fault_has_a_line_of_its_own_behind_the_origin() -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(Household, {"rate": 2, "rats": 3}, "house.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("house.yaml: rat") for line in lines)


def test_a_part_given_without_its_name_is_the_defaults_kind() -> None:
    assert parsed("pet.lives=3").pet == Cat(lives=3)


def test_a_new_name_drops_the_settings_of_the_other_kind_in_any_order() -> None:
    data = {"pet": {"name": "cat", "lives": 3}}
    for words in (["pet.name=fish", "pet.food=flies"], ["pet.food=flies", "pet.name=fish"]):
        changed = config.override(data, config.parse_overrides(words))
        assert changed == {"pet": {"name": "fish", "food": "flies"}}
    assert data == {"pet": {"name": "cat", "lives": 3}}
    same = config.override(data, {"pet.name": "cat"})
    assert same == data


@pytest.mark.parametrize("word", ["rate", "=3", "pet..lives=3", ".rate=3"])
def test_a_word_that_is_no_setting_is_refused_with_an_example(word: str) -> None:
    with pytest.raises(ConfigError, match="write key=value"):
        config.parse_overrides([word])


def test_a_value_that_is_no_yaml_is_refused_with_its_key() -> None:
    with pytest.raises(ConfigError, match=r"^rooms: cannot read the value '\[1, 2'"):
        config.parse_overrides(["rooms=[1, 2"])


def test_a_setting_below_a_plain_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rate\.x: rate is 1, it has no settings of its own"):
        config.override({"rate": 1}, {"rate.x": 2})


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file .*missing\.yaml"):
        config.read_yaml(tmp_path / "missing.yaml")
    for content, message in (
        (b"a: [1", "is not YAML"),
        (b"- 1\n- 2", "holds list, a mapping of settings is needed"),
        (b"", "holds NoneType"),
        (b"\xff\xfe\x00", "cannot read"),
    ):
        path = tmp_path / "broken.yaml"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"broken\.yaml") as caught:
            config.read_yaml(path)
        assert message in str(caught.value)


def test_yaml_and_back_is_the_same_config(tmp_path: Path) -> None:
    household = parsed("rate=1e-7", "pet={name: fish, food: flies}", "parts.roof.weight=2")
    path = tmp_path / "house.yaml"
    path.write_text(config.to_yaml(config.dump(household)))
    assert config.parse(Household, config.read_yaml(path)) == household


def test_a_config_is_a_value_that_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Cat().lives = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_flat_keys_are_dotted_and_lists_stay_values() -> None:
    flat = config.flatten(config.dump(parsed("parts.roof.weight=2")))
    assert flat["pet.lives"] == 9
    assert flat["parts.roof.weight"] == 2
    assert flat["rooms"] == [2, 3]


def test_the_listing_of_settings_says_what_is_allowed() -> None:
    listed = {
        key: (value, allowed, text) for key, value, allowed, text in config.settings(parsed())
    }
    assert listed["pet.name"][:2] == ("cat", "cat | fish")
    assert listed["pet.lives"] == (9, "int >= 1, <= 9", "how many are left")
    assert listed["rate"][:2] == (1e-3, "float > 0, <= 1")


always = settings(derandomize=True, deadline=None, max_examples=100)
T = TypeVar("T")
keys = st.text(
    st.characters(exclude_characters=".=", exclude_categories=["Cs"]), min_size=1
).filter(lambda key: key != "name")
plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
leaves = plain | st.lists(plain | st.lists(plain, max_size=2), max_size=3)
trees = st.dictionaries(
    keys, st.recursive(leaves, lambda below: st.dictionaries(keys, below), max_leaves=8), max_size=4
)


def outcome(call: Callable[[], T]) -> tuple[str | None, T | None]:
    """Return what a ConfigError says, or what the call returns."""
    try:
        return None, call()
    except ConfigError as error:
        return str(error), None


def as_words(tree: dict[str, Any]) -> list[str]:
    flat = config.flatten(tree)
    return [f"{key}={yaml.safe_dump(value)}" for key, value in flat.items()]


@always
@given(trees)
def test_any_settings_written_as_overrides_come_back(tree: dict[str, Any]) -> None:
    changes = config.parse_overrides(as_words(tree))
    assert changes == config.flatten(tree)
    assert config.override({}, changes) == tree


@always
@given(trees, trees)
def test_overrides_change_what_they_name_and_nothing_else(
    tree: dict[str, Any], changes: dict[str, Any]
) -> None:
    flat = config.flatten(changes)
    before = config.flatten(tree)
    error, after = outcome(lambda: config.override(tree, flat))
    assert error is None or "it has no settings of its own" in error
    assert config.flatten(tree) == before
    if after is not None:
        found = config.flatten(after)
        untouched = [key for key in before if not any(overlap(key, changed) for changed in flat)]
        assert {key: found[key] for key in untouched} == {key: before[key] for key in untouched}


def overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


@always
@given(st.lists(st.text(), max_size=3) | st.lists(st.from_regex(r"[a-z.]{1,6}=.*"), max_size=3))
def test_any_other_words_are_read_or_refused_in_our_own_words(words: list[str]) -> None:
    error, household = outcome(lambda: parsed(*words))
    assert bool(error) != isinstance(household, Household)


@pytest.mark.parametrize(
    "value",
    [
        "2024-13-40",
        "2024-01-02",
        "!!int abc",
        "!!float abc",
        "!!set {a, b}",
        "!!binary YQ==",
        "!!python/object:os.system {}",
        "&a [*a]",
        "{[1]: 2}",
        "{{a: 1}: 2}",
        "9" * 5000,
        "[" * 3000,
        "\x00",
    ],
)
def test_a_value_of_a_kind_that_no_setting_has_is_refused_with_its_key(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^owner: cannot read the value '"):
        config.parse_overrides([f"owner={value}"])


@always
@given(
    st.sampled_from(["pet", "rate", "rooms", "parts", "owner", "pet.lives", "parts.a.weight"]),
    leaves,
)
def test_any_value_of_a_setting_is_taken_or_refused_by_its_key(key: str, value: object) -> None:
    error, _ = outcome(lambda: config.parse(Household, config.override({}, {key: value})))
    assert error is None or key.split(".")[0] in error
