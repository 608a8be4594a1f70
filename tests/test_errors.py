"""Suggestions for unknown names."""

import random
from difflib import SequenceMatcher, get_close_matches

import pytest

from zoo import registry
from zoo.errors import UnknownNameError

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_"


def misspelt(name: str, chance: random.Random) -> str:
    """Returns ``name`` with a letter left out, added, changed, or changed places with the next."""
    place = chance.randrange(1, len(name) - 1)
    before, letter, after = name[:place], name[place], name[place + 1 :]
    other = chance.choice(LETTERS)
    return before + chance.choice(["", other + letter, other, after[:1] + letter]) + after


@pytest.mark.first(3)
@pytest.mark.parametrize("seed", range(8))
def test_a_suggestion_among_many_names_is_as_near_as_the_nearest_of_all(seed: int) -> None:
    """By the standard library's measure, over all names of timm's models and weights."""
    chance = random.Random(seed)
    listed = registry.current().named(registry.current().collections)
    known = [text for one in listed for text in (one.name, *(f"{one.name}.{tag}" for tag in one.tags))]
    assert len(known) > 3000
    wrong = misspelt(chance.choice(known), chance)
    suggested = UnknownNameError.of("model", wrong, known).hint.removeprefix("Did you mean ").removesuffix("?")
    ratios = [
        SequenceMatcher(None, near, wrong).ratio()
        for near in (suggested.partition(" or ")[0], get_close_matches(wrong, known, n=1)[0])
    ]
    assert ratios[0] == ratios[1]
