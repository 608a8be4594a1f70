"""Training by name, by the model's own hook."""

import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import msgspec

from zoo import registry
from zoo.errors import TrainingError, WeightsError, ZooError
from zoo.evaluation import hook
from zoo.loading import resolve
from zoo.loading.create import info_of, save
from zoo.registry import hooks
from zoo.spec import Model
from zoo.system import distributed, toml
from zoo.training import choice
from zoo.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

    from zoo.data import ImageSet, ImageStream
    from zoo.loading import Network
    from zoo.training import Run, TrainingData
    from zoo.training.pretrained import Source
    from zoo.training.run import RunOptions

log = logging.getLogger("zoo")

TRAINED = "trained by zoo train"
"""Beginning of the origin of weights whose file holds the record of their training."""


def train(
    name: str | None = None,
    data: "str | Path | ImageSet | ImageStream | Dataset[Any] | DataLoader[Any] | None" = None,
    *,
    args: Mapping[str, Any] | None = None,
    init: str | Path | None = None,
    teacher: str | Path | None = None,
    recipe: str | None = None,
    settings: Mapping[str, Any] | None = None,
    output: str | Path,
    resume: bool = False,
    device: "str | torch.device | None" = None,
    **run_options: "Unpack[RunOptions]",
) -> "Network":
    """Trains an architecture, or resumes training, and writes a run's directory.

    ``output`` then holds the trained network, ``model.safetensors``, with the record of the run.

    Args:
        name: The architecture. A resumed run knows it.
        data: A data set's name or path, whose split ``train`` is trained on; its images; or a torch ``Dataset`` or
            ``DataLoader``, as :func:`zoo.data.from_dataset` reads it. A resumed run knows a name or a path.
        args: Arguments of the family's build function. They are written into the weights file.
        init: Trained weights to start from: ``arch.tag``, the folder of a run or a safetensors file. The head is newly
            initialised unless they know the classes of ``data``; the first convolution is adapted to its channels.
        teacher: Trained weights of the same classes to learn from, as ``settings["distill.alpha"]`` and
            ``settings["distill.temperature"]`` say: ``arch.tag`` or a safetensors file.
        recipe: A recipe of the family. By default its first for this model and data.
        settings: Fields of the recipe to change, such as ``{"epochs": 5, "augment.flip": False}``.
        output: The run's directory.
        resume: Whether to resume the run in ``output``. Other arguments must then be what the run was started with,
            or be left out; ``settings["epochs"]`` may change.
        device: Where to train. By default a GPU if there is one.
        run_options: Passed to :class:`zoo.training.Run`.

    Returns:
        The trained network.

    Raises:
        UnknownNameError: There is no such model, data set, recipe or setting.
        RecipeError: The recipe is not valid, or none is meant for this model and data.
        TrainingError: The directory holds another run, or the loss is not a finite number.
        DataError: The images cannot be read, or are of one class.
        WeightsError: ``name`` has a tag, ``init`` does not fit the model, or ``teacher`` has other classes.

    Example:
        >>> import zoo
        >>> digits = zoo.data.load("digits").subset(range(256), "train")
        >>> model = zoo.train("resnet8", digits, settings={"epochs": 1}, output="runs/digits", device="cpu")
        >>> model.zoo_info.classes
        'digits'
    """
    from zoo import data as datasets
    from zoo import training
    from zoo.training import pretrained, record
    from zoo.training.optimization import BACKBONE

    former = record.of_run(training.Run(output, resume=True)) if resume else None
    if former is not None:
        name = name or former.model
        data = former.source.get("data", former.data["train"].name) if data is None else data
        init = init or former.source.get("init") or former.init.get("weights")
        teacher = teacher or former.source.get("teacher") or former.teacher.get("weights")
        args = {**former.args, **(args or {})}
    if name is None or data is None:
        raise TrainingError(
            f"Training needs a {'model' if name is None else 'data set'}.",
            hint="zoo train MODEL --data DATA -o DIR; with --resume, -o DIR is enough.",
        )
    target = resolve.find(name)
    if target.weights is not None:
        raise WeightsError(
            f"Training {name} would start from random weights, not from these.",
            hint=f"To start from them, use --init {name} (init={name!r}); otherwise train {target.model.name}.",
        )
    if undeclared := hooks.undeclared_args(target.model, args or {}):
        log.warning(
            "%s: a weights file cannot set %s: pass it again (--arg) whenever you load the trained network",
            name,
            ", ".join(undeclared),
        )
    images = training_images(data) if isinstance(data, str | Path) else _as_images(data)
    held_out = validation_images(data) if isinstance(data, str | Path) else None
    _check_images(images, data)
    if former is not None and recipe in (None, former.recipe.name):
        chosen = training.change(former.recipe, settings, target.plugin)
    else:
        has_recipes = target.row.is_builtin or bool(target.plugin.recipes)
        freeze = toml.read_value((settings or {}).get("freeze", ()))
        has_new_part_alone = isinstance(freeze, Sequence) and BACKBONE in freeze  # other types are refused below
        is_trained = init is not None and not has_new_part_alone
        own_recipe = _own_recipe(target.model, images, held_out is not None, is_trained, has_recipes)
        chosen = training.choose(target.plugin, target.model, images.name, recipe, settings, own=own_recipe)
    guide = None if teacher is None else pretrained.find_teacher(teacher)
    if guide is not None:
        guide.check(images)
        if chosen.distill is None:
            chosen = training.change(chosen, {"distill": {}})
    start = None if init is None else pretrained.find_source(init, target.model)
    source = {"data": datasets.address(data)} if isinstance(data, str | Path) else {}
    source |= {} if start is None else {"init": start.name if start.entry else str(start.file.absolute())}
    source |= {} if guide is None else {"teacher": guide.address}
    if former is None and not command_line():  # a resumed run keeps its command
        run_options.setdefault(
            "command",
            command_of(
                name,
                data,
                output=output,
                recipe=recipe,
                settings=settings,
                args=args,
                init=init,
                teacher=teacher,
                device=device,
            ),
        )
    run_options.setdefault("command", command_line())
    run = training.Run(output, resume=resume, init=start and start.record, teacher=guide, source=source, **run_options)
    prepared = training.split(images, chosen, held_out)
    return carry_out(target.model, prepared, chosen, run, args=args or {}, source=start, device=device)


def _as_images(data: "ImageSet | ImageStream | Dataset[Any] | DataLoader[Any]") -> "ImageSet | ImageStream":
    from zoo import data as datasets
    from zoo.data.readers import torch_dataset

    if isinstance(data, datasets.ImageSet | datasets.ImageStream):
        return data
    torch_dataset.check(data)
    return datasets.from_dataset(data)


def _check_images(images: "ImageSet | ImageStream", data: Any) -> None:
    """Raises :class:`DataError` for images of one class; warns of what names and counts of a folder show."""
    from zoo.data import ImageSet, folder_check

    has_files = isinstance(images, ImageSet) and bool(images.files)
    folder = Path(data).expanduser() if isinstance(data, str | Path) and has_files else None
    folder = folder if folder is not None and folder.is_dir() else None
    if len(images.classes) == 1:
        raise folder_check.one_class(images.classes[0], folder)
    if folder is not None and distributed.current().is_first:
        for finding in folder_check.check_structure(folder):
            if finding.level == "warning":
                log.warning("%s %s", finding.message, finding.advice)


def training_images(data: str | Path) -> "ImageSet | ImageStream":
    """Loads the training images of ``data``, in memory or as a stream."""
    from zoo import data as datasets

    return datasets.open_stream(data, "train") or datasets.load(data, "train")


def validation_images(data: str | Path) -> "ImageSet | None":
    """Loads the validation split of ``data``, never its test split."""
    from zoo import data as datasets

    splits = datasets.splits(data)
    split = next((name for name in ("validation", "val", "valid") if name in splits), None)
    return datasets.load(data, split) if split is not None and datasets.open_stream(data, split) is None else None


def _own_recipe(
    model: Model, images: "ImageSet | ImageStream", is_held_out: bool, is_trained: bool, has_recipes: bool
) -> dict[str, Any] | None:
    """Returns the recipe for images or for a network without one, if ``model`` uses the default training hook."""
    from zoo.data.classes import count_training_images
    from zoo.training.choice import for_own_images

    if (count_training_images(images.name) and has_recipes) or model.train != hook.DEFAULT.train:
        return None
    height, width = model.preprocess.input_size[1:]
    return for_own_images(
        len(images),
        is_small=images.pixels is not None and tuple(images.pixels.shape[2:]) == (height, width),
        has_color=images.channels == 3,
        is_held_out=is_held_out or not hasattr(images, "labels"),
        is_trained=is_trained,
        is_known=has_recipes,
    )


def carry_out(
    model: Model,
    data: "TrainingData",
    recipe: Recipe,
    run: "Run",
    *,
    args: Mapping[str, Any],
    source: "Source | None" = None,
    device: "torch.device | str | None" = None,
) -> "Network":
    """Trains a new network of ``model``, or that of ``source``, and saves it in the directory of ``run``."""
    import torch

    from zoo import loading, training
    from zoo.evaluation.outputs import write_mistakes
    from zoo.training import pretrained, record

    images = data.train
    run.check()
    torch.manual_seed(recipe.seed)
    if source is None:
        module, info = loading.build(model, num_classes=len(images.classes), in_chans=images.channels, **args)
    else:
        module, info = pretrained.build(source, model, images, args)
    preprocess = training.normalise(module, data, recipe, info.preprocess)
    pretrained.check_whitening(module, preprocess, recipe)
    info = info._replace(preprocess=preprocess, classes=images.name, class_names=images.classes)
    module.zoo_info = info
    trained = hook.train(model, module, data, recipe, run, preprocess=preprocess, device=device)
    if not run.is_paused:
        group = distributed.current()
        described = record.describe(module, data, recipe, preprocess, run, group.device(device))
        if group.is_first:
            _keep(trained, run, described)
        # A family's hook may share the images out to all processes; Zoo's own leaves them to the first.
        if data.validation is not None and (group.is_first or model.evaluate != hook.DEFAULT.evaluate):
            dtype = "bfloat16" if recipe.precision == "bfloat16" else None
            answers = hook.answers(model, trained, data.validation, preprocess=preprocess, dtype=dtype)
            if group.is_first and answers is not None:
                write_mistakes(run.directory, data.validation, answers)
        group.wait()
    return trained


def _keep(module: "nn.Module", run: "Run", record: dict[str, Any]) -> None:
    """Writes the trained network with everything needed to use it and to train it again.

    Its record is ``record``, except for values that the hook wrote into the run's configuration.
    """
    import json

    info, recipe = info_of(module), record["recipe"]["name"]
    if run.config.exists():
        record = {**record, **json.loads(run.config.read_text(encoding="utf-8"))}
        record.pop("source", None)  # folders of this machine
    start = f", from {Path(run.init['weights']).name}" if run.init else ""
    save(module, run.model, origin=f"{TRAINED} on {info.classes} with recipe {recipe}{start}", run=record)


def command_line() -> str:
    """Returns the command line of this process, if it is Zoo's."""
    program = Path(sys.argv[0])
    is_zoo = program.name == "zoo" or program.parts[-2:] == ("zoo", "__main__.py")
    return shlex.join(["zoo", *sys.argv[1:]]) if is_zoo else ""


def command_of(
    name: str | None,
    data: Any,
    *,
    output: str | Path,
    recipe: str | None = None,
    settings: Mapping[str, Any] | None = None,
    args: Mapping[str, Any] | None = None,
    init: str | Path | None = None,
    teacher: str | Path | None = None,
    device: "str | torch.device | None" = None,
) -> str:
    """Returns the ``zoo train ...`` that repeats a training with these arguments of :func:`train`.

    It names no folder of this machine: data and weights in files appear under the last part of their path, the run as
    ``runs/NAME``. Images that are only in memory have no name, and some values cannot be typed: then it is the program
    that trains, if that is a script or a module.
    """
    if not isinstance(data, str | Path):
        return _program()
    try:
        words = _words(name, _named(data), recipe, settings or {}, args or {})
    except ValueError:
        return _program()
    words += ["--init", _weights(init)] if init else []
    words += ["--teacher", _weights(teacher)] if teacher else []
    words += ["--device", str(device)] if device else []
    return shlex.join([*words, "-o", f"runs/{Path(output).absolute().name}"])


def _words(
    name: str | None, data: str, recipe: str | None, settings: Mapping[str, Any], args: Mapping[str, Any]
) -> list[str]:
    """Returns the words of a command; raises ValueError if a value cannot be typed."""
    words = ["zoo", "train", *([name] if name else []), "--data", data]
    words += ["--recipe", recipe] if recipe else []
    for option, values in (("--set", settings), ("--arg", args)):
        for key, value in values.items():
            words += [option, f"{key}={_typed(value, is_read=option == '--set')}"]
    return words


def command_from(run: Mapping[str, Any], name: str) -> str:
    """Returns the ``zoo train ...`` that repeats the training with the record ``run``, for weights called ``name``.

    It is derived from the record, with the recipes that are installed: settings say where the record's differs. ""
    if there is no such command, for instance because the family is not installed. Threads and device are not in it,
    and an order of images that depended on shards neither. Does not import torch.
    """
    try:
        match = registry.current().find(str(run["model"]))
        recipe, data = msgspec.convert(run["recipe"], Recipe), run["data"]["train"]["name"]
        if match.plugin is None or (chosen := choice.settings_for(match.plugin, match.model, recipe, data)) is None:
            return ""
        ours = _plain(match.model.args)
        args = {key: value for key, value in run.get("args", {}).items() if key not in ours or value != ours[key]}
        words = _words(match.model.name, data, *chosen, args)
        for option in ("init", "teacher"):
            words += [f"--{option}", Path(run[option]["weights"]).name] if run.get(option) else []
    except (ZooError, msgspec.MsgspecError, ValueError, LookupError, TypeError, AttributeError):
        return ""
    return shlex.join([*words, "-o", f"runs/{name}"])


def _plain(args: Mapping[str, Any]) -> dict[str, Any]:
    """Returns ``args`` as a file holds them: lists in place of tuples."""
    return dict(msgspec.json.decode(msgspec.json.encode(args)))


def _named(data: str | Path) -> str:
    """Returns a data set's name, without the folder that it is in."""
    from zoo import data as datasets

    text = str(data)
    if datasets.address(data) != text or Path(text).is_absolute():
        return Path(text).name
    reader, _, rest = text.partition(":")
    return f"{reader}:{Path(rest).name}" if rest.startswith(("/", "~")) and "://" not in text else text


def _weights(weights: str | Path) -> str:
    from zoo.training import pretrained

    return Path(weights).name if pretrained.file_of(weights) else str(weights)


def _typed(value: Any, *, is_read: bool) -> str:
    """Returns ``value`` as it is typed on the command line; a string that ``is_read`` there anyway stays as it is.

    Raises ValueError if no text is read as this value.
    """
    if isinstance(value, str) and value == value.strip() and (is_read or toml.read_value(value) == value):
        return value
    try:
        plain = msgspec.to_builtins(value)
        text = toml.render(plain)
    except TypeError as error:
        raise ValueError(str(error)) from None
    if toml.read_value(text) != (list(plain) if isinstance(plain, tuple) else plain):
        raise ValueError(f"{value!r} has no TOML form")
    return text


def _program() -> str:
    """Returns how this program was started, if it is a script or a module: the session of a notebook is neither."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    script = Path(sys.argv[0]).name
    if "ipykernel" in sys.modules or not (spec or script.endswith(".py")):
        return ""
    started = ["-m", spec.name.removesuffix(".__main__")] if spec else [script]
    return shlex.join(["python", *started, *sys.argv[1:]])
