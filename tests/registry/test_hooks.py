"""What a file of weights may say of how its network is built."""

import math
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo import registry
from zoo.convert import convert
from zoo.errors import SpecError, UnknownNameError, WeightsError
from zoo.loading import safetensors_file
from zoo.registry import hooks
from zoo.spec import Argument, Preprocess


def written(folder: Path, args: dict[str, Any], model: str = "resnet20", tensors: Any = None) -> Path:
    file = folder / "net.safetensors"
    state = zoo.create(model).state_dict() if tensors is None else tensors
    safetensors_file.write(state, file, {"model": model, "args": args})
    return file


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"depth": 6_000_002}, "depth = 6000002"),
        ({"depth": 32}, "depth = 32"),
        ({"shortcut": "D"}, "shortcut = 'D'"),
        ({"shortcut": True}, "shortcut = True"),
        ({"checkpoint_path": "/etc/passwd"}, "checkpoint_path = '/etc/passwd'"),
        ({"num_classes": 5}, "num_classes = 5"),
    ],
)
def test_a_file_sets_no_argument_that_the_row_does_not_declare(args: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = written(tmp_path, args)
    with pytest.raises(WeightsError) as caught:
        zoo.create("resnet20", weights=file)
    assert str(file) in caught.value.message
    assert said in caught.value.message
    assert "shortcut" in caught.value.hint


def test_nor_does_one_that_is_converted(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="depth = 32"):
        convert(written(tmp_path, {"depth": 32}), "resnet20", tmp_path / "resnet20.other.safetensors")


@pytest.mark.parametrize("args", [{"model_name": "hf-hub:stranger/net"}, {"checkpoint_path": "x"}, {"tag": "../x"}])
def test_a_file_does_not_choose_what_timm_builds(args: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="needs zoo-vision[timm]")
    file = written(tmp_path, args, "timm/resnet10t", {})
    with pytest.raises(WeightsError, match=f"sets {next(iter(args))}"):
        zoo.create("timm/resnet10t", weights=file)


def test_what_the_row_declares_or_says_itself_a_file_may_set(tmp_path: Path) -> None:
    state = zoo.create("resnet20", shortcut="B").state_dict()
    module = zoo.create("resnet20", weights=written(tmp_path, {"depth": 20, "shortcut": "B"}, tensors=state))
    assert module.state_dict().keys() == state.keys()


def test_the_callers_argument_wins_over_the_files(tmp_path: Path) -> None:
    state = zoo.create("resnet32").state_dict()
    file = written(tmp_path, {"depth": 6_000_002}, tensors=state)
    assert zoo.create("resnet20", weights=file, depth=32).zoo_info.args["depth"] == 32
    plain = written(tmp_path, {"shortcut": "B"})
    assert zoo.create("resnet20", weights=plain, shortcut="A").zoo_info.args["shortcut"] == "A"


def test_a_manifest_of_a_hub_sets_no_other_argument_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, {})
    digest = safetensors_file.write(safetensors_file.read(file), tmp_path / "of.safetensors", {})
    entry = f'[resnet20.of]\nfile = "of.safetensors"\nsha256 = "{digest}"\nargs = {{ depth = 6000002 }}\n'
    (tmp_path / "manifest.toml").write_text(entry)
    monkeypatch.setenv("ZOO_HUB", str(tmp_path))
    registry.clear()
    with pytest.raises(WeightsError, match=r"resnet20\.of sets depth = 6000002"):
        zoo.create("resnet20.of")


def test_every_entry_of_the_built_in_families_keeps_to_what_its_row_declares() -> None:
    registered = registry.current()
    for entry in registered.models(registered.collections):
        for weights in entry.weights:
            assert hooks.args_of_file(entry.model, weights.args, weights.name) == weights.args


@pytest.mark.parametrize("row", [row for row in registry.current().plugins if row.plugin], ids=lambda row: row.name)
def test_a_family_declares_only_arguments_that_it_takes(row: Any) -> None:
    builds = {model.build: model.requires for model in row.plugin.models}
    builders = [registry.hook(build, requires) for build, requires in builds.items()]
    known = {name for builder in builders for name in hooks.args_of(builder) or ()}
    assert row.plugin.file_args.keys() <= known


@pytest.mark.parametrize(
    ("argument", "takes", "refuses"),
    [
        (Argument(("A", None)), ["A", None], ["B", "", 0, False, ["A"]]),
        (Argument((True, False)), [True, False], [1, 0, "true", None]),
        (Argument(least=1, most=8), [1, 8], [0, 9, 1.0, True, "1", math.nan, [1]]),
        (Argument(least=0.0, most=1.0), [0, 1, 0.5], [-0.1, 1.1, math.nan, math.inf, False]),
        (Argument(least=1, most=8, longest=2), [[], [1, 8], (3,), 3], [[1, 2, 3], [0], [[1]], ["1"]]),
        (Argument(pattern="[a-z]*"), ["", "abc"], ["A", "abc\n", 1, None]),
    ],
)
def test_an_argument_takes_values_of_its_type_within_its_bounds(
    argument: Argument, takes: list[object], refuses: list[object]
) -> None:
    assert all(map(argument.takes, takes))
    assert not any(map(argument.takes, refuses))


@pytest.mark.parametrize("size", [(10**6, 8, 8), (3, 10**5, 8), (3, 8, 10**5)])
def test_an_input_beyond_all_reason_is_refused(size: tuple[int, int, int]) -> None:
    with pytest.raises(SpecError, match="input_size"):
        Preprocess(input_size=size, mean=(0.0,) * size[0], std=(1.0,) * size[0])


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("resnet20", {"num_clases": 5}, "resnet20 has no argument 'num_clases'.\nDid you mean num_classes?"),
        ("resnet20.c10", {"shortcutt": "A"}, "Did you mean shortcut?"),
        ("resnet20", {"zzz": 1}, "Arguments: depth, shortcut"),
    ],
)
def test_a_misspelt_argument_is_answered_with_the_nearest(name: str, args: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        zoo.create(name, **args)
    assert said in str(caught.value)


def test_training_with_an_argument_that_its_file_cannot_set_says_so_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UnknownNameError, match="Unknown data set"), caplog.at_level("WARNING", logger="zoo"):
        zoo.train("resnet20", "zzz", args={"depth": 8, "shortcut": "B"}, output=tmp_path / "run")
    assert [record.getMessage() for record in caplog.records] == [
        "resnet20: a weights file cannot set depth: pass it again (--arg) whenever you load the trained network"
    ]
