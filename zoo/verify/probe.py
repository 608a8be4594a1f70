"""Probes: a quick check that a loaded network computes the same outputs as its author's, or as another implementation.

A probe is a few inputs that anyone can make again and what the network gave them. The hash of a file
says that the bytes are right; the probe, that the code which reads them is. One input is noise, which
reaches every weight; the other a photograph, which is what networks are for and takes the way through
resizing and cropping as well: ``probe.png``, "Chelsea" by Stefan van der Walt, CC0, from scikit-image.
"""

import hashlib
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from zoo.data.preprocess import Transform
from zoo.errors import ProbeError
from zoo.manifest import Probe, ProbedImage, Tolerance
from zoo.spec import Preprocess

LOGITS = 10
"""The number of an image's logits that a probe keeps."""

PICTURE = Path(__file__).with_name("probe.png")

SEEN = 1e-3
"""The least difference of outputs from image to image, relative to the largest, so that equal ones prove anything."""

TOLERANCES = {
    "float64": Tolerance(rtol=1e-4, atol=1e-4),
    "float32": Tolerance(rtol=1e-4, atol=1e-4),
    "cuda/float32": Tolerance(rtol=1e-2, atol=1e-3),  # its convolutions round to TF32's ten bits, as float16 does
    "float16": Tolerance(rtol=1e-2, atol=1e-3),
    "bfloat16": Tolerance(rtol=1e-1, atol=1e-2),
}
"""The tolerances that are allowed if an entry does not say otherwise, by dtype or ``device/dtype``.

Over the 24 weights that ship along, on a CPU, float64 lay within 4e-6 of float32, float16 within 4e-3,
bfloat16 within 6e-2, but for a network of nearest prototypes, which that type does not suit. What a wrong
epsilon, a swapped channel or another version of a layer makes of logits is 1e-2 and more.
"""


class Finding(NamedTuple):
    """One part of a probe compared with the network; float32 tensors of equal shape, ``difference`` the largest."""

    what: str
    expected: Tensor
    got: Tensor
    difference: float
    allowed: float
    passes: bool


def take(module: nn.Module, preprocess: Preprocess, *, seed: int = 0, batch: int = 2) -> Probe:
    """Returns the probe of ``module`` in its present state, for a manifest entry."""
    got = outputs(module, preprocess, seed, batch)
    norms = [_rounded(got[part])[0] for part in ("noise.norms", "image.norms") if part in got]
    return Probe(
        logits=tuple(_rounded(got["noise.logits"][:, :LOGITS])),
        norms=norms[0] if norms else (),
        image=ProbedImage(_rounded(got["image.logits"][:, :LOGITS])[0], norms[1][0] if norms else None),
        seed=seed,
    )


def probe_input(preprocess: Preprocess, probe: Probe) -> Tensor:
    """Returns the noise images of ``probe``, float32 B C H W."""
    return _noise(preprocess, probe.seed, probe.batch)


def picture_input(preprocess: Preprocess) -> Tensor:
    """Returns the photograph, prepared by ``preprocess``, float32 1 C H W."""
    return Transform(preprocess)(_picture())[None]


def outputs(module: nn.Module, preprocess: Preprocess, seed: int, batch: int) -> dict[str, Tensor]:
    """Returns the outputs of ``module`` in eval mode for the noise of ``seed`` and the photograph, float32 on the CPU.

    ``noise.logits`` and ``image.logits`` are complete, B K; ``noise.norms`` and ``image.norms`` are norms of features,
    1 B, if the network has timm's ``forward_features`` and that returns one tensor.
    """
    sample = _own_tensor(module)
    inputs = {"noise": _noise(preprocess, seed, batch), "image": picture_input(preprocess)}
    training = [submodule for submodule in module.modules() if submodule.training]
    by_name: dict[str, Tensor] = {}
    forward_features = getattr(module, "forward_features", None)
    module.eval()
    try:
        with torch.inference_mode():
            for name, images in inputs.items():
                images = images.to(sample.device, sample.dtype)
                by_name[f"{name}.logits"] = module(images).float().cpu()
                features = forward_features(images) if forward_features is not None else None
                if isinstance(features, Tensor):
                    by_name[f"{name}.norms"] = features.float().flatten(1).norm(dim=1)[None].cpu()
    finally:
        for submodule in training:
            submodule.training = True
    return by_name


def measure(module: nn.Module, preprocess: Preprocess, probe: Probe) -> tuple[list[Finding], dict[str, Tensor]]:
    """Compares each part of ``probe`` with the outputs of ``module``, and returns all outputs (:func:`outputs`).

    Raises :class:`ProbeError` if they cannot be compared.
    """
    tolerance = tolerance_for(module, probe)
    lengths = {len(row) for row in probe.logits}
    if len(lengths) != 1 or 0 in lengths:
        raise ProbeError(f"The probe has rows of {sorted(lengths)} logits, expected rows of equal length.")
    got = outputs(module, preprocess, probe.seed, probe.batch)
    expected = {"noise.logits": torch.tensor(probe.logits)}  # B K
    if probe.norms:
        expected["noise.norms"] = torch.tensor([probe.norms])
    if probe.image is not None:
        expected["image.logits"] = torch.tensor([probe.image.logits])
        if probe.image.norm is not None:
            expected["image.norms"] = torch.tensor([[probe.image.norm]])
    return [_find(name, values, got.get(name), tolerance) for name, values in expected.items()], got


def check(module: nn.Module, preprocess: Preprocess, probe: Probe) -> list[Finding]:
    """Returns all parts of ``probe``; raises :class:`ProbeError` if the outputs of ``module`` differ."""
    findings, _ = measure(module, preprocess, probe)
    require(findings)
    return findings


def require(findings: list[Finding]) -> None:
    """Raises :class:`ProbeError` for the first of ``findings`` that does not pass."""
    for finding in findings:
        if not finding.passes:
            raise ProbeError(
                f"The network's {finding.what} differ from the probe's by {finding.difference:.3g}, "
                f"more than the allowed {finding.allowed:.3g}: "
                f"got {_show(finding.got)}, expected {_show(finding.expected)}.",
                hint="The file is correct, but the network is not: wrong arguments, or another version of its code.",
            )


def tolerance_for(module: nn.Module, probe: Probe) -> Tolerance:
    """Returns the tolerance for this device and dtype, from the entry or the defaults."""
    sample = _own_tensor(module)
    dtype = str(sample.dtype).removeprefix("torch.")
    for stated in (probe.tolerance, TOLERANCES):
        for key in (f"{sample.device.type}/{dtype}", dtype):
            if (tolerance := stated.get(key)) is not None:
                return tolerance if isinstance(tolerance, Tolerance) else Tolerance(atol=tolerance)
    raise ProbeError(f"There is no tolerance for logits in {dtype}.")


def _find(name: str, expected: Tensor, got: Tensor | None, tolerance: Tolerance) -> Finding:
    what = {"noise.logits": "logits", "image.logits": "logits of the photograph", "noise.norms": "features' norms"}.get(
        name, "features' norm of the photograph"
    )
    if got is None or (name.endswith("norms") and got.shape != expected.shape):
        raise ProbeError(f"The probe has {what}, but the network does not compute them.")
    if got.ndim != 2 or len(got) != len(expected):
        raise ProbeError(f"The network's {what} have shape {tuple(got.shape)}, expected {tuple(expected.shape)}.")
    count = expected.shape[1]
    got = got[:, :count]
    if got.shape != expected.shape:
        raise ProbeError(f"The network has {got.shape[1]} logits, the probe has {count}.")
    allowed = tolerance.atol + tolerance.rtol * expected.abs().amax(dim=1, keepdim=True)  # B 1
    beyond = ~((got - expected).abs() <= allowed)  # NaN must fail
    passes = bool(beyond.float().mean() <= tolerance.share) and bool(got.isfinite().all())
    return Finding(what, expected, got, float((got - expected).abs().max()), float(allowed.max()), passes)


def _own_tensor(module: nn.Module) -> Tensor:
    """Returns a tensor with the device and dtype of ``module``."""
    state = chain(module.parameters(), module.buffers())
    return next((tensor for tensor in state if tensor.is_floating_point()), torch.empty(0))


def _noise(preprocess: Preprocess, seed: int, batch: int) -> Tensor:
    channels, height, width = preprocess.input_size
    data = hashlib.shake_256(f"zoo-probe-{seed}".encode()).digest(batch * channels * height * width)
    pixels = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(batch, channels, height, width)
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    return (pixels.float() / 255 - mean) / std


@cache
def _picture() -> Image.Image:
    with Image.open(PICTURE) as opened:
        return opened.convert("RGB")


def _rounded(values: Tensor) -> list[tuple[float, ...]]:
    """Rounds to six digits: fifty times finer than the smallest tolerance, and readable."""
    return [tuple(float(f"{value:.6g}") for value in row) for row in values.tolist()]


def _show(values: Tensor) -> str:
    return "[" + ", ".join(f"{value:.4f}" for value in values[0, :3].tolist()) + ", ...]"


# ---- two implementations of a network --------------------------------------------------------------


def photographs() -> list[Image.Image]:
    """Returns the photograph of the probes, its mirror image, and parts of both."""
    with Image.open(PICTURE) as opened:
        whole = opened.convert("RGB")
    mirrored = whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width, height = whole.size
    parts = [whole.crop((0, 0, width // 2, height // 2)), whole.crop((width // 3, height // 3, width, height))]
    parts += [mirrored.crop((0, height // 2, width // 2, height)), whole.rotate(180)]
    return [whole, mirrored, *parts]


def difference(got: Tensor, expected: Tensor) -> float:
    """Returns the largest difference of outputs B ..., relative to the largest of ``expected``; NaN if an output is."""
    return float((got - expected).abs().max()) / (float(expected.abs().max()) or 1.0)


def depends_on_image(outputs: Tensor) -> bool:
    """Returns whether outputs B ... differ from image to image, so that a comparison of them proves anything."""
    return float((outputs - outputs[:1]).abs().max()) > SEEN * float(outputs.abs().max())
