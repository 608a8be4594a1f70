"""What a plugin's author may write, and how the rest is refused."""

import contextlib
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.data import Transform
from zoo.errors import SpecError, ZooError
from zoo.spec import (
    API,
    IMAGENET,
    STD_255,
    DatasetSpec,
    KeyMap,
    Model,
    Plugin,
    Preprocess,
    unscaled,
)

BUILD = "family.model:build"


def test_a_field_holds_what_its_type_says_however_it_was_given() -> None:
    row = Model("net", build="a:b", preprocess={"input_size": (3, 8, 8)}, stages=["conv"])  # type: ignore[arg-type]
    assert row.preprocess == Preprocess(input_size=(3, 8, 8))
    assert row.stages == ("conv",)
    assert Plugin("x", API, [row]).models == (row,)  # type: ignore[arg-type]


def test_a_row_says_which_field_is_wrong_and_what_was_expected() -> None:
    with pytest.raises(SpecError, match=r"Model 'net': params = 'many': Expected `int`, got `str`"):
        Model("net", build=BUILD, params="many")  # type: ignore[arg-type]


def test_a_spec_error_is_a_zoo_error_and_a_value_error() -> None:
    assert issubclass(SpecError, ZooError)
    assert issubclass(SpecError, ValueError)


@pytest.mark.parametrize("name", ["", "Net", "net-20", "net.20", "a/", "/b", "a/b/c", "_net", "net 20", "nét"])
def test_names_outside_the_grammar_are_refused(name: str) -> None:
    for make in (lambda: Model(name, build=BUILD), lambda: Plugin(name, 1, ()), lambda: DatasetSpec(name, BUILD)):
        with pytest.raises(SpecError, match="a name has lower case"):
            make()


def test_only_a_model_may_be_named_in_full_and_only_in_a_collection() -> None:
    model = Model("family/net", build=BUILD)
    for make in (lambda: Plugin("a/b", 1), lambda: DatasetSpec("a/b", BUILD)):
        with pytest.raises(SpecError, match="a name has lower case"):
            make()
    with pytest.raises(SpecError, match="only models of a collection"):
        Plugin("family", 1, (model,))


def test_a_fitted_model_has_a_train_hook_of_its_own() -> None:
    assert Model("net", build=BUILD, train="family.training:train", fitted=True).params == 0
    with pytest.raises(SpecError, match=r"fitted needs a train hook that fits; zoo\.training:train trains"):
        Model("net", build=BUILD, fitted=True)


def test_a_plugin_has_models_or_a_collection() -> None:
    with pytest.raises(SpecError, match="not both"):
        Plugin("family", 1, (Model("net", build=BUILD),), collection="family.all:read")
    with pytest.raises(SpecError, match=r"'package\.module:function'"):
        Plugin("family", 1, collection="family.all")


@pytest.mark.parametrize("hook", ["", "build", "package.build", "package:", ":build", "a:b:c", "a/b:c", "a:b()"])
@pytest.mark.parametrize("field", ["build", "train", "evaluate"])
def test_a_hook_that_cannot_be_imported_by_its_form_is_refused(field: str, hook: str) -> None:
    with pytest.raises(SpecError, match=r"'package\.module:function'"):
        Model("net", **{"build": BUILD, field: hook})


@pytest.mark.parametrize("resource", ["weights.toml", "package:", "package:a b", "/etc:passwd"])
def test_a_resource_names_its_package(resource: str) -> None:
    with pytest.raises(SpecError, match="'package:path'"):
        Plugin("family", 1, (), weights=(resource,))


def test_a_plugin_cannot_name_two_models_alike() -> None:
    with pytest.raises(SpecError, match="duplicate models: net"):
        Plugin("family", 1, (Model("net", build=BUILD), Model("other", build=BUILD), Model("net", build=BUILD)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input_size": (3, 0, 32)}, "must be positive"),
        ({"crop_pct": 0.0}, r"must be in \(0, 2\)"),
        ({"crop_pct": float("nan")}, r"must be in \(0, 2\)"),
        ({"crop_pct": 87.5}, r"must be in \(0, 2\): a fraction"),
        ({"input_size": (1, 28, 28)}, "3 means and 3 stds for 1 channels"),
        ({"std": (1.0, 0.0, 1.0)}, "must be positive"),
        ({"interpolation": "lanczos"}, "Invalid enum value 'lanczos'"),
        ({"input_size": (3, 32)}, "Expected `array` of length 3"),
    ],
)
def test_preprocessing_that_cannot_be_done_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Preprocess(**fields)


@pytest.mark.parametrize("fields", [{"params": -1}, {"macs": -1}, {"num_classes": -1}])
def test_counts_are_not_negative(fields: dict[str, int]) -> None:
    with pytest.raises(SpecError):
        Model("net", build=BUILD, **fields)  # type: ignore[arg-type]


def test_a_key_map_with_a_bad_expression_is_refused() -> None:
    with pytest.raises(SpecError, match="is not a regular expression"):
        KeyMap("other", rename=(("layer(", "layer"),))


@given(
    st.dictionaries(
        st.sampled_from(
            ["name", "build", "args", "paper", "params", "num_classes", "head", "stages", "requires", "note"]
        ),
        st.none() | st.integers() | st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.integers()),
    )
)
def test_whatever_is_written_the_answer_is_a_row_or_a_spec_error(fields: dict[str, Any]) -> None:
    with contextlib.suppress(SpecError):
        Model(**{"name": "net", "build": BUILD, **fields})


def test_presets_leave_pixels_in_the_range_that_they_name() -> None:
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).repeat(8, 4).expand(3, 8, 8)
    gray = Transform(unscaled(1, 8)).batch(black_and_white[None, :1])
    assert gray.unique().tolist() == [0, 1]
    bytes_ = Transform(Preprocess((3, 8, 8), 1.0, mean=(0.0,) * 3, std=STD_255)).batch(black_and_white[None])
    assert bytes_.unique().tolist() == pytest.approx([0, 255])
    assert Preprocess() == IMAGENET
