"""Probes: proof in a second that a loaded network computes what its author's did.

A probe is an input that anyone can generate again and the first logits it gave. The hash of a file
says that the bytes are right; the probe, that the code which reads them is.
"""

import hashlib
from itertools import chain

import torch
from torch import Tensor, nn

from zoo.errors import ProbeError
from zoo.manifest import Probe
from zoo.spec import Preprocess

LOGITS = 10
"""How many of an image's logits a probe keeps."""


def take(module: nn.Module, preprocess: Preprocess, *, seed: int = 0, batch: int = 2) -> Probe:
    """The probe of ``module`` as it stands: for a manifest's entry."""
    values = logits(module, preprocess, seed, batch, LOGITS)
    # Other processors sum in another order: about 1e-5 of the logits' size, a wrong network 1e-2 and more.
    tolerance = max(1e-3, 1e-4 * float(values.abs().max()))
    rows = tuple(tuple(round(value, 6) for value in row) for row in values.tolist())
    return Probe(logits=rows, tolerance={"float32": float(f"{tolerance:.2g}")}, seed=seed)


def probe_input(preprocess: Preprocess, probe: Probe) -> Tensor:
    """The input of ``probe``, float32 B C H W."""
    return _images(preprocess, probe.seed, probe.batch)


def logits(module: nn.Module, preprocess: Preprocess, seed: int, batch: int, count: int) -> Tensor:
    """The first ``count`` logits, float32 B K, that ``module`` in eval mode gives the input of ``seed``."""
    own = _own_tensor(module)
    images = _images(preprocess, seed, batch).to(own.device, own.dtype)
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.inference_mode():
            output: Tensor = module(images)
    finally:
        for part in training:
            part.training = True
    return output[:, :count].float().cpu()


def check(module: nn.Module, preprocess: Preprocess, probe: Probe) -> None:
    """Raises :class:`ProbeError` where ``module`` does not give the logits of ``probe``."""
    dtype = str(_own_tensor(module).dtype).removeprefix("torch.")
    tolerance = probe.tolerance.get(dtype)
    if tolerance is None:
        raise ProbeError(
            f"The probe states a tolerance for {', '.join(probe.tolerance) or 'no type'}, not for {dtype}."
        )
    lengths = {len(row) for row in probe.logits}
    if len(lengths) != 1 or 0 in lengths:
        raise ProbeError(f"The probe has rows of {sorted(lengths)} logits, expected some, and as many in each.")
    expected = torch.tensor(probe.logits)  # B K
    got = logits(module, preprocess, probe.seed, probe.batch, expected.shape[1])
    if got.shape != expected.shape:
        raise ProbeError(f"The network gives {got.shape[1]} logits, the probe has {expected.shape[1]}.")
    difference = float((got - expected).abs().max())
    if not difference <= tolerance:  # NaN must fail
        raise ProbeError(
            f"The network's logits differ from the probe's by {difference:.3g}, at most {tolerance:g} is allowed: "
            f"got {_show(got)}, expected {_show(expected)}.",
            hint="The file is right, the network built for it is not: other arguments, or another version of its code.",
        )


def _own_tensor(module: nn.Module) -> Tensor:
    """A tensor that shows the device and the type in which ``module`` computes."""
    state = chain(module.parameters(), module.buffers())
    return next((tensor for tensor in state if tensor.is_floating_point()), torch.empty(0))


def _images(preprocess: Preprocess, seed: int, batch: int) -> Tensor:
    channels, height, width = preprocess.input_size
    data = hashlib.shake_256(f"zoo-probe-{seed}".encode()).digest(batch * channels * height * width)
    pixels = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(batch, channels, height, width)
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    return (pixels.float() / 255 - mean) / std


def _show(values: Tensor) -> str:
    return "[" + ", ".join(f"{value:.4f}" for value in values[0, :3].tolist()) + ", ...]"


__all__ = ["LOGITS", "check", "logits", "probe_input", "take"]
