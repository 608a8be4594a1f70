"""Folding normalisation into convolutions: the same outputs from fewer layers, or the network as it is."""

import os
import subprocess
import sys
import threading
import time

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.evaluation import forward
from zoo.evaluation.folding import folded

NORMS = nn.modules.batchnorm._BatchNorm


def trained(module: nn.Module) -> nn.Module:
    """Returns ``module`` in eval mode with statistics that are not those of an untrained network."""
    generator = torch.Generator().manual_seed(0)
    for norm in (part for part in module.modules() if isinstance(part, NORMS)):
        for tensor, low, high in ((norm.running_mean, -0.3, 0.3), (norm.running_var, 0.5, 2.0)):
            assert tensor is not None
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return module.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, NORMS) for part in module.modules())


@pytest.mark.first(2)
# How many normalisations stay: those before a convolution, as in networks that normalise first.
@pytest.mark.parametrize(
    ("name", "left"),
    [("resnet20", 0), ("densenet_bc_40_12", 21), ("fractalnet20", 0), ("vgg16_bn_small", 0), ("resnet8", 0)],
)
def test_a_folded_network_computes_the_same_with_fewer_layers(name: str, left: int) -> None:
    network = trained(zoo.create(name))
    images = torch.randn(3, *network.zoo_info.preprocess.input_size)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    other = folded(network, images[:2])
    assert norms(other) == left < norms(network)
    with torch.inference_mode():
        torch.testing.assert_close(other(images), network(images), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own
def test_torchs_own_fusion_of_a_traced_network_gives_the_same() -> None:
    from torch.fx.experimental.optimization import fuse

    network = trained(zoo.create("resnet20"))
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(folded(network, images)(images), fuse(network)(images), rtol=1e-4, atol=1e-5)


class Branches(nn.Module):
    """A convolution whose output is used twice, one that runs twice, and one that a normalisation alone takes."""

    def __init__(self) -> None:
        super().__init__()
        self.used_twice, self.runs_twice, self.plain = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.used_twice(x)
        x = self.norm1(maps) + maps
        x = self.norm2(self.runs_twice(self.runs_twice(x)))
        out: Tensor = self.norm3(self.plain(x))
        return out


def test_only_what_a_normalisation_alone_takes_is_folded() -> None:
    network = trained(Branches())
    images = torch.randn(2, 4, 8, 8)
    other = folded(network, images)
    assert [name for name, part in other.named_modules() if isinstance(part, NORMS)] == ["norm1", "norm2"]
    with torch.inference_mode():
        torch.testing.assert_close(other(images), network(images), rtol=1e-4, atol=1e-5)


class Reads(nn.Module):
    """Uses its normalisation's statistics outside of it: folding would change that."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x)) + self.conv.weight.sum()
        return out


def test_a_network_that_folding_changes_stays_as_it_is() -> None:
    network = trained(Reads())
    assert folded(network, torch.randn(2, 4, 8, 8)) is network


def test_a_network_with_hooks_or_without_normalisation_stays_as_it_is() -> None:
    images = torch.randn(2, 3, 32, 32)
    hooked = trained(zoo.create("resnet8"))
    hooked.layer1.register_forward_hook(lambda *_: None)
    assert folded(hooked, images) is hooked
    bare = zoo.create("alexnet_small").eval()
    assert folded(bare, torch.randn(2, *bare.zoo_info.preprocess.input_size)) is bare


def test_a_score_is_that_of_the_network_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model, digits = zoo.create("resnet20.digits_robust"), zoo.data.load("digits", "test")
    fast = zoo.evaluate(model, digits)
    monkeypatch.setattr("zoo.evaluation.forward._MANY", 1_000_000)
    plain = zoo.evaluate(model, digits)
    assert (fast.correct, fast.fingerprint) == (plain.correct, plain.fingerprint)
    assert fast.loss == pytest.approx(plain.loss, rel=1e-4)
    assert norms(model) == 19


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own
def test_a_compiled_network_has_the_same_score() -> None:
    model, digits = zoo.create("resnet20.digits"), zoo.data.load("digits", "test")
    compiled, plain = zoo.evaluate(model, digits, compile=True), zoo.evaluate(model, digits)
    assert compiled.correct == plain.correct
    assert compiled.loss == pytest.approx(plain.loss, rel=1e-3)


class Keeping(nn.Module):
    """A network that keeps what it computes, and with ``decides`` looks at values."""

    def __init__(self, decides: bool) -> None:
        super().__init__()
        self.network = zoo.create("resnet20.digits")
        self.decides = decides
        self.threads: set[int] = set()

    def forward(self, x: Tensor) -> Tensor:
        if self.decides and bool(x.mean() > 1e9):
            return x
        self.threads.add(threading.get_ident())
        self.features = self.network.forward_features(x)
        time.sleep(0.01)  # in which another thread would put its own
        out: Tensor = self.network.forward_head(self.features)
        return out


@pytest.mark.parametrize("decides", [False, True])
def test_threads_in_bfloat16_do_not_mix_up_what_a_network_keeps(decides: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "_AT_ONCE", 16 * 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    digits, model = zoo.data.load("digits", "test"), Keeping(decides).eval()
    preprocess = model.network.zoo_info.preprocess
    exact = zoo.evaluation.logits(model, digits, preprocess=preprocess)
    rounded = zoo.evaluation.logits(model, digits, preprocess=preprocess, dtype="bfloat16")
    assert float((rounded - exact).abs().max()) < 0.1 * float(exact.abs().max())
    assert model.threads == {threading.get_ident()}


class Interrupted(nn.Module):
    """A network that torch.compile cannot take as one graph."""

    def __init__(self) -> None:
        super().__init__()
        self.network = zoo.create("resnet20.digits")

    def forward(self, x: Tensor) -> Tensor:
        features = self.network.forward_features(x)
        torch._dynamo.graph_break()
        out: Tensor = self.network.forward_head(features)
        return out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own
def test_a_network_of_several_graphs_is_compiled_in_parts() -> None:
    digits, model = zoo.data.load("digits", "test"), Interrupted().eval()
    preprocess = model.network.zoo_info.preprocess
    expected = zoo.evaluation.logits(model, digits, preprocess=preprocess)
    torch.testing.assert_close(
        zoo.evaluation.logits(model, digits, preprocess=preprocess, compile=True), expected, rtol=1e-3, atol=1e-3
    )


@pytest.mark.slow
def test_without_a_compiler_the_error_says_what_to_do() -> None:
    words = [sys.executable, "-m", "zoo", "evaluate", "resnet20.digits", "--data", "digits", "--compile"]
    environment = {**os.environ, "CXX": "/nowhere/g++", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot be compiled" in done.stderr
    assert "needs a C++ compiler such as g++" in done.stderr
    assert "Traceback" not in done.stderr
