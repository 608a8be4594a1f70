"""Probes: an input that anyone can make again, and a network that fails it."""

import hashlib

import msgspec
import numpy
import pytest
import torch
from torch import nn

from zoo import probe
from zoo.errors import ProbeError
from zoo.manifest import Probe
from zoo.spec import Preprocess

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
    with pytest.raises(ProbeError, match="states a tolerance for float32, not for float64"):
        probe.check(network.double(), INPUT, Probe(logits=((1.0,),), tolerance={"float32": 1e-3}))
    for logits in ((), ((),), ((1.0,), (1.0, 2.0))):
        with pytest.raises(ProbeError, match="expected some, and as many in each"):
            probe.check(network.float(), INPUT, Probe(logits=logits, tolerance={"float32": 1e-3}))


def test_a_network_of_fewer_classes_fails(network: nn.Module) -> None:
    taken = Probe(logits=((0.0,) * 20,), tolerance={"float32": 1e9})
    with pytest.raises(ProbeError, match="gives 12 logits, the probe has 20"):
        probe.check(network, INPUT, taken)
