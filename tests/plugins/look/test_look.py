"""Looking: layers and maps, invariance curves against exact cases, CKA against its definition, whitening."""

import io
import json
import math
from pathlib import Path
from typing import Any

import click
import numpy
import pytest
import torch
from PIL import Image
from support.command import ask_warm, told
from support.seeded import noise as normal
from support.seeded import uniform as noise
from torch import Tensor, nn

import zoo
import zoo_look as look
from zoo import data as datasets
from zoo.data import ImageSet
from zoo.errors import DataError, UnknownNameError, WeightsError
from zoo_look.alignment import cka
from zoo_look.cli import look as look_group
from zoo_look.invariance_curves import STRENGTHS, transform
from zoo_look.network import as_input, captured, opened


def picture(side: int = 32) -> Image.Image:
    return Image.fromarray((noise(side, side, 3) * 255).to(torch.uint8).numpy())


def state_of(network: nn.Module) -> list[Any]:
    """Returns all that looking could leave behind."""
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules()]
    flags = [(parameter.requires_grad, parameter.grad is None) for parameter in network.parameters()]
    return [hooks, flags, [module.training for module in network.modules()]]


def interrupt(network: nn.Module) -> None:
    """Interrupts as a person who presses Ctrl-C while a network is looked at."""
    with opened(network), captured(network, ["conv1"]):
        network(as_input(network, picture()))
        raise KeyboardInterrupt


# ---- Layers and maps ----


def test_layers_are_listed_with_their_shapes() -> None:
    found = {layer.name: layer for layer in look.layers("resnet20.c10")}
    assert (found["conv1"].kind, found["conv1"].shape) == ("Conv2d", (16, 32, 32))
    assert found["layer2.0.conv1"].shape == (32, 16, 16)
    assert found["fc"].shape == (10,)


def test_a_module_that_runs_twice_is_counted() -> None:
    network = zoo.create("resnet20")
    network.layer1[0].act2 = network.layer1[0].act1
    assert {layer.name: layer.calls for layer in look.layers(network)}["layer1.0.act1"] == 2


def test_maps_are_what_the_layer_puts_out() -> None:
    network = zoo.create("resnet20.c10")
    result = look.features(network, picture(), "conv1")
    with torch.no_grad():
        expected = network.conv1(zoo.preprocess(network)(picture())[None])[0]
    assert torch.equal(result.maps, expected)  # what comes next works in place on other tensors
    assert result.facts()["shape"] == [16, 32, 32]
    torch.testing.assert_close(result.image, torch.from_numpy(numpy.array(picture())).permute(2, 0, 1) / 255)
    assert look.features(network, picture(), "fc").maps.shape == (10, 1, 1)


def test_a_layer_that_puts_out_images_is_shown_as_pixels_before_and_after(tmp_path: Path) -> None:
    """A spatial transformer that turns by a quarter: each point (x, y) of its output is found at (-y, x)."""
    network = zoo.create("stn_cnn_mnist")
    with torch.no_grad():
        network.transformer.theta.bias.copy_(torch.tensor([0.0, -1, 0, 1, 0, 0]))
    pixels = torch.rand(3, 1, 42, 42, generator=torch.Generator().manual_seed(0))
    preprocess = network.zoo_info.preprocess
    images = [(image - preprocess.mean[0]) / preprocess.std[0] for image in pixels]
    result = look.before_and_after(network, images, "transformer")
    torch.testing.assert_close(result.before, pixels)
    torch.testing.assert_close(result.after, pixels.rot90(1, (2, 3)), rtol=0, atol=1e-4)
    for suffix, kind in ((".png", "PNG"), (".webp", "WEBP")):
        with Image.open(result.save(tmp_path / f"pairs{suffix}")) as picture:
            assert picture.format == kind
    with pytest.raises(WeightsError, match=r"features\.conv1 outputs 32 x 34 x 34, not images of 1 x 42 x 42"):
        look.before_and_after(network, images, "features.conv1")


def test_an_unknown_layer_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        look.features("resnet20.c10", picture(), "layer1.0.conv9")
    assert "layer1.0.conv1" in str(caught.value.hint)


@pytest.mark.parametrize("interrupted", [False, True])
def test_nothing_is_left_on_a_network(interrupted: bool) -> None:
    network = zoo.create("resnet20.c10").train()
    network.layer1.eval()
    network.conv1.weight.requires_grad_(False)
    before = state_of(network)
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            interrupt(network)
    else:
        look.features(network, picture(), "layer2")
        look.invariance([network], digits(), strengths={"blur": [1]}, limit=2)
    assert state_of(network) == before


def test_a_picture_is_a_file_an_image_or_what_the_network_takes(tmp_path: Path) -> None:
    network = zoo.create("resnet20.c10")
    picture().save(tmp_path / "p.png")
    prepared = as_input(network, picture())
    assert torch.equal(as_input(network, tmp_path / "p.png"), prepared)
    assert torch.equal(as_input(network, prepared[0]), prepared)
    for wrong in (torch.zeros(3, 32), torch.zeros(3, 32, 32, dtype=torch.uint8), torch.full((3, 4, 4), math.nan)):
        with pytest.raises(DataError, match="expected finite"):
            as_input(network, wrong)


# ---- Transformations ----


def test_zero_is_no_transformation() -> None:
    image = noise(2, 3, 9, 11)
    for name, nothing in {"translation": 0, "rotation": 0, "scale": 1, "shear": 0, "brightness": 0, "blur": 0}.items():
        torch.testing.assert_close(transform(image, name, nothing), image, atol=1e-6, rtol=0)
    torch.testing.assert_close(transform(image, "contrast", 1), image, atol=1e-6, rtol=0)


def test_moves_of_whole_pixels_are_exact() -> None:
    image = noise(2, 3, 8, 8)
    right = transform(image, "translation", 3 / 8, "circular")
    torch.testing.assert_close(right, image.roll(3, dims=3), atol=1e-5, rtol=0)
    torch.testing.assert_close(transform(image, "rotation", 90), image.rot90(1, (2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(transform(image, "translation", 1 / 8, "zeros")[..., 0], torch.zeros(2, 3, 8))


def test_rotation_and_shear_are_torchvisions_also_of_oblong_images() -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2.functional", reason="torchvision is not installed")
    from torchvision.transforms import InterpolationMode

    image = noise(1, 1, 20, 31)
    for name, strength, theirs in (
        ("rotation", 30.0, {"angle": -30.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}),
        ("scale", 1.5, {"angle": 0.0, "translate": [0, 0], "scale": 1.5, "shear": [0.0, 0.0]}),
        ("shear", 20.0, {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [20.0, 0.0]}),
    ):
        expected = v2.affine(image, interpolation=InterpolationMode.BILINEAR, **theirs)
        torch.testing.assert_close(transform(image, name, strength, "zeros"), expected, atol=2e-3, rtol=0)


def test_blur_is_scipys_and_jpeg_is_pillows() -> None:
    ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is not installed")
    image = noise(1, 1, 24, 24)
    expected = ndimage.gaussian_filter(image[0, 0].double().numpy(), 1.0, mode="mirror", truncate=3.0)
    torch.testing.assert_close(
        transform(image, "blur", 1.0)[0, 0].double(), torch.from_numpy(expected), atol=1e-5, rtol=0
    )
    buffer = io.BytesIO()
    gray = Image.fromarray((image[0, 0] * 255).round().to(torch.uint8).numpy())
    gray.save(buffer, "JPEG", quality=30)
    decoded = torch.from_numpy(numpy.array(Image.open(buffer))) / 255
    torch.testing.assert_close(transform(image, "jpeg", 30)[0, 0], decoded)


def test_strengths_that_are_none_are_refused() -> None:
    for name, strength in {"scale": 0, "shear": 90, "blur": -1, "jpeg": 0, "rotation": math.inf}.items():
        with pytest.raises(zoo.SpecError, match=r"not a valid transformation|expected 1 to 100"):
            transform(noise(1, 3, 8, 8), name, strength)


# ---- Invariance ----


class Circular(nn.Module):
    """Circular padding, stride 2 twice, and the mean over all places: blind to shifts of 4 pixels, not of 1."""

    num_classes = 5

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, 2, 1, padding_mode="circular")
        self.second = nn.Conv2d(8, 16, 3, 2, 1, padding_mode="circular")
        self.fc = nn.Linear(16, 5)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()).relu()

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = x.mean((2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def digits(count: int = 24) -> ImageSet:
    pixels = (noise(count, 3, 32, 32) * 255).to(torch.uint8)
    classes = ("airplane", "automobile", "bird", "cat", "deer")
    return ImageSet("noise", "test", classes, torch.arange(count) % 5, pixels)


def circular() -> nn.Module:
    network = Circular()
    network.zoo_info = zoo.create("resnet20").zoo_info
    return network


def test_a_network_that_is_blind_to_shifts_of_four_pixels_is_found_to_be() -> None:
    shifts = [0, 1 / 32, 2 / 32, 3 / 32, 4 / 32, 8 / 32]
    curves = look.invariance([circular()], digits(), strengths={"translation": shifts}, edges="circular")
    alike = [point.similarity for point in curves.points]
    assert [value == pytest.approx(1, abs=1e-5) for value in alike] == [True, False, False, False, True, True]
    assert {curves.points[0].correct} == {curves.points[4].correct} == {curves.points[5].correct}
    assert alike[1] < 1 - 1e-4


def test_the_untransformed_point_is_the_score(monkeypatch: pytest.MonkeyPatch) -> None:
    images = digits()
    network = circular()
    (point,) = look.invariance([network], images, strengths={"rotation": [0]}).points
    report = zoo.evaluate(network, images)
    assert (point.correct, point.n) == (report.correct, report.n)
    assert point.interval == pytest.approx(report.interval)


def test_an_unknown_transformation_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        look.invariance([circular()], digits(), strengths={"rotatoin": [1]})
    assert "rotation" in str(caught.value.hint)
    assert {"translation", "rotation", "scale", "shear", "brightness", "contrast", "blur", "jpeg"} == set(STRENGTHS)


# ---- Representations ----


def hsic_by_definition(first: Tensor, second: Tensor) -> float:
    """Computes equation 4 of Song et al. 2012: over all tuples of four different images."""
    n, total = len(first), 0.0
    for i in range(n):
        for j in range(n):
            if j == i:
                continue
            for q in range(n):
                if q in (i, j):
                    continue
                for r in range(n):
                    if r in (i, j, q):
                        continue
                    total += float(first[i, j] * (second[i, j] + second[q, r] - 2 * second[i, q]))
    return total / (n * (n - 1) * (n - 2) * (n - 3))


def test_cka_is_its_definition() -> None:
    first, second = (x @ x.T for x in (normal(7, 5, seed=seed).double() for seed in (0, 1)))
    pairs = ((first, second), (first, first), (second, second))
    crossed, own, other = (hsic_by_definition(a, b) for a, b in pairs)
    assert float(cka(first, second)) == pytest.approx(crossed / math.sqrt(own * other))


def test_a_network_is_like_itself_and_early_layers_are_unlike_late_ones() -> None:
    images = digits(40)
    result = look.representations("resnet20.c10", "resnet20.c10", images, layers_of=["layer*", "fc"])
    assert result.layers[0] == ("layer1", "layer2", "layer3", "fc")
    torch.testing.assert_close(result.cka.diagonal(), torch.ones(4).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(result.cka, result.cka.T, atol=1e-3, rtol=0)
    assert float(result.cka[0, 1]) > float(result.cka[0, 3])
    with pytest.raises(UnknownNameError):
        look.representations("resnet20.c10", "resnet20.c10", images, layers_of=["stage*"])
    with pytest.raises(DataError, match="four"):
        look.representations("resnet20.c10", "resnet20.c10", digits(3))


def test_whitening_makes_covariance_the_identity() -> None:
    result = look.whitening(datasets.load("digits", "train"), eps=1e-9, limit=1437)
    after = result.spectrum[1]
    rank = int((result.spectrum[0] > 1e-4).sum())
    assert rank > 40
    assert after[0] / after[rank - 1] < 1.02 < 100 < result.spectrum[0, 0] / result.spectrum[0, rank - 1]
    assert float(result.spectrum[0, 0]) > 0.1
    torch.testing.assert_close(result.centred, result.images - result.mean)


# ---- From the command line ----


DIGITS, SOME = ["--data", "digits"], ["--limit", "10"]
QUESTIONS = {
    "filters": ["alexnet_small.c10"],
    "diagnose": ["resnet20.digits"],
    "features": ["resnet20.digits", "--layer", "layer1", "--index", "3"],
    "deconv": ["resnet20.digits", "--layer", "layer1", "--units", "1", "--count", "2", *SOME],
    "patches": ["resnet20.digits", "--layer", "layer1", "--units", "1", "--count", "2", *SOME],
    "maximize": ["resnet20.digits", "--channel", "3", "--steps", "0"],
    "attribute": ["resnet20.digits", "--index", "3", "--method", "gradient", "--target", "8"],
    "confusion": ["resnet20.digits", *DIGITS, *SOME],
    "invariance": ["resnet20.digits", *DIGITS, *SOME, "--transform", "rotation=0,90"],
    "representations": ["resnet20.digits", "resnet20.digits", *DIGITS, *SOME, "--layers", "layer*", "--layers", "fc"],
    "whitening": [*DIGITS, *SOME],
}
"""What each command of ``zoo look`` is asked in the tests below; ``layers`` writes no file."""


def of_look(command: str) -> dict[str, click.Option]:
    """Returns the options of ``zoo look COMMAND`` by their long names."""
    found = look_group.get_command(click.Context(look_group), command)
    return {one.opts[-1]: one for one in found.params if isinstance(one, click.Option)}


def test_the_commands_share_their_options_and_defaults() -> None:
    assert {"layers", "trajectory", *QUESTIONS} == set(look_group.homes)  # the second: test_trajectory.py
    first: dict[str, click.Option] = {}
    for command in look_group.homes:
        for name, option in of_look(command).items():
            known = first.setdefault(name, option)
            ours, others = option.to_info_dict(), known.to_info_dict()
            if name == "--data":  # required by a command without one network
                ours, others = ({**info, "required": False, "help": ""} for info in (ours, others))
            assert ours == others, f"zoo look {command} {name}"
    assert first["--split"].default == "test"
    for command in QUESTIONS:
        assert {"--output", "--json"} <= of_look(command).keys()


@pytest.mark.first(6)
@pytest.mark.parametrize("command", QUESTIONS)
def test_a_command_answers_in_json_and_names_the_files_that_it_wrote(command: str, tmp_path: Path) -> None:
    files = [str(tmp_path / "facts.json"), str(tmp_path / "tensors.safetensors")]
    words = ["look", command, *QUESTIONS[command], "-o", files[0], "-o", files[1]]
    answer = told(*words)
    assert (next(iter(answer)), [*answer][-1], answer["files"]) == ("caption", "files", files)
    written = json.loads((tmp_path / "facts.json").read_text(encoding="utf-8"))
    assert {**written, "files": files} == answer
    assert (tmp_path / "tensors.safetensors").stat().st_size


def test_for_a_person_the_files_are_on_standard_output_too(tmp_path: Path) -> None:
    file = str(tmp_path / "whitening.json")
    done = ask_warm("look", "whitening", *QUESTIONS["whitening"], "-o", file)
    caption = json.loads(Path(file).read_text(encoding="utf-8"))["caption"]
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-1], done.stderr) == (caption, file, "")


def test_layers_answers_in_json() -> None:
    done = ask_warm("look", "layers", "resnet20", "--json")
    found = json.loads(done.stdout)
    assert [*found] == ["caption", "layers", "files"]
    assert found["layers"][-1] == {"name": "fc", "kind": "Linear", "shape": [10], "calls": 1}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["features", "resnet20.c10", "--layer", "layer1"], "--image FILE, or --index N"),
        (["features", "resnet20.digits", "--layer", "layer1", "--data", "digits", "--index", "999"], "360 images"),
        (
            ["features", "resnet20.c10", "--layer", "conv1", "--image", __file__, "--index", "1", "--index", "2"],
            "--image FILE, or --index N",
        ),
        (["invariance", "resnet20.digits", "--data", "digits", "--transform", "rotation=a"], "rotation=0,45,90"),
        (["filter", "resnet20.c10"], "look filters'"),
    ],
)
def test_what_is_asked_wrongly_is_told(words: list[str], said: str) -> None:
    done = ask_warm("look", *words)
    assert done.exit_code == 2
    assert said in done.output
