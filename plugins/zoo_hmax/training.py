"""The train hook: prototypes are cut out of training images, a linear SVM is fitted to what they match."""

from typing import Any

import torch
from torch import Tensor, nn

from zoo.data import ImageSet, Transform
from zoo.errors import DataError
from zoo.spec import Preprocess
from zoo.training import Recipe, Run, TrainingData, one_pass
from zoo.training.randomness import generator_at
from zoo_hmax.model import HMAX, S2


def train(
    model: HMAX, data: TrainingData, recipe: Recipe, run: Run, *, preprocess: Preprocess, **options: Any
) -> nn.Module:
    """Fits ``model`` in place and returns it; raises what ``zoo.training.one_pass.train`` does.

    Prototypes are drawn with the recipe's seed, unless ``run.init`` brought some of other images (the
    paper's universal ones). Raises :class:`DataError` for images too small to cut prototypes from.
    """

    def learn_features(images: ImageSet, _device: torch.device) -> None:
        imprint(model, images, preprocess, recipe.seed)

    def learn_head(features: Tensor, labels: Tensor) -> None:
        head = model.get_classifier()
        assert isinstance(head, nn.Linear)  # as built for classes
        fit(head, features, labels, C=1 / (recipe.weight_decay * len(features)))

    options |= {"learn_features": learn_features, "learn_head": learn_head}
    one_pass.train(model, data, recipe, run, preprocess=preprocess, **options)
    return model


@torch.inference_mode()
def imprint(model: HMAX, images: ImageSet, preprocess: Preprocess, seed: int) -> None:
    """Sets the prototypes: one of each size from an image drawn at random, at a random place of a random band.

    Of the bands, those count whose map is large enough; raises :class:`DataError` where none is.
    """
    generator, transform = generator_at(seed, "prototypes"), Transform(preprocess)
    device = model.luma.device

    def draw(below: int) -> int:
        return int(torch.randint(below, (), generator=generator))

    for number in range(model.num_prototypes):
        maps = model.forward_c1(transform(images.image(draw(len(images))))[None].to(device))
        for s2 in model.s2:
            assert isinstance(s2, S2)
            fitting = [band for band in maps if min(band.shape[-2:]) >= s2.side]
            if not fitting:
                raise DataError(
                    f"{images.name}: an input of {preprocess.input_size[1:]} pixels has no map of C1 to cut a "
                    f"prototype of {s2.side} x {s2.side} from.",
                    hint="Use a larger --set input_size=N.",
                )
            band = fitting[draw(len(fitting))]
            top, left = (draw(length - s2.side + 1) for length in band.shape[-2:])
            s2.prototypes[number] = band[0, :, top : top + s2.side, left : left + s2.side]


def fit(head: nn.Linear, features: Tensor, labels: Tensor, C: float) -> None:  # noqa: N803  # its name in the field
    """Makes ``head`` the one-vs-rest linear SVM of standardised ``features`` N D.

    (x - mean) / std . w + b becomes x . (w / std) + (b - mean . w / std).
    """
    features = features.double()
    std, mean = torch.std_mean(features, dim=0, correction=0)
    std[std == 0] = 1  # says nothing: standardised, it is 0
    weight, bias, classes = one_pass.fit_linear_svm((features - mean) / std, labels, C)
    weight = weight / std
    one_pass.set_rows(head, weight, bias - weight @ mean, classes)
