"""What a batch is learnt from: its images as they are, attacked ones, or both, a piece at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zoo.attack.gradient import draw, perturb_batch
from zoo.attack.pixel_model import under_attack
from zoo.spec import Preprocess
from zoo.training.portion import Portion
from zoo.training.randomness import generator_at
from zoo.training.recipe import Recipe


class Lesson(NamedTuple):
    """Images to learn from, ``weight`` of the whole batch's loss; whether ``is_last`` of this update.

    The right answers of those that are ``counted`` are the accuracy that the log tells.
    """

    images: Tensor
    labels: Tensor
    weight: float
    is_counted: bool
    is_last: bool


class Lessons:
    """The lessons of each update: pieces of this process's share of a batch, attacked where the recipe says so.

    What an attack leaves to chance follows from (seed, update) and the place in the batch alone, however
    many processes there are.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, preprocess: Preprocess, portion: Portion) -> None:
        self._model = model
        self._preprocess = preprocess
        self._adversary = recipe.adversarial
        self._seed = recipe.seed
        self._portion = portion
        self._pieces = recipe.accumulate
        self._is_bfloat16 = recipe.precision == "bfloat16"
        self._layout = torch.channels_last if recipe.channels_last else torch.contiguous_format

    def of(self, images: Tensor, labels: Tensor, update: int) -> Iterator[Lesson]:
        """The lessons of update ``update`` (from 0): ``images`` float B C H W, normalised, ``labels`` int64 B.

        Each is made once the one before it has been learnt from: pieces bound the memory of attacks too.
        """
        noise = self._noise(images, update)
        pieces = [parts.tensor_split(self._pieces) for parts in (images, labels)]
        draws = [None] * self._pieces if noise is None else noise.tensor_split(self._pieces)
        clean = self._adversary.clean_share if self._adversary is not None else 1.0
        for number, (piece, answers, drawn) in enumerate(zip(*pieces, draws, strict=True), start=1):
            share, is_last = len(answers) / self._portion.size, number == self._pieces
            if clean:
                yield Lesson(piece, answers, clean * share, clean == 1, is_last and clean == 1)
            if clean < 1:
                yield Lesson(self._attack(piece, answers, drawn), answers, (1 - clean) * share, True, is_last)

    def _noise(self, images: Tensor, update: int) -> Tensor | None:
        """What the attack of this update leaves to chance, for this process's share of the batch."""
        if self._adversary is None:
            return None
        share = self._portion.share
        shape = torch.Size((self._portion.size, *images.shape[1:]))
        noise = draw(self._adversary.method, shape, generator_at(self._seed, "attack", update))
        return None if noise is None else noise[share.start : share.stop]

    def _attack(self, images: Tensor, labels: Tensor, noise: Tensor | None) -> Tensor:
        """``images`` attacked, normalised as they were."""
        assert self._adversary is not None  # else nothing is attacked
        autocast = torch.autocast(images.device.type, torch.bfloat16, enabled=self._is_bfloat16)
        with under_attack(self._model, self._preprocess) as pixel_model, autocast:
            pixels = (images * pixel_model.std + pixel_model.mean).clamp(0, 1)
            epsilon, method = self._adversary.epsilon, self._adversary.method
            attacked = perturb_batch(pixel_model, pixels, labels, epsilon, method, noise)
            return ((attacked - pixel_model.mean) / pixel_model.std).contiguous(memory_format=self._layout)
