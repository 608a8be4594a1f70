"""Converts the file of a manifest's entry, in a process of its own: :mod:`zoo.hub.converted` starts it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.errors import TensorMismatchError, UnknownNameError, WeightsError, ZooError
from zoo.loading import safetensors_file
from zoo.registry import Found, arguments
from zoo_convert import Stated, conversion
from zoo_convert.download import Source


def convert_here(*, name: str, source: str, file: str, **how: Any) -> dict[str, Any]:
    """Converts ``source``, which the entry ``name`` calls ``file``; returns fields of a record.

    Raises the errors of :func:`zoo_convert.convert`, which begin with ``name`` and call the file as the entry does.
    """
    try:
        return _convert(source=Source(Path(source), file), **how)
    except ZooError as error:
        message = error.message.replace(source, file).replace(Path(source).name, file)
        hint = error.hint
        if isinstance(error, TensorMismatchError):
            hint = "An entry may state the key map (key_map = NAME), and that the file has no head (num_classes = 0)."
        raise type(error)(f"{name}: {message}", hint=hint) from None


def _convert(
    *, source: Source, model: str, sha256: str, key_map: str, args: Mapping[str, Any], is_trunk: bool, out: str
) -> dict[str, Any]:
    found = _find(model)
    _, choice = conversion.read(source, found, Stated(args=args, trunk=is_trunk), key_map=key_map or None)
    arguments.of_file(found.model, choice.fitted.args, source.name)
    about = {"origin": f"converted from {source.name} (sha256 {sha256})", **conversion.describe(choice)}
    digest = safetensors_file.write(choice.fitted.tensors, Path(out), about)
    preprocess = choice.info.preprocess
    return {
        "file": source.name,
        "sha256": digest,
        "key_map": choice.fitted.key_map.name,
        "args": choice.fitted.args,
        "preprocess": None if preprocess == found.model.preprocess else preprocess,
        "classes": choice.info.classes,
    }


def _find(model: str) -> Found:
    try:
        return registry.current().find(model)
    except UnknownNameError:
        raise WeightsError(
            f"its file is converted in a process of its own, which has no model {model!r}.",
            hint="A plugin that zoo.register added exists in one process: install it as a distribution.",
        ) from None
