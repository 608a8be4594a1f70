"""The tasks of ``first_hour.sh`` with timm and what it is used with: ``python first_hour_timm.py [TASK...]``.

The loop is that of ``first_hour_loop.py``. A function is what a person writes for the task, without comments or
defences: docs/first_hour.md counts its statements.
``WEIGHTS`` is a file of weights for ``NETWORK``, where the Hugging Face Hub is out of reach.
"""

import os
import sys

NETWORK = os.environ.get("NETWORK", "tf_efficientnet_lite0")
PICTURE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "coffee.jpg")
HUB = {"pretrained_cfg_overlay": {"file": os.environ["WEIGHTS"]}} if "WEIGHTS" in os.environ else {}


def choose() -> None:
    import time

    import timm
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    print(timm.list_models("*efficientnet_lite*", pretrained=True))
    for name in (NETWORK, "test_resnet"):
        network = timm.create_model(name, pretrained=name == NETWORK, num_classes=0, **(HUB if name == NETWORK else {}))
        network.eval()
        config = timm.data.resolve_data_config(model=network)
        images = ImageFolder("photos/train", timm.data.create_transform(**config))
        times = []
        values = []
        labels = []
        with torch.inference_mode():
            for _ in range(10):
                start = time.perf_counter()
                network(torch.zeros(1, *config["input_size"]))
                times.append(time.perf_counter() - start)
            for batch, targets in DataLoader(images, 32):
                values.append(network(batch))
                labels.append(targets)
        scores = cross_val_score(LogisticRegression(max_iter=1000), torch.cat(values), torch.cat(labels))
        print(name, sorted(times)[5], scores.mean())


def predict() -> None:
    import timm
    import torch
    from PIL import Image

    network = timm.create_model(NETWORK, pretrained=True, **HUB).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    with torch.inference_mode():
        likely = network(transform(Image.open(PICTURE).convert("RGB"))[None]).softmax(1)[0].topk(3)
    names = timm.data.ImageNetInfo()
    for value, index in zip(*likely, strict=True):
        print(f"{value:.2%}", names.index_to_description(int(index)))


def photographs() -> None:
    fit("photos.pth", frozen=True, epochs=2)


def tune() -> None:
    fit("tuned.pth", frozen=False, epochs=1)


def fit(file: str, frozen: bool, epochs: int) -> None:
    """The loop of ``photographs`` and ``tune``: trains, keeps the best epoch, scores and lists the mistakes."""
    import timm
    import timm.optim
    import timm.scheduler
    import torch
    from torch.utils.data import DataLoader, random_split
    from torchvision.datasets import ImageFolder

    network = timm.create_model(NETWORK, pretrained=True, num_classes=3, **HUB)
    config = timm.data.resolve_data_config(model=network)
    augmented = ImageFolder("photos/train", timm.data.create_transform(**config, is_training=True))
    plain = ImageFolder("photos/train", timm.data.create_transform(**config))
    train, held_out = random_split(range(len(plain)), [0.9, 0.1], torch.Generator().manual_seed(0))
    if frozen:
        network.requires_grad_(False)
        network.get_classifier().requires_grad_(True)
    optimizer = timm.optim.create_optimizer_v2(network, "sgd", lr=0.01)
    scheduler = timm.scheduler.CosineLRScheduler(optimizer, t_initial=epochs)
    best = -1.0
    for epoch in range(epochs):
        network.train()
        for batch, labels in DataLoader(torch.utils.data.Subset(augmented, train), 16, shuffle=True):
            loss = torch.nn.functional.cross_entropy(network(batch), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step(epoch + 1)
        network.eval()
        right = 0
        with torch.inference_mode():
            for batch, labels in DataLoader(torch.utils.data.Subset(plain, held_out), 16):
                right += int((network(batch).argmax(1) == labels).sum())
        print("epoch", epoch, "loss", loss.item(), "validation", right / len(held_out))
        if right > best:
            best = right
            torch.save(network.state_dict(), file)
    network.load_state_dict(torch.load(file, weights_only=True))
    test = ImageFolder("photos/test", timm.data.create_transform(**config))
    confusion = torch.zeros(3, 3, dtype=torch.int64)
    mistakes = []
    with torch.inference_mode():
        for (image, label), (path, _) in zip(test, test.samples, strict=True):
            chances = network(image[None]).softmax(1)[0]
            confusion[label, chances.argmax()] += 1
            if chances.argmax() != label:
                mistakes.append((float(chances.max()), path, test.classes[int(chances.argmax())]))
    print("top-1", confusion.trace() / confusion.sum())
    print(confusion)
    print(sorted(mistakes, reverse=True)[:5])


def resume() -> None:
    import os
    import random

    import timm
    import torch
    from sklearn.datasets import load_digits
    from torch.utils.data import DataLoader, TensorDataset

    digits = load_digits()
    pixels = torch.tensor(digits.images[:1437, None] / 16).float()
    images = TensorDataset(pixels, torch.tensor(digits.target[:1437]))
    network = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    first = 0
    if os.path.exists("digits.pth"):
        saved = torch.load("digits.pth", weights_only=False)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["random"])
        random.setstate(saved["python"])
        first = saved["epoch"] + 1
    for epoch in range(first, 3):
        for batch, labels in DataLoader(images, 64, shuffle=True):
            loss = torch.nn.functional.cross_entropy(network(batch), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print("epoch", epoch, "loss", loss.item())
        torch.save(
            {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "random": torch.get_rng_state(),
                "python": random.getstate(),
                "epoch": epoch,
            },
            "digits.pth",
        )


def probe() -> None:
    import timm
    import torch
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    network = timm.create_model(NETWORK, pretrained=True, num_classes=0, **HUB).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    values = {}
    for split in ("train", "test"):
        with torch.inference_mode():
            batches = [(network(x), y) for x, y in DataLoader(ImageFolder(f"photos/{split}", transform), 32)]
        values[split] = [torch.cat(part).numpy() for part in zip(*batches, strict=True)]
    classifier = make_pipeline(StandardScaler(), LinearSVC()).fit(*values["train"])
    print("top-1", classifier.score(*values["test"]))


def export_() -> None:
    import numpy
    import onnxruntime
    import timm
    import torch

    network = timm.create_model(NETWORK, pretrained=True, exportable=True, **HUB).eval()
    images = torch.randn(2, *network.pretrained_cfg["input_size"])
    torch.onnx.export(
        network, (images,), "timm.onnx", dynamic_shapes={"x": {0: torch.export.Dim("batch")}}, dynamo=True
    )
    session = onnxruntime.InferenceSession("timm.onnx")
    [answer] = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    numpy.testing.assert_allclose(answer, network(images).detach().numpy(), rtol=1e-3, atol=1e-3)


def look() -> None:
    import timm
    import torch
    from matplotlib import pyplot
    from PIL import Image

    network = timm.create_model(NETWORK, pretrained=True, **HUB).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    image = transform(Image.open(PICTURE).convert("RGB"))[None]
    maps = network.forward_features(image)
    maps.retain_grad()
    logits = network.forward_head(maps)
    logits.max().backward()
    weights = maps.grad.mean((2, 3), keepdim=True)
    heat = (weights * maps).sum(1, keepdim=True).relu()
    heat = torch.nn.functional.interpolate(heat, image.shape[2:], mode="bilinear").detach()[0, 0]
    pyplot.imshow(image[0].permute(1, 2, 0) * 0.5 + 0.5)
    pyplot.imshow(heat, alpha=0.5)
    pyplot.savefig("coffee_timm.png")


def publish() -> None:
    import timm
    import timm.models
    import torch

    network = timm.create_model(NETWORK, num_classes=3)
    network.load_state_dict(torch.load("photos.pth", weights_only=True))
    timm.models.save_for_hf(network, "hub/timm", model_config={"label_names": ["butterfly", "crab", "sunflower"]})
    elsewhere = timm.create_model("local-dir:hub/timm", pretrained=True).eval()
    print(elsewhere.pretrained_cfg["label_names"])


if __name__ == "__main__":
    tasks = (
        "choose",
        "predict",
        "photographs",
        "tune",
        "resume",
        "probe",
        "export_",
        "look",
        "publish",
    )
    for task in sys.argv[1:] or tasks:
        print(f"# {task}", flush=True)
        globals()[task]()
