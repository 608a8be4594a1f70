"""The loops that ``train.py`` and ``levers.py`` compare. Each runs in a process until it is stopped.

All train ResNet-20 on CIFAR-10 from the same initial weights: random crops (padding 4), flips,
cross-entropy, SGD with Nesterov's momentum. The other libraries' loops follow their own scripts on one CPU:
torchvision's ``references/classification/train.py``, timm's ``train.py`` and ``validate.py``.
"""

import json
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from turns import Pace

import zoo
from zoo import evaluation, training
from zoo.data import ImageSet
from zoo.loading import create
from zoo.system.machine import keep_freed_memory
from zoo.training import choice, optimization
from zoo.training.inputs import Batches
from zoo.training.run import Silent

EPOCHS = 1000  # more than any run needs
BASE: dict[str, Any] = {"epochs": EPOCHS, "lr": 0.1, "augment.pad_crop": 4, "augment.flip": True}
CPU = torch.device("cpu")


def command(loop: str, folder: str, batch: int, **options: Any) -> list[str]:
    """Returns the command that runs ``loop`` in a process, on the images in ``folder``."""
    return [sys.executable, __file__, loop, folder, str(batch), json.dumps(options)]


def main() -> None:
    loop, folder, batch, options = sys.argv[1:]
    LOOPS[loop](Pace(), restore(folder), int(batch), **json.loads(options))


def store(images: ImageSet, folder: str) -> None:
    """Writes decoded ``images`` to ``folder``, so that the processes start fast."""
    for name in ("pixels", "labels"):
        np.save(Path(folder, f"{name}.npy"), getattr(images, name).numpy())


def restore(folder: str) -> ImageSet:
    pixels, labels = (torch.from_numpy(np.load(Path(folder, f"{name}.npy"))) for name in ("pixels", "labels"))
    return ImageSet("cifar10", "train", tuple(map(str, range(10))), labels, pixels)


def network() -> nn.Module:
    torch.manual_seed(0)
    return zoo.create("resnet20", num_classes=10)


def recipe(batch: int, **changes: Any) -> training.Recipe:
    return choice.resolve("benchmark", {}, {**BASE, "batch_size": batch, **changes})


class Watch(Silent):
    """A display that reports every step to the pace."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def step(self, epoch: int, step: int, loss: float, lr: float) -> None:
        self.pace.step(loss)


def train_zoo(pace: Pace, images: ImageSet, batch: int, model: nn.Module | None = None, **changes: Any) -> None:
    """Runs Zoo's engine with a run directory, as in ``zoo train``, with ``changes`` to the recipe."""
    model = model or network()
    data, preprocess = training.TrainingData(images), create.info_of(model).preprocess
    with tempfile.TemporaryDirectory() as folder:
        run = training.Run(folder, display=Watch(pace))
        training.train(model, data, recipe(batch, **changes), run, preprocess=preprocess, device=CPU)


def draw_batches(pace: Pace, images: ImageSet, batch: int) -> None:
    """Makes only the engine's batches: gathered, cropped, mirrored, normalised."""
    keep_freed_memory()
    batches = Batches(images, recipe(batch), create.info_of(network()).preprocess, CPU)
    for epoch in range(EPOCHS):
        for _ in batches.epoch(epoch):
            pace.step()


def train_bare(pace: Pace, images: ImageSet, batch: int) -> None:
    """Runs forward, backward and optimizer step on one fixed batch, with the engine's dtype and memory layout."""
    keep_freed_memory()
    model, settings = network().to(memory_format=torch.channels_last), recipe(batch)
    inputs, labels = next(Batches(images, settings, create.info_of(model).preprocess, CPU).epoch(0))
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    optimizer, criterion = optimization.create_optimizer(model, settings), nn.CrossEntropyLoss()
    while True:
        with arithmetic(bfloat16=True):
            outputs = model(inputs)
        criterion(outputs.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        pace.step()


def evaluate_zoo(pace: Pace, images: ImageSet, batch: int) -> None:
    model = network()
    preprocess = create.info_of(model).preprocess
    while True:
        evaluation.evaluate(
            model, images, preprocess=preprocess, batch_size=batch, progress=lambda done, total: pace.step()
        )


def peers_images(images: ImageSet, transform: Any = None) -> Any:
    """Writes torchvision's own CIFAR10, which timm uses too, with local images instead of a download."""
    from torchvision.datasets import CIFAR10

    class Images(CIFAR10):
        def __init__(self) -> None:
            assert images.pixels is not None
            self.data = images.pixels.permute(0, 2, 3, 1).contiguous().numpy()  # N H W C
            self.targets = images.labels.tolist()
            self.transform, self.target_transform = transform, None

    return Images()


def train_torchvision(pace: Pace, images: ImageSet, batch: int, workers: int, is_given: bool) -> None:
    """Runs torchvision's reference script, with bfloat16 and channels_last if ``is_given``."""
    from torchvision import transforms

    model = network()
    preprocess = create.info_of(model).preprocess
    steps = [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.PILToTensor(),
        transforms.ConvertImageDtype(torch.float),
        transforms.Normalize(preprocess.mean, preprocess.std),
    ]
    loader = torch.utils.data.DataLoader(
        peers_images(images, transforms.Compose(steps)),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
    )
    layout = torch.channels_last if is_given else torch.contiguous_format
    model = model.to(memory_format=layout)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    while True:
        for inputs, labels in loader:
            inputs = inputs.contiguous(memory_format=layout)
            with arithmetic(is_given):
                outputs = model(inputs)
                loss = criterion(outputs, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            count_right(outputs, labels)
            pace.step(loss.item())


def train_timm(pace: Pace, images: ImageSet, batch: int, workers: int, is_given: bool) -> None:
    """Runs timm's script, with bfloat16 and channels_last if ``is_given``.

    timm's crop also resizes. As is usual for small images (DeiT's ``build_transform``), it is replaced by the crop
    of the other loops, which is faster.
    """
    from timm.data import create_loader
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import AverageMeter
    from torchvision.transforms import RandomCrop

    model = network()
    preprocess = create.info_of(model).preprocess
    loader = create_loader(
        peers_images(images),
        input_size=preprocess.input_size,
        batch_size=batch,
        is_training=True,
        color_jitter=None,
        mean=preprocess.mean,
        std=preprocess.std,
        num_workers=workers,
        device=CPU,
    )
    loader.dataset.transform.transforms[0] = RandomCrop(32, padding=4)
    layout = torch.channels_last if is_given else torch.contiguous_format
    model = model.to(memory_format=layout)
    criterion = nn.CrossEntropyLoss()
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4)
    scheduler, _ = create_scheduler_v2(
        optimizer, sched="cosine", num_epochs=EPOCHS, step_on_epochs=False, updates_per_epoch=len(loader)
    )
    losses, updates = AverageMeter(), 0
    while True:
        for inputs, labels in loader:
            inputs = inputs.contiguous(memory_format=layout)
            with arithmetic(is_given):
                outputs = model(inputs)
                loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(labels))
            optimizer.zero_grad()
            updates += 1
            scheduler.step_update(num_updates=updates, metric=losses.avg)
            pace.step(losses.val)


def evaluate_timm(pace: Pace, images: ImageSet, batch: int, workers: int) -> None:
    from timm.data import create_loader
    from timm.utils import AverageMeter

    model = network().eval()
    preprocess = create.info_of(model).preprocess
    loader = create_loader(
        peers_images(images),
        input_size=preprocess.input_size,
        batch_size=batch,
        mean=preprocess.mean,
        std=preprocess.std,
        num_workers=workers,
        crop_pct=1.0,
        device=CPU,
    )
    criterion, losses, top1 = nn.CrossEntropyLoss(), AverageMeter(), AverageMeter()
    while True:
        with torch.inference_mode():
            for inputs, labels in loader:
                outputs = model(inputs)
                losses.update(criterion(outputs, labels).item(), len(labels))
                top1.update(count_right(outputs, labels), len(labels))
                pace.step()


def arithmetic(bfloat16: bool) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if bfloat16 else nullcontext()


def count_right(outputs: Tensor, labels: Tensor) -> float:
    """Returns top-1 in per cent. Computes top-5 as well, as the other libraries' scripts do."""
    from timm.utils import accuracy

    top1, top5 = accuracy(outputs.detach(), labels, topk=(1, 5))
    top5.item()
    return float(top1.item())


LOOPS = {
    "zoo": train_zoo,
    "torchvision": train_torchvision,
    "timm": train_timm,
    "bare": train_bare,
    "batches": draw_batches,
    "evaluate zoo": evaluate_zoo,
    "evaluate timm": evaluate_timm,
}

if __name__ == "__main__":
    main()
