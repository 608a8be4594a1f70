"""The grammar of names, and their order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import UnknownNameError
from zoo.names import Name, as_part, is_part, natural, parse

PART = st.from_regex(r"[a-z0-9][a-z0-9_]*", fullmatch=True)
OPTIONAL = st.just("") | PART


@given(OPTIONAL, PART, OPTIONAL)
def test_a_name_is_read_back_as_it_was_written(plugin: str, arch: str, tag: str) -> None:
    assert parse(str(Name(plugin, arch, tag))) == (plugin, arch, tag)


@given(st.text() | st.text(alphabet="ab0_./A-\n", max_size=12))
def test_any_text_is_a_name_or_refused_as_unknown(text: str) -> None:
    try:
        parsed = parse(text)
    except UnknownNameError:
        return
    assert str(parsed) == text


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".b", "a/b/c", "a.b.c", "A", "a b", "a\n", "_a", "-o", "../a", "a.pth"]
)
def test_what_only_resembles_a_name(text: str) -> None:
    if text == "a.pth":  # a file's name may be one: the registry does not know it
        assert parse(text).tag == "pth"
    else:
        with pytest.raises(UnknownNameError):
            parse(text)


def test_a_path_is_pointed_to_the_option_for_files() -> None:
    with pytest.raises(UnknownNameError, match="--weights FILE"):
        parse("./weights/resnet20.safetensors")


@given(st.text(alphabet="abc_", max_size=4), st.integers(0, 10**30), st.integers(0, 10**30), st.text("xyz", max_size=3))
def test_numbers_in_names_order_by_value(head: str, left: int, right: int, tail: str) -> None:
    is_before = natural(f"{head}{left}{tail}") < natural(f"{head}{right}{tail}")
    assert is_before == (left < right)


@given(st.text() | st.text(alphabet="a0²٣9", max_size=8), st.text() | st.text(alphabet="a0²٣9", max_size=8))
def test_any_two_texts_can_be_compared(left: str, right: str) -> None:
    assert (natural(left) < natural(right)) + (natural(right) < natural(left)) + (natural(left) == natural(right)) == 1


def test_a_number_of_any_length_can_be_sorted() -> None:
    assert natural("9" * 5000) > natural("8" * 5000)


def test_the_order_that_a_person_expects() -> None:
    names = ["resnet101", "resnet18", "plain20", "resnet1202", "resnet18_v1", "resnet20"]
    expected = ["plain20", "resnet18", "resnet18_v1", "resnet20", "resnet101", "resnet1202"]
    assert sorted(names, key=natural) == expected


@given(st.text())
def test_any_text_can_be_made_a_part(text: str) -> None:
    assert is_part(as_part(text))
