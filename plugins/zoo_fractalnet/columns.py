"""The evaluate hook: the whole network, or one of its columns alone."""

from typing import Any

from torch import Tensor

import zoo.evaluation as default
from zoo.data import ImageSet
from zoo.errors import SpecError
from zoo.spec import Preprocess
from zoo_fractalnet.model import FractalNet


def evaluate(
    model: FractalNet, data: ImageSet, *, preprocess: Preprocess, column: int | None = None, **options: Any
) -> Tensor:
    """Returns the logits N K of ``model`` for ``data``; ``options`` are those of ``zoo.evaluation.logits``.

    ``column``, from 1 for the shallowest on, is the one that answers, by default what ``model.column`` says. Raises
    :class:`SpecError` for a column that does not exist.
    """
    if not hasattr(model, "column"):  # a file that zoo export wrote
        if column is not None:
            raise SpecError(f"column = {column}: an exported network has no columns.", hint="Score the network itself.")
        return default.logits(model, data, preprocess=preprocess, **options)
    before = model.column
    model.column = before if column is None else column
    try:
        return default.logits(model, data, preprocess=preprocess, **options)
    finally:
        model.column = before
