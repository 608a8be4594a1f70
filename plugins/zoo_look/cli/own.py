"""The commands of ``zoo look`` for questions that plugins bring."""

from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.spec import LookQuestion
from zoo_look.cli.options import (
    Answer,
    image_options,
    layer_option,
    look_command,
    model_options,
    open_model,
    pick_image,
)


def command(name: str, question: LookQuestion) -> click.Command:
    """``zoo look NAME MODEL``: options of the model, the layer, the image, and the question's own."""

    @look_command(
        f"zoo look {name} resnet20.digits --index 0",
        *model_options,
        layer_option,
        *image_options,
        options.pairs("--set", "settings", help="Set an argument of the question. Repeatable."),
    )
    def ask(
        layer: str | None,
        image: Path | None,
        data: str | None,
        split: str,
        indices: tuple[int, ...],
        settings: dict[str, str],
        **model: Any,
    ) -> Answer:
        import zoo_look as look
        from zoo.system.toml import read_value

        network = open_model(**model)
        has_image = image is not None or bool(indices)
        shown = pick_image(network, image=image, data=data, split=split, indices=indices) if has_image else None
        given = {key: read_value(value) for key, value in settings.items()}
        found = look.ask(name, network, shown, layer=layer or "", options=given)
        return found, found.facts()

    ask.help = question.note or f"Ask {name}."
    ask.name = name
    return ask
