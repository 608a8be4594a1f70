"""``zoo look confusion``: which classes a network confuses."""

from pathlib import Path

from zoo.cli import options
from zoo.cli.look.options import Answer, limit_option, look_command, model_options, open_model


@look_command(
    "zoo look confusion resnet20.digits --limit 360",
    *model_options,
    options.data,
    options.split,
    limit_option,
)
def confusion(
    name: str, data: str | None, split: str, limit: int, weights: Path | None, args: dict[str, str], device: str | None
) -> Answer:
    """Count images by true and predicted class.

    Prints the ten pairs of classes that are confused most.
    """
    from zoo import look

    found = look.confusion(open_model(name, weights, args, device), data, split, limit=limit)
    pairs = [
        {"true": pair.true, "predicted": pair.predicted, "images": f"{pair.images:,} of {pair.n:,}"}
        for pair in found.pairs[:10]
    ]
    return found, {"images": found.fingerprint, "confused": pairs or "no classes"}
