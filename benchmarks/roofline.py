"""What bounds a network on this machine: ``python benchmarks/roofline.py [NAME] [--batch-size 8] [--steps 10]``.

The roofs are measured: multiply-adds a second of a matrix product of 2,048, and bytes a second of copying 256 MB. No
convolution can take less than its multiply-adds at the first or its inputs, filters and outputs at the second. Each
convolution and linear layer is run alone on the input that it has in the network, in channels_last; equal ones are
added up. The last rows are all layers, and the network as a whole with its normalisations folded, in torch. Decoding of
a JPEG is that of Pillow, on one core. In float32, and in bfloat16.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from measure import table
from PIL import Image
from torch import Tensor, nn

import zoo
from zoo.evaluation.folding import folded

PHOTOGRAPH = Path(__file__).parents[1] / "docs" / "coffee.webp"
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Work(NamedTuple):
    """Multiply-adds and bytes of ``count`` equal layers, and seconds of all of them."""

    count: int
    macs: float
    size: float
    seconds: float


def best(run: Callable[[], object], steps: int) -> float:
    """Returns the least seconds of ``steps`` runs after one that does not count: other programs only add to it."""
    run()
    taken = []
    for _ in range(steps):
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def roofs(dtype: torch.dtype, steps: int) -> tuple[float, float]:
    """Returns multiply-adds and bytes a second."""
    matrix = torch.randn(2048, 2048).to(dtype)
    long = torch.randn(64 << 20)
    other = torch.empty_like(long)
    macs = 2048**3 / best(lambda: matrix @ matrix, steps)
    return macs, 2 * long.nbytes / best(lambda: other.copy_(long), steps)


def layers(network: nn.Module, images: Tensor, steps: int) -> dict[str, Work]:
    """Runs every convolution and linear layer alone."""
    inputs: list[tuple[nn.Module, Tensor]] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, args: inputs.append((module, args[0])))
        for module in network.modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    works: dict[str, Work] = {}
    for module, x in inputs:
        weight = module.weight
        assert isinstance(weight, Tensor)
        out = module(x)
        macs = out.numel() * weight[0].numel()
        size = x.nbytes + weight.nbytes + out.nbytes
        kernel = f"{weight.shape[-1]}x{weight.shape[-1]}" if weight.ndim == 4 else "linear"
        stride = f"/{module.stride[0]}" if isinstance(module, nn.Conv2d) and module.stride[0] > 1 else ""
        key = f"{kernel}{stride}, {x.shape[1]} to {out.shape[1]}" + (
            f", {out.shape[-1]} pixels" if out.ndim > 2 else ""
        )
        before = works.get(key, Work(0, 0, 0, 0))
        seconds = best(lambda module=module, x=x: module(x), steps)  # type: ignore[misc]
        added = (1, macs, size, seconds)
        works[key] = Work(*(a + b for a, b in zip(before, added, strict=True)))
    return works


def jpeg(steps: int) -> float:
    """Returns seconds to decode a JPEG of 500 x 375 pixels, as most of ImageNet are."""
    written = io.BytesIO()
    with Image.open(PHOTOGRAPH) as image:
        image.convert("RGB").resize((500, 375)).save(written, "jpeg", quality=90)
    return best(lambda: Image.open(io.BytesIO(written.getvalue())).convert("RGB"), steps)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", nargs="?", default="resnet50")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--layers", type=int, default=12, help="the slowest that are shown")
    asked = parser.parse_args()
    size, steps = asked.batch_size, asked.steps
    print(f"{asked.name}, {size} images at a time, {torch.get_num_threads()} threads, {torch.__version__}\n")
    for title, dtype in TYPES.items():
        macs, bandwidth = roofs(dtype, steps)
        network = zoo.create(asked.name).eval().to(memory_format=torch.channels_last)
        images = torch.randn(size, *network.zoo_info.preprocess.input_size).to(memory_format=torch.channels_last)
        network = folded(network, images).to(dtype)
        images = images.to(dtype)
        works = layers(network, images, steps)
        works = dict(sorted(works.items(), key=lambda work: -work[1].seconds))
        whole = best(lambda network=network, x=images: network(x), steps)  # type: ignore[misc]
        total = Work(*map(sum, zip(*works.values(), strict=True)))
        bound = sum(least(work, macs, bandwidth) for work in works.values())
        rows = [shown(name, work, macs, bandwidth) for name, work in list(works.items())[: asked.layers]]
        rows += [shown("all layers", total, macs, bandwidth, bound)]
        rows += [shown("the network", total._replace(seconds=whole), macs, bandwidth, bound)]
        print(f"{title}: at most {macs / 1e9:,.0f} G multiply-adds/s and {bandwidth / 1e9:.1f} GB/s\n")
        print(table(("layer", "times", "ms", "G multiply-adds/s", "of the roof", "bound by"), rows))
        print(f"{size / whole:.1f} images/s; {size / bound:.1f} if every layer reached its roof\n")
    print(f"Decoding a JPEG of 500 x 375 pixels takes {1000 * jpeg(5 * steps):.1f} ms.")


def least(work: Work, macs: float, bandwidth: float) -> float:
    """Returns the least seconds that the machine allows."""
    return max(work.macs / macs, work.size / bandwidth)


def shown(name: str, work: Work, macs: float, bandwidth: float, bound: float | None = None) -> tuple[str, ...]:
    bound = least(work, macs, bandwidth) if bound is None else bound
    by = "arithmetic" if work.macs / macs > work.size / bandwidth else "memory"
    speed = work.macs / work.seconds / 1e9
    return name, str(work.count), f"{1000 * work.seconds:.2f}", f"{speed:,.0f}", f"{bound / work.seconds:.0%}", by


if __name__ == "__main__":
    main()
