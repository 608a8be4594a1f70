"""Where a checkpoint can be read in more than one way: the choice is explained, and nothing is guessed."""

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from click.testing import Result
from support.command import ask_warm

import zoo
from zoo import manifest
from zoo.errors import TensorMismatchError, WeightsError
from zoo.loading import safetensors_file
from zoo_convert import Stated, convert

AKAMASTER = Path(os.environ.get("ZOO_WEIGHTS", "unset"), "akamaster", "resnet20-12fca82f.th")
needs_weights = pytest.mark.skipif(not AKAMASTER.is_file(), reason="ZOO_WEIGHTS holds no akamaster weights")


def run(*words: object) -> Result:
    return ask_warm("convert", *words)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """The state of ``resnet20.digits``, zeros at the end, in a file that says nothing of itself."""
    file = tmp_path / "theirs.pth"
    torch.save(zoo.create("resnet20.digits").state_dict(), file)
    return file


def test_two_readings_that_compute_different_functions_are_not_chosen_between(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        convert(digits, "resnet20", tmp_path / "out.safetensors")
    message = str(caught.value)
    assert "--from as-is" in message
    assert "--from akamaster" in message
    assert "zero_channels='split'" in message
    assert "--check" in message
    assert sorted(file.name for file in tmp_path.iterdir()) == ["theirs.pth"]


@pytest.mark.parametrize("how", [{"key_map": "as-is"}, {"stated": Stated(args={"zero_channels": "end"})}])
def test_a_named_reading_or_a_stated_argument_settles_it(how: dict[str, Any], digits: Path, tmp_path: Path) -> None:
    report = convert(digits, "resnet20", tmp_path / "out.safetensors", **how)
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        got = zoo.create("resnet20", weights=report.file).eval()(image)
        torch.testing.assert_close(got, zoo.create("resnet20.digits").eval()(image))


def test_the_reading_that_scores_best_on_data_at_hand_is_taken(digits: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs zoo-vision[data]")
    preprocess = zoo.create("resnet20.digits").zoo_info.preprocess
    words = ["--mean", preprocess.mean[0], "--std", preprocess.std[0]]
    words += ["--preprocess", f"input_size={[*preprocess.input_size]}"]
    done = run(digits, "resnet20.mine", "-o", tmp_path / "out.safetensors", "--check", "digits", *words, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["key_map"] == "as-is"
    assert (report["check"]["correct"], report["check"]["n"]) == (360, 360)
    considered = {reading["key_map"]: reading for reading in report["readings"]}
    assert considered["akamaster"]["top1"] < considered["as-is"]["top1"]
    assert not considered["chenyaofo"]["fits"]


@needs_weights
def test_what_the_key_map_assumes_is_said_and_credits_nobody(tmp_path: Path) -> None:
    report = convert(AKAMASTER, "resnet20", tmp_path / "out.safetensors", key_map="akamaster")
    assert any(line.startswith("preprocess") and "0.485" in line for line in report.assumed)
    assert any(line.startswith("classes") and "cifar10" in line for line in report.assumed)
    assert report.weights == "resnet20.out"  # the file's name: nobody said whose weights these are
    origin = manifest.parse(report.entry)[0].origin
    assert "assumed" in origin
    assert "in the format of akamaster" in origin


@needs_weights
def test_what_is_stated_is_used_and_no_longer_assumed(tmp_path: Path) -> None:
    words = ["-o", tmp_path / "out.safetensors", "--mean", "0.5", "--std", "0.25,0.5,0.5", "--classes", "mine"]
    words += ["--preprocess", "crop_pct=0.9", "--preprocess", "input_size=[3, 40, 40]", "--json"]
    words += ["--preprocess", "interpolation=bicubic", "--origin", "somebody's weights"]
    words += ["--arg", "zero_channels=split"]
    done = run(AKAMASTER, "resnet20", *words)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    [entry] = manifest.parse(report["entry"])
    assert (entry.preprocess.mean, entry.preprocess.std) == ((0.5,) * 3, (0.25, 0.5, 0.5))
    assert (entry.preprocess.crop_pct, entry.preprocess.input_size) == (0.9, (3, 40, 40))
    assert entry.classes == "mine"
    assert entry.origin.startswith("somebody's weights; converted from resnet20-12fca82f.th")
    assert report["assumed"] == []
    assert "assumed" not in entry.origin


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--preprocess", "meen=0.5"), "meen"),
        (("--mean", "0.5,0.5"), "2 means"),
        (("--std", "0"), "positive"),
        (("--mean", "grey"), "grey"),
        (("--arg", "zero_chanels=split"), "zero_chanels"),
    ],
)
def test_a_wrong_statement_is_refused(words: tuple[str, str], reason: str, digits: Path, tmp_path: Path) -> None:
    done = run(digits, "resnet20", "-o", tmp_path / "out.safetensors", "--from", "as-is", *words)
    assert done.exit_code != 0
    assert reason in done.output
    assert not (tmp_path / "out.safetensors").exists()


def test_a_map_for_the_classes_of_a_data_set_says_nothing_of_another_number_of_classes(tmp_path: Path) -> None:
    file = tmp_path / "seven.pth"
    torch.save(zoo.create("googlenet_tv", num_classes=7).state_dict(), file)
    report = convert(file, "googlenet_tv", tmp_path / "out.safetensors", key_map="torchvision_googlenet")
    [entry] = manifest.parse(report.entry)
    assert (entry.num_classes, entry.classes) == (7, "")
    assert any(line.startswith("classes unknown") for line in report.assumed)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["wrn40_2", "ror3_wrn40_2"])
def test_a_map_that_another_network_of_the_family_cannot_take_is_passed_over(model: str, tmp_path: Path) -> None:
    file = tmp_path / "theirs.pth"
    torch.save(zoo.create(model).state_dict(), file)
    stated = Stated(args={"downsample": "stride"})
    assert convert(file, model, tmp_path / "out.safetensors", stated=stated).model == model


def test_a_pytorchcv_checkpoint_of_a_wide_network_converts(tmp_path: Path) -> None:
    models = pytest.importorskip("pytorchcv.models.wrn_cifar", reason="the oracle is pytorchcv's network")
    oracle = models.get_wrn_cifar(num_classes=10, blocks=40, width_factor=2).eval()
    torch.save(oracle.state_dict(), tmp_path / "theirs.pth")
    report = convert(tmp_path / "theirs.pth", "wrn40_2", tmp_path / "out.safetensors")
    assert report.key_map == "pytorchcv_wrn"
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        got = zoo.create("wrn40_2", weights=report.file).eval()(image)
        torch.testing.assert_close(got, oracle(image), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_choice_is_explained_where_other_readings_fit_too(tmp_path: Path) -> None:
    file = tmp_path / "theirs.pth"
    torch.save(zoo.create("resnet18", num_classes=3).state_dict(), file)
    done = run(file, "resnet18", "-o", tmp_path / "out.safetensors")
    assert done.exit_code == 0, done.output
    assert "key map 'as-is'" in done.stdout
    assert "chenyaofo also fits: the same network" in done.stdout


def test_a_file_that_describes_itself_is_read_as_it_says(tmp_path: Path) -> None:
    split = zoo.create("resnet20", zero_channels="split")
    about = {"model": "resnet20", "args": {"zero_channels": "split"}}
    about["preprocess"] = msgspec.to_builtins(split.zoo_info.preprocess)
    safetensors_file.write(split.state_dict(), tmp_path / "run.safetensors", about)
    report = convert(tmp_path / "run.safetensors", "resnet20", tmp_path / "out.safetensors")
    assert report.key_map == "as-is"
    assert manifest.parse(report.entry)[0].args == {"zero_channels": "split"}


def test_an_existing_file_is_not_overwritten_unasked(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"precious")
    done = run(digits, "resnet20", "-o", out, "--from", "as-is")
    assert done.exit_code == 1
    assert "--overwrite" in done.output
    assert out.read_bytes() == b"precious"
    assert run(digits, "resnet20", "-o", out, "--from", "as-is", "--overwrite").exit_code == 0
    assert safetensors_file.metadata(out)["model"] == "resnet20"


def test_the_entry_of_another_file_is_not_replaced_unasked(digits: Path, tmp_path: Path) -> None:
    convert(digits, "resnet20.mine", tmp_path / "a.safetensors", key_map="as-is")
    with pytest.raises(WeightsError, match=r"resnet20\.mine"):
        convert(digits, "resnet20.mine", tmp_path / "b.safetensors", key_map="as-is")
    assert not (tmp_path / "b.safetensors").exists()


def test_arguments_that_no_reading_can_take_are_reported(tmp_path: Path, digits: Path) -> None:
    with pytest.raises(TensorMismatchError, match="depth"):
        convert(digits, "resnet20", tmp_path / "out.safetensors", stated=Stated(args={"depth": 21}))


@pytest.mark.slow
def test_a_trunk_becomes_a_network_that_gives_features(tmp_path: Path) -> None:
    whole = zoo.create("resnet18", num_classes=4).eval()
    state = {key: tensor for key, tensor in whole.state_dict().items() if not key.startswith("fc.")}
    torch.save(state, tmp_path / "trunk.pth")
    out = tmp_path / "resnet18.trunk.safetensors"
    refused = run(tmp_path / "trunk.pth", "resnet18", "-o", out)
    assert refused.exit_code == 1
    assert "--trunk" in refused.output
    done = run(tmp_path / "trunk.pth", "resnet18", "-o", out, "--trunk", "--json")
    assert done.exit_code == 0, done.output
    [entry] = manifest.parse(json.loads(done.stdout)["entry"])
    assert (entry.num_classes, entry.classes) == (0, "")
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = zoo.create("resnet18", weights=out).eval()(image)
        torch.testing.assert_close(features, whole.forward_head(whole.forward_features(image), pre_logits=True))
    assert zoo.create("resnet18", weights=out, num_classes=6).num_classes == 6
