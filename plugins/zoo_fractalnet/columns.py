"""The evaluate hook: the whole network, or one of its columns alone."""

from typing import Any

import zoo.evaluation as default
from zoo.data import ImageSet
from zoo.errors import SpecError
from zoo.evaluation import Report
from zoo.spec import Preprocess
from zoo_fractalnet.model import FractalNet


def evaluate(
    model: FractalNet, data: ImageSet, *, preprocess: Preprocess, column: int | None = None, **options: Any
) -> Report:
    """Scores ``model`` on ``data``; ``options`` as ``zoo.evaluation.evaluate`` has them.

    ``column``, from 1 for the shallowest on, scores that column alone, by default what ``model.column``
    says; the report names it behind the model. Raises :class:`SpecError` for a column that does not exist.
    """
    if not hasattr(model, "column"):  # a file that zoo export wrote
        if column is not None:
            raise SpecError(f"column = {column}: an exported network has no columns.", hint="Score the network itself.")
        return default.evaluate(model, data, preprocess=preprocess, **options)
    before = model.column
    model.column = before if column is None else column
    try:
        report = default.evaluate(model, data, preprocess=preprocess, **options)
        name = report.model if model.column is None else f"{report.model}, column {model.column}"
    finally:
        model.column = before
    return Report(**{field: getattr(report, field) for field in Report.__struct_fields__} | {"model": name})
