"""Writes the photographs that chapter 15 attacks in the page: ``python docs/course/photograph.py``.

Of each photograph in examples/, its middle at 224 x 224 pixels as the page shows it, the sign of the gradient of the
loss of ``efficientnet_lite0`` (in which the fast gradient sign method moves every pixel), and the network's answers for
each epsilon. The signs are grey values 0, 128 and 255 of lossless pictures: the page computes the attacked image
itself. Signs at random have their answers beside them.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import zoo
import zoo.attack
from zoo.data import class_names

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "javascripts"
PHOTOGRAPHS = ("coffee", "cat")
NETWORK = "efficientnet_lite0.in1k"
SIDE, MOST = 224, 16
WORDS = {
    "espresso": "エスプレッソ", "consomme": "コンソメ", "cup": "カップ", "soup bowl": "スープ皿", "caldron": "大釜",
    "Egyptian cat": "エジプシャンマウ", "tiger cat": "トラ猫", "tabby": "キジトラ猫", "lynx": "オオヤマネコ",
    "Persian cat": "ペルシャ猫",
}  # fmt: skip
"""The Japanese names of answers."""


def pixels(file: Path) -> Tensor:
    """Returns the picture in ``file``, float32 1 3 H W in [0, 1]."""
    values = np.array(Image.open(file).convert("RGB"))
    return torch.from_numpy(values).permute(2, 0, 1)[None].float() / 255


def write_photograph(name: str) -> Path:
    """Writes the middle of a photograph as the page shows it; returns the file."""
    photograph = Image.open(ROOT / "examples" / f"{name}.jpg").convert("RGB")
    side = min(photograph.size)
    left, top = (photograph.width - side) // 2, (photograph.height - side) // 2
    middle = photograph.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    middle.save(FOLDER / f"photograph-{name}.webp", quality=85, method=6)
    return FOLDER / f"photograph-{name}.webp"


def write_signs(name: str, signs: Tensor) -> None:
    """Writes signs 1 3 H W as grey values."""
    values = (127.5 * (signs[0].permute(1, 2, 0) + 1) + 0.5).clamp(0, 255).byte().numpy()
    Image.fromarray(values).save(FOLDER / f"photograph-{name}.webp", lossless=True, method=6)


def main() -> None:
    network = zoo.create(NETWORK).eval()
    preprocess = network.zoo_info.preprocess
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    names = class_names("imagenet-1k")

    def answers(image: Tensor, signs: Tensor) -> list[list[tuple[str, float]]]:
        """Returns the three likeliest classes, in per cent, for each epsilon in 255ths."""
        attacked = torch.cat([(image + epsilon / 255 * signs).clamp(0, 1) for epsilon in range(MOST + 1)])
        with torch.no_grad():
            best = network((attacked - mean) / std).softmax(1).topk(3)
        return [
            [(names[index], round(100 * share, 1)) for share, index in zip(*pair, strict=True)]
            for pair in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    found = {}
    noise = torch.randint(2, (1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    write_signs("noise", noise)
    for name in PHOTOGRAPHS:
        image = pixels(write_photograph(name))
        with torch.no_grad():
            label = network((image - mean) / std).argmax(1)
        moved = zoo.attack.fgsm(network, image, label, 1 / 1024)
        signs = (moved - image).sign()  # 0 where a pixel is at its bound, where no epsilon moves it
        write_signs(f"{name}-signs", signs)
        found[name] = {"signs": answers(image, signs), "noise": answers(image, noise)}
    said = {answer for one in found.values() for way in one.values() for three in way for answer, _ in three}
    if said != WORDS.keys():
        raise SystemExit(f"WORDS differ from the answers by {sorted(said ^ WORDS.keys())}.")
    document = {"network": NETWORK, "answers": found, "ja": WORDS}
    (FOLDER / "photograph.json").write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
