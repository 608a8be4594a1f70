"""What several processes do together, for tests that look at what came of it.

``torchrun --nproc_per_node 2 tests/support/launched.py all FOLDER`` does everything in one launch, since
starting one takes seconds; ``tests/support/launched.py slowly FOLDER`` leaves time to end it, and
``tests/support/launched.py failing FOLDER`` fails in the last process alone.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo.data import ImageSet
from zoo.data.augmentation import Augmentation
from zoo.errors import ZooError
from zoo.evaluation import evaluate, logits
from zoo.spec import Preprocess
from zoo.system import distributed
from zoo.training import Recipe, Run, split, train
from zoo.training.recipe import Adversary
from zoo.training.run import Silent

PREPROCESS = Preprocess(input_size=(1, 8, 8), crop_pct=1.0, mean=(0.3,), std=(0.4,))
PLAIN: dict[str, Any] = {
    "epochs": 3, "batch_size": 16, "lr": 0.05, "precision": "float32", "warmup_epochs": 1, "seed": 3,
    "augment": Augmentation(pad_crop=1, flip=True),
}  # fmt: skip


class Skipping(nn.Module):
    """Goes one of two ways, by lot: the parameters of the other take no part."""

    def __init__(self) -> None:
        super().__init__()
        self.ways = nn.ModuleList([nn.Linear(64, 4), nn.Linear(64, 4)])

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.ways[int(torch.rand(()) < 0.5)](x.flatten(1))
        return logits


class Drawing(nn.Module):
    """Remembers the random numbers that it draws."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 4)
        self.drawn: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        self.drawn.append(float(torch.rand(())))
        logits: Tensor = self.fc(x.flatten(1))
        return logits


def convolutions(*, has_norm: bool = False) -> nn.Module:
    norm: list[nn.Module] = [nn.BatchNorm2d(8)] if has_norm else []
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), *norm, nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(512, 4),
    )  # fmt: skip


def normalized() -> nn.Module:
    return convolutions(has_norm=True)


class Case(NamedTuple):
    recipe: Recipe
    network: Callable[[], nn.Module] = convolutions


CASES = {
    "plain": Case(Recipe(**PLAIN)),
    "uneven": Case(Recipe(**{**PLAIN, "batch_size": 17})),
    "pieces": Case(Recipe(**{**PLAIN, "batch_size": 17, "accumulate": 3, "clip_grad": 0.5})),
    "averaged": Case(Recipe(**{**PLAIN, "ema": 0.9, "validation": 20, "optimizer": "adamw", "lr": 0.002})),
    "together": Case(Recipe(**{**PLAIN, "batch_size": 17, "sync_norm": True, "ema": 0.9}), normalized),
    "apart": Case(Recipe(**{**PLAIN, "epochs": 1, "batch_size": 72, "warmup_epochs": 0}), normalized),
    # Along gradients, not their signs, which a rounding can turn over.
    "attacked": Case(
        Recipe(**{**PLAIN, "batch_size": 17, "accumulate": 3, "adversarial": Adversary("pgd_l2", 1.0, 2, clean=0.25)})
    ),
    "skipping": Case(Recipe(**{**PLAIN, "optimizer": "adamw", "lr": 0.002}), Skipping),
    "drawing": Case(Recipe(**PLAIN), Drawing),
}


def images(count: int = 72, *, is_resident: bool = True) -> ImageSet:
    """Returns noise with a bright row that tells the class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 4
    pixels = torch.randint(100, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    pixels[torch.arange(count), 0, 2 * labels] += 60
    if is_resident:
        return ImageSet("rows", "train", ("a", "b", "c", "d"), labels, pixels)
    read = lambda index: Image.fromarray(pixels[index, 0].numpy())  # noqa: E731
    return ImageSet("rows", "train", ("a", "b", "c", "d"), labels, read=read, channels=1)


def run(case: str, directory: Path, *, criterion: Any = None, **options: Any) -> nn.Module:
    """Trains the network of ``case``."""
    recipe, network = CASES[case]
    torch.manual_seed(0)
    model = network()
    options.setdefault("display", Silent())
    return train(
        model, split(images(), recipe), recipe, Run(directory, **options), preprocess=PREPROCESS, device="cpu",
        criterion=criterion,
    )  # fmt: skip


def scored(count: int, *, is_resident: bool, batch_size: int) -> dict[str, Any]:
    """Returns the report on ``count`` images of a network with six classes that is right about some of them.

    With the classes that the logits of the whole name, in order.
    """
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 6))
    with torch.no_grad():
        for label in range(4):
            model[1].weight[label, 16 * label : 16 * label + 8] += 0.11
    data = images(count, is_resident=is_resident)
    whole = logits(model, data, preprocess=PREPROCESS, batch_size=batch_size)
    report = evaluate(model, data, preprocess=PREPROCESS, batch_size=batch_size)
    return {**msgspec.to_builtins(report), "classes": whole.argmax(dim=1).tolist()}


SCORES: list[dict[str, Any]] = [
    {"count": count, "is_resident": is_resident, "batch_size": batch_size}
    for count in (1, 3, 50, 72)
    for is_resident, batch_size in ((True, 7), (False, 7), (True, 1))
]


class At:
    """Cross-entropy that does something, or something else than it should, the ``step``-th time."""

    def __init__(self, step: int, action: Callable[[Tensor], Tensor]) -> None:
        self.left, self.action = step, action

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.left -= 1
        loss = nn.functional.cross_entropy(logits, labels)
        return self.action(loss) if self.left == 0 else loss


def interrupt(loss: Tensor) -> Tensor:
    os.kill(os.getpid(), signal.SIGINT)
    return loss


def slowly(logits: Tensor, labels: Tensor) -> Tensor:
    time.sleep(0.2)
    return nn.functional.cross_entropy(logits, labels)


def fail(loss: Tensor) -> Tensor:
    raise ValueError("what only one process meets")


def message_of(work: Callable[[], object]) -> str:
    try:
        work()
    except (ZooError, KeyboardInterrupt) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def do_all(folder: Path, earlier: Path | None) -> None:
    """Runs every case, each process leaving its own network and what else it saw."""
    group = distributed.current()
    is_last = group.rank == group.count - 1
    seen: dict[str, Any] = {"share": [*group.share(7)]}

    def keep(name: str, model: nn.Module) -> None:
        save_file(
            {key: value.contiguous() for key, value in model.state_dict().items()}, folder / f"{name}.{group.rank}"
        )

    for case in CASES:
        model = run(case, folder / case)
        keep(case, model)
        if isinstance(model, Drawing):
            seen["drawn"] = model.drawn

    # Only one process sees the interrupt, only one the loss that is none: all have to stop.
    broken = folder / "broken"
    seen["interrupted"] = message_of(lambda: run("plain", broken, criterion=At(6, interrupt) if is_last else None))
    if group.is_first:
        shutil.copytree(broken, folder / "left")
    group.wait()
    keep("resumed", run("plain", broken, resume=True))
    if earlier is not None:
        keep("taken over", run("plain", earlier, resume=True))
    nan = At(6, lambda loss: loss * float("nan"))
    seen["diverged"] = message_of(lambda: run("plain", folder / "nan", criterion=nan if is_last else None))
    seen["not one checkpoint"] = message_of(
        lambda: run("plain", broken if group.is_first else folder / "elsewhere", resume=True)
    )

    seen["scores"] = [(given, scored(**given)) for given in SCORES]
    model = run("together", folder / "own")
    if group.is_first:  # nobody else takes part any more
        model(torch.rand(3, 1, 8, 8)).sum().backward()
    seen["kinds"] = [type(module).__name__ for module in model.modules()]
    (folder / f"seen.{group.rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    what, where, *more = sys.argv[1:]
    if what == "all":
        do_all(Path(where), Path(more[0]) if more else None)
    elif what == "slowly":
        run("plain", Path(where), criterion=slowly, checkpoint_every=1)
    elif what == "failing":
        group = distributed.current()
        run("plain", Path(where), criterion=At(6, fail) if group.rank == group.count - 1 else None)
