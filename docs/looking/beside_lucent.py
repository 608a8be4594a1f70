"""Draws docs/looking/beside_lucent.webp: ``python docs/looking/beside_lucent.py``.

Images by Lucent are above those of ``zoo look maximize``. Both climb the same logits of the same weights for the same
number of steps, from seed 0, by their own defaults, except that Lucent's padding and jitter are cut to a quarter for
images of 32 pixels. It prints the logit of each image as 8 bits hold it.

It needs Lucent: ``pip install --no-deps torch_lucent==0.1.8 kornia==0.4.1 tqdm decorator future``.
"""

import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import Normalize

import zoo

sys.modules["IPython"] = shown = types.ModuleType("IPython")  # which shows pictures in notebooks
shown.display = sys.modules["IPython.display"] = types.ModuleType("IPython.display")  # type: ignore[attr-defined]

from lucent.optvis import param, render, transform  # type: ignore[import-not-found]  # noqa: E402

NETWORKS = (
    ("resnet20.c10", "fc", (0, 1, 4, 7, 8, 9), 128, 160),
    ("efficientnet_lite0", "classifier", (967, 985, 292), 150, 320),
)
"""Name, layer, logits, steps, and pixels a side in the figure."""


def lucent(network: Any, layer: str, logit: int, steps: int) -> Any:
    """Returns the image that Lucent finds: float32 H W 3."""
    torch.manual_seed(0)
    np.random.seed(0)  # Lucent draws from it
    known = network.zoo_info.preprocess
    side = known.input_size[1]
    moves = [*transform.standard_transforms]
    if side < 64:
        moves = [transform.pad(3, mode="constant", constant_value=0.5), transform.jitter(2), *moves[2:4]]
    return render.render_vis(
        network, f"{layer}:{logit}", lambda: param.image(side), preprocess=False, thresholds=(steps,), progress=False,
        transforms=[*moves, Normalize(known.mean, known.std)], show_image=False, fixed_image_size=side,
    )[-1][0]  # fmt: skip


def main() -> None:
    figure = Image.new("RGB", (6 * 160 + 5 * 8, 2 * 168 + 2 * 328 - 8), "white")
    down = 0
    for name, layer, logits, steps, side in NETWORKS:
        network = zoo.create(name, pretrained=True).eval()
        known = network.zoo_info.preprocess
        normalize = Normalize(known.mean, known.std)
        begun = time.perf_counter()
        theirs = [lucent(network, layer, logit, steps).clip(0, 1) for logit in logits]
        between = time.perf_counter()
        ours = zoo.look.maximize(name, layer, channels=list(logits), steps=steps).images
        ended = time.perf_counter()
        print(f"{name}: Lucent {between - begun:.0f} s, zoo {ended - between:.0f} s")
        for row in (theirs, [image.permute(1, 2, 0).numpy() for image in ours]):
            values = []
            for place, (pixels, logit) in enumerate(zip(row, logits, strict=True)):
                exact = (pixels * 255).round().astype("uint8")
                with torch.no_grad():
                    values.append(
                        float(network(normalize(torch.tensor(exact / 255.0).float().permute(2, 0, 1))[None])[0, logit])
                    )
                picture = Image.fromarray(exact).resize(
                    (side, side), Image.Resampling.NEAREST if side < 200 else Image.Resampling.BICUBIC
                )
                figure.paste(picture, (place * (figure.width + 8) // len(row), down))
            down += side + 8
            print("  logits", *(f"{value:.1f}" for value in values))
    figure.save(Path(__file__).with_suffix(".webp"), quality=60, method=6)


if __name__ == "__main__":
    main()
