"""Probes: an input that anyone can make again, and a network that fails it."""

import hashlib
from pathlib import Path

import msgspec
import numpy
import pytest
import torch
from PIL import Image
from torch import nn

import zoo
from zoo import manifest, registry
from zoo.errors import IntegrityError, ProbeError
from zoo.loading import safetensors_file
from zoo.manifest import Probe, Tolerance
from zoo.spec import Preprocess
from zoo.verify import probe, worker

INPUT = Preprocess(input_size=(3, 4, 6), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), nn.Flatten(), nn.Linear(64, 12))


def test_the_input_is_that_of_the_manifests_words() -> None:
    """SHAKE-256 over zoo-probe-<seed>, uint8, B C H W, over 255, normalised: here with numpy."""
    bytes_ = hashlib.shake_256(b"zoo-probe-7").digest(2 * 3 * 4 * 6)
    pixels = numpy.frombuffer(bytes_, numpy.uint8).reshape(2, 3, 4, 6).astype(numpy.float64) / 255
    mean, std = (numpy.array(values)[:, None, None] for values in (INPUT.mean, INPUT.std))
    got = probe.probe_input(INPUT, Probe(logits=((0.0,), (0.0,)), tolerance={}, seed=7))
    assert got.dtype == torch.float32
    numpy.testing.assert_allclose(got.numpy(), (pixels - mean) / std, rtol=1e-5, atol=1e-6)


def test_a_network_passes_its_own_probe_and_keeps_its_modes(network: nn.Module) -> None:
    network[1].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    taken = probe.take(network, INPUT)
    assert (taken.batch, len(taken.logits[0])) == (2, 10)
    probe.check(network, INPUT, taken)
    assert [module.training for module in network.modules()] == [True, True, False, True, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_probe_shorter_than_the_logits_holds_the_first(network: nn.Module) -> None:
    network.eval()
    taken = probe.take(network, INPUT, seed=3, batch=1)
    with torch.no_grad():
        logits = network(probe.probe_input(INPUT, taken))
    numpy.testing.assert_allclose(taken.logits[0], logits[0, :10], atol=1e-6)


@pytest.mark.parametrize("change", ["a weight", "a statistic", "the epsilon", "the preprocessing", "not a number"])
def test_a_network_that_computes_something_else_fails(network: nn.Module, change: str) -> None:
    taken, preprocess = probe.take(network, INPUT), INPUT
    with torch.no_grad():
        if change == "a weight":
            network[0].weight[0, 0, 0, 0] += 1
        elif change == "a statistic":
            network[1].running_mean += 0.5
        elif change == "the epsilon":
            network[1].eps = 0.1
        elif change == "the preprocessing":
            preprocess = msgspec.structs.replace(INPUT, mean=(0.3, 0.2, 0.1))
        else:
            network[4].bias.fill_(float("nan"))
    with pytest.raises(ProbeError, match=r"differ from the probe's by .* expected \["):
        probe.check(network, preprocess, taken)


def test_a_probe_that_says_nothing_is_no_proof(network: nn.Module) -> None:
    with pytest.raises(ProbeError, match="There is no tolerance for logits in float8_e4m3fn"):
        probe.tolerance_for(nn.Linear(2, 2).to(torch.float8_e4m3fn), Probe(logits=((1.0,),)))
    for logits in ((), ((),), ((1.0,), (1.0, 2.0))):
        with pytest.raises(ProbeError, match="expected rows of equal length"):
            probe.check(network.float(), INPUT, Probe(logits=logits, tolerance={"float32": 1e-3}))


def test_the_photograph_ships_with_its_licence_and_is_prepared_as_any_image() -> None:
    with Image.open(probe.PICTURE) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (160, 160))
        assert "CC0" in picture.text["Copyright"]
        assert "scikit-image" in picture.text["Source"]
        pixels = numpy.asarray(picture.convert("RGB"), dtype=numpy.float64) / 255
    whole = msgspec.structs.replace(INPUT, input_size=(3, 160, 160), crop_pct=1.0)
    expected = (pixels.transpose(2, 0, 1) - numpy.array(INPUT.mean)[:, None, None]) / numpy.array(INPUT.std)[
        :, None, None
    ]
    numpy.testing.assert_allclose(probe.picture_input(whole)[0].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert probe.picture_input(msgspec.structs.replace(INPUT, input_size=(1, 9, 7), mean=(0,), std=(1,))).shape[1:] == (
        1,
        9,
        7,
    )


def test_the_photograph_reveals_a_transform_that_the_noise_does_not(network: nn.Module) -> None:
    """Noise comes at the input's size: how an image is resized shows on the photograph alone."""
    taken = probe.take(network, INPUT)
    with pytest.raises(ProbeError, match="logits of the photograph differ"):
        probe.check(network, msgspec.structs.replace(INPUT, interpolation="nearest"), taken)


class Headless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(self.forward_features(x).flatten(1))


def test_the_norm_of_features_reveals_what_logits_hide() -> None:
    network = Headless()
    taken = probe.take(network, INPUT)
    noise = probe.probe_input(INPUT, taken).numpy().astype(numpy.float64)
    numpy.testing.assert_allclose(taken.norms, numpy.sqrt((noise**2).sum((1, 2, 3))), rtol=1e-5)
    assert taken.image is not None
    assert taken.image.norm is not None
    with torch.no_grad():
        network.scale.mul_(2)
    with pytest.raises(ProbeError, match="features' norms differ"):
        probe.check(network, INPUT, taken)


@pytest.mark.parametrize(
    ("stated", "passes"),
    [
        ({}, False),
        ({"float32": 0.011}, True),
        ({"float32": 0.009}, False),
        ({"float32": Tolerance(rtol=0.011)}, True),  # of the row's largest, which is 1
        ({"float32": Tolerance(atol=1e-4, share=0.25)}, True),  # one of four is off
        ({"float32": Tolerance(atol=1e-4, share=0.24)}, False),
        ({"cpu/float32": 0.011, "float32": 0.0}, True),
        ({"cuda/float32": 0.011}, False),
        ({"float16": 0.011}, False),
    ],
    ids=str,
)
def test_an_entry_decides_what_is_allowed(stated: dict[str, float | Tolerance], passes: bool) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 4))
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.copy_(torch.tensor([1.0, 0.5, 0.25, 0.01]))
    stated_probe = Probe(logits=((1.0, 0.5, 0.25, 0.0),), tolerance=stated)
    if passes:
        probe.check(network, INPUT, stated_probe)
    else:
        with pytest.raises(ProbeError, match=r"differ from the probe's by 0\.01"):
            probe.check(network, INPUT, stated_probe)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_the_defaults_hold_a_network_in_another_type(dtype: torch.dtype) -> None:
    taken = registry.current().find("resnet20.c10").weights.probe
    module = zoo.create("resnet20.c10", dtype=dtype)
    findings = probe.check(module, zoo.create("resnet20.c10").zoo_info.preprocess, taken)
    assert [found.what for found in findings] == [
        "logits",
        "features' norms",
        "logits of the photograph",
        "features' norm of the photograph",
    ]


def test_a_probe_of_an_older_manifest_still_holds() -> None:
    """Logits and an absolute tolerance alone, as probes were written before there was a photograph."""
    text = '[net.x]\nfile = "x"\nsha256 = "' + 64 * "0" + '"\n[net.x.probe]\nlogits = [[1.0, 2.0]]\n'
    [entry] = manifest.parse(text + "tolerance = { float32 = 0.5 }\n")
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 2))
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.copy_(torch.tensor([1.4, 1.6]))
    assert entry.probe is not None
    probe.check(network, INPUT, entry.probe)


MANIFEST = """# Weights of somebody.

# The first, with a word on it.
[resnet20.first]   # here
file = "first.safetensors"
sha256 = "SHA"   # as it lies here
args = { shortcut = "A" }

[resnet20.first.scores."cifar10/test"]  # measured twice
n = 10
source = "nobody"

[resnet20.first.probe]
seed = 0
logits = [
    [1.0, 2.0],
    [3.0, 4.0]
]
tolerance = { float32 = 0.1, bfloat16 = { rtol = 0.5 } }

# The second lies elsewhere.
[resnet20.second]
repo = "somebody/second"
file = "second.safetensors"
pinned = false

# The third has no probe yet.
[resnet20.third]
file = "first.safetensors"
sha256 = "SHA"
args = { shortcut = "A" }
# The end.
"""


def test_probes_are_taken_anew_and_nothing_else_changes(tmp_path: Path) -> None:
    module = zoo.create("resnet20", shortcut="A")
    digest = safetensors_file.write(module.state_dict(), tmp_path / "first.safetensors", {})
    file = tmp_path / "manifest.toml"
    file.write_text(MANIFEST.replace("SHA", digest))
    assert worker.reprobe(file) == ["resnet20.first", "resnet20.third"]
    written = file.read_text()
    first, second, third = manifest.read(file)
    assert first.probe == msgspec.structs.replace(third.probe, tolerance={"bfloat16": Tolerance(rtol=0.5)}), (
        "a stated tolerance is kept, the old absolute number is not"
    )
    assert second.probe is None
    probe.check(module, module.zoo_info.preprocess, third.probe)
    kept = [line for line in MANIFEST.replace("SHA", digest).splitlines() if line]
    probes = slice(kept.index("[resnet20.first.probe]"), kept.index("# The second lies elsewhere."))
    del kept[probes]
    lines = iter(written.splitlines())
    assert all(line in lines for line in kept), "all else is there, in its order"
    assert worker.reprobe(file) == ["resnet20.first", "resnet20.third"]
    assert file.read_text() == written, "the same networks give the same text"


def test_a_file_of_other_bytes_is_not_probed(tmp_path: Path) -> None:
    safetensors_file.write(zoo.create("resnet20").state_dict(), tmp_path / "first.safetensors", {})
    file = tmp_path / "manifest.toml"
    file.write_text(MANIFEST.replace("SHA", 64 * "0"))
    with pytest.raises(IntegrityError, match=r"expected 0000"):
        worker.reprobe(file)
    assert file.read_text() == MANIFEST.replace("SHA", 64 * "0")


def test_all_weights_that_ship_along_have_the_whole_probe() -> None:
    for entry in registry.current().models():
        for weights in entry.weights:
            if weights.hub.startswith("embedded:"):
                assert weights.probe is not None, weights.name
                assert weights.probe.image is not None, weights.name


def test_a_network_of_fewer_classes_fails(network: nn.Module) -> None:
    taken = Probe(logits=((0.0,) * 20,), tolerance={"float32": 1e9})
    with pytest.raises(ProbeError, match="has 12 logits, the probe has 20"):
        probe.check(network, INPUT, taken)
