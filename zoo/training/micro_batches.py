"""Micro-batches: the pieces of a batch, unchanged or attacked, whose gradients are accumulated."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zoo.spec import Preprocess
from zoo.training.perturbation import descend, draw
from zoo.training.pixel_model import under_attack
from zoo.training.portion import Portion
from zoo.training.randomness import generator_at
from zoo.training.recipe import Recipe


class MicroBatch(NamedTuple):
    """Part of a batch. Its mean loss counts ``weight`` times; ``is_last`` is the last one of this update.

    The training accuracy in the log is that of micro-batches with ``is_counted``.
    """

    images: Tensor
    labels: Tensor
    weight: float
    is_counted: bool
    is_last: bool


class MicroBatches:
    """Splits this process's share of each batch, and attacks the images if the recipe says so.

    The random numbers of an attack depend on (seed, update) and the place in the batch only, not on the number of
    processes.
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

    def of(self, images: Tensor, labels: Tensor, update: int) -> Iterator[MicroBatch]:
        """The micro-batches of update ``update`` (from 0): ``images`` float B C H W, normalised.

        Each is made after the gradient of the one before it, so that attacks need no more memory either.
        """
        noise = self._noise(images, update)
        pieces = [parts.tensor_split(self._pieces) for parts in (images, labels)]
        draws = [None] * self._pieces if noise is None else noise.tensor_split(self._pieces)
        clean = self._adversary.clean_share if self._adversary is not None else 1.0
        for number, (piece, answers, drawn) in enumerate(zip(*pieces, draws, strict=True), start=1):
            share, is_last = len(answers) / self._portion.size, number == self._pieces
            if clean:
                yield MicroBatch(piece, answers, clean * share, clean == 1, is_last and clean == 1)
            if clean < 1:
                yield MicroBatch(self._attack(piece, answers, drawn), answers, (1 - clean) * share, True, is_last)

    def _noise(self, images: Tensor, update: int) -> Tensor | None:
        """The random numbers of this update's attack, for this process's share of the batch."""
        if self._adversary is None:
            return None
        share = self._portion.share
        shape = torch.Size((self._portion.size, *images.shape[1:]))
        noise = draw(self._adversary, shape, generator_at(self._seed, "attack", update))
        return None if noise is None else noise[share.start : share.stop]

    def _attack(self, images: Tensor, labels: Tensor, noise: Tensor | None) -> Tensor:
        """``images`` attacked, normalised as they were."""
        assert self._adversary is not None  # else nothing is attacked
        autocast = torch.autocast(images.device.type, torch.bfloat16, enabled=self._is_bfloat16)
        with under_attack(self._model, self._preprocess) as pixel_model, autocast:
            pixels = (images * pixel_model.std + pixel_model.mean).clamp(0, 1)
            attacked = descend(pixel_model, pixels, labels, self._adversary.epsilon, self._adversary, noise)
            return ((attacked - pixel_model.mean) / pixel_model.std).contiguous(memory_format=self._layout)
