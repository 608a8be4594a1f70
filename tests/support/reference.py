"""What the tests of families measure against: real images, other libraries' weights, plain arithmetic."""

import io
import os
import re
import tarfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo import registry
from zoo.spec import Model


def _file(variable: str, name: str) -> Path:
    root = os.environ.get(variable)
    if not root:
        pytest.skip(f"{variable} is not set")
    file = Path(root, name)
    if not file.exists():
        pytest.skip(f"{file} is not there")
    return file


def public_weights(name: str) -> Path:
    """Returns a file of weights that this project did not make; skips where ``ZOO_WEIGHTS`` is not set."""
    return _file("ZOO_WEIGHTS", name)


def real_data(name: str) -> Path:
    """Returns a file or folder of the real data sets; skips where ``ZOO_DATA`` has it not."""
    return _file("ZOO_DATA", name)


def cifar10_test_images(count: int) -> tuple[Tensor, Tensor]:
    """Returns the first images of CIFAR-10's test set, float32 N 3 32 32 in [0, 1], and their labels, int64 N."""
    import numpy
    from PIL import Image
    from pyarrow import parquet

    file = real_data("cifar10/test-00000-of-00001.parquet")
    rows = next(parquet.ParquetFile(file).iter_batches(count)).to_pylist()
    pixels = [numpy.asarray(Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB")) for row in rows]
    images = torch.from_numpy(numpy.stack(pixels)).permute(0, 3, 1, 2).float() / 255  # N H W C -> N C H W
    return images, torch.tensor([row["label"] for row in rows])


def photographs(count: int, size: int) -> Tensor:
    """Photographs of Caltech-101, resized to a square: float32 N 3 size size, about standardised."""
    import numpy
    from PIL import Image

    pixels = []
    with tarfile.open(_file("ZOO_DATA", "caltech101_h140.tar")) as archive:
        for member in archive:
            if member.name.endswith(".jpg"):
                image = Image.open(archive.extractfile(member)).convert("RGB").resize((size, size))
                pixels.append(numpy.asarray(image))
            if len(pixels) == count:
                break
    return torch.from_numpy(numpy.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Gives a module built on the meta device He's weights, and every BN statistics and affine of its own."""
    module.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    state = module.state_dict()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            tensor.zero_()
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.dim() == 1:
            is_norm = f"{name.rpartition('.')[0]}.running_var" in state
            centre = 1.0 if is_norm and name.endswith("weight") else 0.0
            tensor.uniform_(centre - 0.3, centre + 0.3, generator=generator)
        else:
            bound = (6 / tensor[0].numel()) ** 0.5
            tensor.uniform_(-bound, bound, generator=generator)


def renamed(tensors: dict[str, Tensor], *pairs: tuple[str, str]) -> dict[str, Tensor]:
    """Returns the tensors under keys in which each (regular expression, replacement) was applied in order."""
    out = {}
    for name, tensor in tensors.items():
        for pattern, replacement in pairs:
            name = re.sub(pattern, replacement, name)
        out[name] = tensor
    return out


def assert_same_function(ours: nn.Module, theirs: nn.Module, images: Tensor) -> None:
    """Checks that their outputs agree to 1e-5 of the largest, and differ from image to image."""
    with torch.no_grad():
        expected = theirs.eval()(images)
        got = ours.eval()(images)
    assert got.shape == expected.shape
    scale = expected.abs().max()
    assert scale.isfinite()
    assert scale > 0
    assert (got - expected).abs().max() <= 1e-5 * scale
    assert len(images) == 1 or (expected[0] - expected[1]).abs().max() > 1e-3 * scale


def on_meta(model: Model, **args: Any) -> Any:
    """Builds a row's network without memory, so that counting is free."""
    with torch.device("meta"):
        return registry.hook(model.build)(**{"num_classes": model.num_classes, **model.args, **args})


def outputs_of(network: nn.Module, names: Iterable[str], images: Tensor) -> dict[str, Tensor]:
    """Returns what the submodules called ``names`` give in one forward in evaluation, in the order of ``names``."""
    seen: dict[str, Tensor] = dict.fromkeys(names)

    def keep(name: str, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        seen[name] = output

    hooks = [network.get_submodule(name).register_forward_hook(partial(keep, name)) for name in seen]
    with torch.no_grad():
        network.eval()(images)
    for hook in hooks:
        hook.remove()
    return seen


def assert_same_stages(ours: Any, theirs: Any, images: Tensor) -> None:
    """Checks that the maps of ``feature_info``, and what it says of them, are those of timm's network."""
    for key in ("num_chs", "reduction"):
        assert [stage[key] for stage in ours.feature_info] == [stage[key] for stage in theirs.feature_info]
    maps = [outputs_of(network, [s["module"] for s in network.feature_info], images) for network in (ours, theirs)]
    for got, expected in zip(*(each.values() for each in maps), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def params_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def macs_of(module: nn.Module, input_size: tuple[int, ...]) -> int:
    """Multiply-adds of the convolutions and linear layers of a module on the meta device, for one input."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        places = output.shape[2:].numel() if isinstance(layer, nn.Conv2d) else 1
        total += layer.weight.numel() * places

    hooks = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    module.eval()(torch.empty(1, *input_size, device="meta"))
    for hook in hooks:
        hook.remove()
    return total
