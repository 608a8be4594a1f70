"""Local descriptors, a code of them, a classifier: the pipeline as a network."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.modules import ImageClassifier, check_choice
from zoo_classical import heads
from zoo_classical.codings import CODINGS, Coding, CodingName, Concatenation
from zoo_classical.descriptors import Descriptor, Extractor, Sampling
from zoo_classical.heads import ClassifierName


class Pipeline(ImageClassifier):
    """``descriptors``, ``coding`` and ``head``: see these modules.

    ``samples`` is from how many descriptors a codebook is learnt; ``options`` go to the head.
    """

    classifier_name = "head"

    def __init__(
        self,
        descriptors: Extractor,
        coding: Coding | Concatenation,
        *,
        classifier: ClassifierName,
        held: int,
        samples: int,
        options: dict[str, Any],
        num_classes: int,
    ) -> None:
        super().__init__()
        self.descriptors = descriptors
        self.classifier, self.held, self.samples, self.options = classifier, held, samples, options
        self.num_classes = num_classes
        self.head: nn.Module
        self.set_coding(coding)

    @property
    def num_features(self) -> int:  # type: ignore[override]  # the coding may change
        return self.coding.num_features

    def set_coding(self, coding: Coding | Concatenation) -> None:
        """Replaces the coding, and with it the head."""
        self.coding = coding
        self.feature_info.clear()
        self.note_stage("coding", self.num_features, math.inf)  # of the whole image, whatever its size
        self.reset_classifier(self.num_classes)

    @property
    def default_layers(self) -> tuple[str, ...]:
        return ("coding",)

    @property
    def learned(self) -> dict[str, object]:
        """Build arguments that training decides on."""
        sizes: dict[str, object] = {}
        if isinstance(self.coding, Concatenation):
            sizes["features"] = self.num_features
        if self.held:
            sizes["held"] = self.held
        return sizes

    def make_classifier(self, num_classes: int) -> nn.Module:
        if not num_classes:
            return nn.Identity()
        head = heads.build(self.classifier, self.num_features, num_classes, self.held, self.options)
        return head.to(self.descriptors.luma.device)

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W in [0, 1] to codes B num_features."""
        if isinstance(x, Tensor) and x.numel() == 0:
            return x.new_zeros(0, self.num_features)
        codes: Tensor = self.coding(self.descriptors(x))
        return codes

    def sample(self, images: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Draws at most ``count`` descriptors of each image at random, N D."""
        drawn = []
        for _, vectors in self.descriptors(images):
            drawn.append(vectors[torch.randperm(len(vectors), generator=generator)[:count].to(vectors.device)])
        return torch.cat(drawn)

    def learn_features(self, sample: Tensor, seed: int) -> None:
        """Learns the codebook from descriptors N D; raises :class:`DataError` where they are too few."""
        if isinstance(self.coding, Coding):
            self.coding.learn(sample, seed)

    def learn_head(self, codes: Tensor, labels: Tensor, weight_decay: float) -> None:
        """Fits the classifier to codes N num_features of training images and their labels N."""
        assert isinstance(self.head, heads.Head)  # as built for classes
        self.head = self.head.learn(codes, labels, weight_decay)
        self.held = self.head.held


def classical(
    *,
    descriptor: Descriptor = "sift",
    sampling: Sampling = "grid",
    sides: Sequence[int] = (16,),
    step: int = 8,
    coding: CodingName = "bovw",
    words: int = 400,
    components: int = 0,
    pyramid: Sequence[int] = (1,),
    power: float = 0.5,
    classifier: ClassifierName = "linear_svm",
    neighbours: int = 5,
    depth: int = 0,
    leaf: int = 1,
    held: int = 1,
    samples: int = 100_000,
    features: int = 0,
    num_classes: int = 102,
    in_chans: int = 3,
) -> Pipeline:
    """Builds any combination; until it is trained, codebook and classifier are noise.

    Descriptors (``zoo_classical.descriptors``): ``sides`` of patches and ``step`` of the grid in pixels, for HOG
    the side of a cell. Codings (``zoo_classical.codings``): ``words``, ``components`` of PCA (0: none),
    ``pyramid``, ``power``; ``none`` concatenates descriptors, ``features`` numbers in all. Classifiers
    (``zoo_classical.heads``): ``neighbours`` of knn; of a tree ``depth`` (0: as it grows) and the fewest images
    of a ``leaf``. ``features`` and ``held`` (images, support vectors or nodes kept) are what training finds.
    Raises :class:`SpecError`.
    """
    extractor = Extractor(descriptor, sampling=sampling, sides=sides, step=step, in_chans=in_chans)
    code: Coding | Concatenation
    if coding == "none":
        if sampling == "keypoints":
            raise SpecError("coding = 'none' concatenates descriptors of a grid; of keypoints there are more or fewer.")
        code = Concatenation(features)
    else:
        check_choice("coding", coding, (*CODINGS, "none"))
        options: dict[str, Any] = {"components": components, "pyramid": pyramid, "power": power}
        code = CODINGS[coding](extractor.dimensions, words, **options)
    return Pipeline(
        extractor,
        code,
        classifier=classifier,
        held=held,
        samples=samples,
        options={"neighbours": neighbours, "depth": depth, "leaf": leaf},
        num_classes=num_classes,
    )
