"""The confusion matrix and the mistakes of a network whose answers are known."""

import pytest
import torch
from torch import Tensor, nn

from zoo.data import ImageSet
from zoo.errors import DataError
from zoo.evaluation.outputs import find_mistakes
from zoo.spec import Preprocess


class Reads(nn.Module):
    """Its logits are the first pixels of an image."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, :3] * 4


@pytest.fixture(scope="module")
def data() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (50, 1, 4, 4), dtype=torch.uint8, generator=generator)
    labels = torch.randint(3, (50,), generator=generator)
    return ImageSet("x", "val", ("a", "b", "c"), labels, pixels, files=tuple(f"{i}.png" for i in range(50)))


def test_counts_and_probabilities_are_those_of_scikit_learn_and_softmax(data: ImageSet) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    preprocess = Preprocess(input_size=(1, 4, 4), crop_pct=1.0, mean=(0.0,), std=(1.0,))
    found = find_mistakes(Reads(), data, preprocess=preprocess, batch_size=16)
    assert data.pixels is not None
    probabilities = (data.pixels[:, 0, 0, :3].float() / 255 * 4).softmax(1)
    predicted = probabilities.argmax(1)
    assert found.confusion.tolist() == metrics.confusion_matrix(data.labels, predicted).tolist()
    assert {mistake.number for mistake in found.mistakes} == set((predicted != data.labels).nonzero()[:, 0].tolist())
    for index, true, answer, probability in found.mistakes:
        assert (true, answer) == (data.labels[index], predicted[index])
        assert probability == pytest.approx(float(probabilities[index].max()), rel=1e-5)
    certain = [mistake.probability for mistake in found.mistakes]
    assert certain == sorted(certain, reverse=True)


def test_a_subset_knows_the_files_of_its_images(data: ImageSet) -> None:
    part = data.subset([7, 3], "some")
    assert [part.where(index) for index in range(2)] == ["7.png", "3.png"]
    assert ImageSet("x", "val", data.classes, data.labels, data.pixels).where(4) == "x/val 4"
    with pytest.raises(DataError, match="2 files of 50 images"):
        ImageSet("x", "val", data.classes, data.labels, data.pixels, files=("a", "b"))
