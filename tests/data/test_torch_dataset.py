"""Torch's data sets and data loaders: scored and trained on as Zoo's own images are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import zoo
from zoo.data import ImageSet
from zoo.errors import DataError

pytest.importorskip("sklearn", reason="needs zoo-vision[data]")


class Pairs(Dataset[Any]):
    """Any items."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return zoo.data.load("digits", "test")


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return zoo.create("resnet20.digits").eval()


FORMS = {
    "Pillow images": lambda image: image,
    "uint8 tensors": lambda image: torch.from_numpy(np.array(image))[None],
    "arrays": np.array,
}


@pytest.mark.parametrize("form", FORMS)
def test_images_of_a_data_set_score_as_zoos_own(digits: ImageSet, model: torch.nn.Module, form: str) -> None:
    items = [(FORMS[form](digits.image(index)), int(digits.labels[index])) for index in range(len(digits))]
    report, expected = zoo.evaluate(model, Pairs(items)), zoo.evaluate(model, digits)
    assert report.fingerprint == expected.fingerprint
    assert (report.n, report.correct, report.top5, report.loss) == (360, expected.correct, expected.top5, expected.loss)
    assert report.dataset == "Pairs"


def test_a_loader_of_uint8_images_scores_as_zoos_own(digits: ImageSet, model: torch.nn.Module) -> None:
    loader = DataLoader(TensorDataset(digits.pixels, digits.labels), batch_size=50)
    report, expected = zoo.evaluate(model, loader), zoo.evaluate(model, digits)
    assert (report.fingerprint, report.correct, report.loss) == (expected.fingerprint, expected.correct, expected.loss)


@pytest.mark.parametrize("is_loader", [True, False])
def test_prepared_tensors_are_scored_as_they_are(digits: ImageSet, model: torch.nn.Module, is_loader: bool) -> None:
    inputs = torch.stack([zoo.preprocess(model)(digits.image(index)) for index in range(len(digits))])
    dataset = TensorDataset(inputs, digits.labels)
    seen: list[tuple[int, int]] = []
    report = zoo.evaluate(
        model, DataLoader(dataset, 50) if is_loader else dataset, progress=lambda *done: seen.append(done)
    )
    with torch.inference_mode():
        logits = model(inputs)
    assert report.correct == int((logits.argmax(1) == digits.labels).sum())
    assert report.loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits, digits.labels)), rel=1e-4)
    assert seen[-1] == (360, 360)
    assert report.fingerprint == zoo.evaluate(model, DataLoader(dataset, 90)).fingerprint
    assert report.fingerprint != zoo.evaluate(model, TensorDataset(inputs, digits.labels.flip(0))).fingerprint


def test_torchvisions_folder_is_zoos_folder(digits: ImageSet, tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    for index in range(20):
        file = tmp_path / "few" / digits.classes[int(digits.labels[index])] / f"{index:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        digits.image(index).resize((8, 8 + index % 3)).convert("RGB").save(file)
    ours = zoo.data.load(tmp_path / "few")
    found = zoo.data.from_dataset(datasets.ImageFolder(tmp_path / "few"))
    assert found.pixels is None, "of several sizes"
    assert (found.name, found.classes, found.fingerprint) == ("ImageFolder", ours.classes, ours.fingerprint)
    part = zoo.data.from_dataset(Subset(datasets.ImageFolder(tmp_path / "few"), [3, 1]))
    assert (part.name, part.classes) == ("ImageFolder", ours.classes)
    assert part.fingerprint == ours.subset([3, 1], "train").fingerprint


def test_training_on_a_data_set_is_training_on_its_images(digits: ImageSet, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="needs zoo-vision[train]")
    few = digits.subset(range(64), "train")
    settings = {"epochs": 1, "batch_size": 32, "augment.flip": True}
    dataset = TensorDataset(few.pixels, few.labels)
    states = []
    for number, data in enumerate((few, dataset, DataLoader(dataset, 10))):
        made = zoo.train(
            "resnet8", data, recipe="default", settings=settings, output=tmp_path / str(number), device="cpu"
        )
        states.append(made.state_dict())
    for state in states[1:]:
        assert all(torch.equal(state[key], states[0][key]) for key in state)


def test_images_of_grey_and_colour_are_all_colour() -> None:
    gray, color = Image.new("L", (4, 4), 7), Image.new("RGB", (4, 4), (1, 2, 3))
    found = zoo.data.from_dataset(Pairs([(gray, 0), (color, 1)]))
    assert found.pixels is not None
    assert found.pixels[:, :, 0, 0].tolist() == [[7, 7, 7], [1, 2, 3]]


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


FLOATS, PIXELS = torch.zeros(4, 1, 8, 8), torch.zeros(4, 1, 8, 8, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (Pairs([Image.new("L", (8, 8))]), "Pairs, item 0: got Image, expected a pair"),
        (Pairs([(Image.new("L", (8, 8)), "cat")]), "Pairs, item 0: the label is str, expected an integer"),
        (Pairs([("photo.png", 1)]), r"item 0: got tuple of \(str, int\), expected a pair"),
        (Pairs([(PIXELS[0, 0], 1)]), r"uint8 of shape \(8, 8\), expected uint8 C H W"),
        (Pairs([(Image.new("L", (8, 8)), 10)]), "row 0 has label 10, expected 0 to 9"),
        (Pairs([]), "no images"),
        (Endless(), "Endless has no length"),
        (TensorDataset(FLOATS), r"got list of \(Tensor\), expected a pair \(images, labels\)"),
        (TensorDataset(FLOATS, torch.zeros(4)), "labels are torch.float32 of shape .4,., expected one integer"),
        (TensorDataset(FLOATS, torch.zeros(4, 10).long()), r"labels are torch.int64 of shape \(4, 10\)"),
        (TensorDataset(FLOATS, torch.full((4,), 10)), "row 0 has label 10, expected 0 to 9"),
        (TensorDataset(FLOATS[:, 0], torch.zeros(4).long()), r"\(4, 8, 8\), expected float B 1 H W"),
        (TensorDataset(FLOATS.expand(4, 3, 8, 8), torch.zeros(4).long()), r"\(4, 3, 8, 8\), expected float B 1 H W"),
        (DataLoader(TensorDataset(PIXELS)), r"got list of \(Tensor\), expected a pair"),
        (DataLoader(TensorDataset(PIXELS[:, 0], torch.zeros(4).long())), "expected uint8 B C H W"),
        (7, "Got int, expected the name or path of a data set"),
    ],
)
def test_what_cannot_be_scored_is_an_error(model: torch.nn.Module, data: Any, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        zoo.evaluate(model, data)


@pytest.mark.parametrize("is_loader", [True, False])
def test_training_on_prepared_tensors_is_an_error(tmp_path: Path, is_loader: bool) -> None:
    dataset = TensorDataset(FLOATS, torch.zeros(4).long())
    with pytest.raises(DataError, match="float32") as found:
        zoo.train("resnet8", DataLoader(dataset, 2) if is_loader else dataset, output=tmp_path / "run")
    assert "Zoo prepares and augments images itself" in str(found.value)
    assert not (tmp_path / "run").exists()


def test_classes_that_the_network_does_not_know_are_an_error(model: torch.nn.Module) -> None:
    dataset = Pairs([(Image.new("L", (8, 8)), 0)])
    dataset.classes = ["crow", "jay"]  # type: ignore[attr-defined]  # as torchvision's data sets have
    with pytest.raises(DataError, match="none of which are in Pairs"):
        zoo.evaluate(model, dataset)


def test_a_family_with_its_own_scoring_prepares_images_itself() -> None:
    network = zoo.create("airbench94")
    dataset = TensorDataset(torch.zeros(2, 3, 32, 32), torch.zeros(2).long())
    with pytest.raises(DataError, match="which prepares images itself; got float tensors"):
        zoo.evaluate(network, dataset)
