"""Trains weights again from their run record and compares the results."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Unpack

import msgspec

from zoo import names, registry
from zoo.errors import DataError, TrainingError, UnknownNameError, ZooError
from zoo.evaluation.by_name import evaluate
from zoo.hub import cache
from zoo.hub.address import Embedded
from zoo.loading import resolve
from zoo.loading.create import create
from zoo.manifest import Score, Weights
from zoo.registry import hooks
from zoo.spec import Model
from zoo.system import distributed, storage
from zoo.training import by_name

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from zoo.evaluation import Report
    from zoo.evaluation.claims import Comparison
    from zoo.training import TrainingData
    from zoo.training.pretrained import Source, Teacher
    from zoo.training.record import Difference, Record
    from zoo.training.run import RunOptions


log = logging.getLogger("zoo")

_MAX_HEADER = 25_000_000

Outcome = Literal["file", "tensors", "score", "different"]


class Original(NamedTuple):
    """Weights with a run record: their file, its metadata, and their manifest entry if there is one."""

    name: str
    model: Model
    file: Path
    sha256: str
    about: dict[str, Any]
    entry: Weights | None


class Reproduction(msgspec.Struct, frozen=True):
    """The result of training weights again.

    ``outcome`` is ``file`` (the new tensors with the original's record give an identical file), ``tensors`` (all
    tensors are bit-identical, the file is not), ``score`` (other bits, and Fisher's exact test of two samples finds no
    difference between the scores) or ``different``. ``sha256`` and ``expected`` are those of the new file and of the
    original; ``unequal`` of ``tensors`` differ. ``report`` and ``comparison`` hold the new score, if it was needed and
    there are test images; ``differences`` are the recorded differences of the environment.
    """

    name: str
    outcome: Outcome
    weights: Path
    sha256: str
    expected: str
    tensors: int
    unequal: int
    report: "Report | None"
    comparison: "Comparison | None"
    differences: "list[Difference]"

    @property
    def succeeded(self) -> bool:
        return self.outcome != "different"


def reproduce(
    name: str | Path,
    *,
    output: str | Path,
    resume: bool = False,
    data: str | Path | None = None,
    init: str | Path | None = None,
    teacher: str | Path | None = None,
    allow_other_data: bool = False,
    device: "torch.device | str | None" = None,
    **run_options: "Unpack[RunOptions]",
) -> Reproduction:
    """Trains weights again from the record of the run that made them, and compares the two.

    Uses as many threads as that run did; warns if that is not possible.

    Args:
        name: Weights (``arch.tag``), a safetensors file, or a run's directory.
        output: The directory of the new run.
        resume: Whether to resume a reproduction that was interrupted.
        data: Where the images are, if not where the record says.
        init: Where the weights are that the run started from, if not where the record says.
        teacher: Where the teacher's weights are, if not where the record says.
        allow_other_data: Whether to train on images other than those of the record.
        device: Where to train. By default as the record says.
        run_options: Passed to :class:`zoo.training.Run`.

    Returns:
        Whether the file, the tensors or the score are the same, and what differed.

    Raises:
        TrainingError: There is no record, ``output`` is the run itself, or training is paused.
        DataError: The images are not those of the record.
        UnknownNameError: There is no such model or tag.

    Example:
        >>> import zoo
        >>> settings = {"epochs": 1}
        >>> model = zoo.train("resnet8", "digits", settings=settings, output="runs/first", device="cpu")
        >>> zoo.reproduce("runs/first", output="runs/second").outcome
        'file'
    """
    from zoo import training
    from zoo.loading import safetensors_file
    from zoo.training import record

    original = find_original(name)
    if original.file.resolve().parent == Path(output).resolve():
        raise TrainingError(
            f"{output} is the directory of {original.file.name} itself.", hint="Choose another directory (-o DIR)."
        )
    then = record.read(original.about["run"], original.name)
    prepared = _images(then, data, allow_other_data)
    args = hooks.args_of_file(original.model, then.args, original.name)
    source = _start(then, original.model, init)
    run_options.setdefault("command", by_name.command_line())
    guide = _teacher(then, teacher)
    run = training.Run(output, resume=resume, init=source and source.record, teacher=guide, **run_options)
    _warn(then)
    with _threads(then.threads):
        place = _device(then.device, device)
        trained = by_name.carry_out(original.model, prepared, then.recipe, run, args=args, source=source, device=place)
    if run.is_paused:
        raise TrainingError(
            f"{original.name} is an unfinished run, so there is nothing to compare yet.",
            hint=f"Continue with --resume -o {run.directory} (resume=True).",
        )
    now = record.read(safetensors_file.metadata(run.model)["run"], run.model)
    return _judge(original, trained, run.model, record.differences(then, now), data or prepared.train.name)


def find_original(name: str | Path) -> Original:
    """Finds the weights ``name`` with their run record; a model's name means its default ones.

    Raises :class:`TrainingError` if they have none, without fetching them if their entry shows that.
    """
    from zoo.loading import safetensors_file

    if (path := _path(name)) is not None:
        file = path / "model.safetensors" if path.is_dir() else path
        if not file.exists():
            raise TrainingError(
                f"{path} is not a finished run: model.safetensors is missing.",
                hint=f"zoo train ... --resume -o {path} finishes it.",
            )
        about = safetensors_file.metadata(file)
        _check_has_record(str(name), about)
        of = names.requirement(about.get("distribution", ""), about.get("distribution_version", ""))
        target = registry.current().find(about["model"], distribution=of)
        return Original(str(name), target.model, file, storage.sha256_of(file), about, None)
    target = resolve.find(str(name))
    entry = resolve.weights_for(target)
    if cache.find(entry) is None and not entry.origin.startswith(by_name.TRAINED):
        raise _no_record(entry.name)
    entry, file = resolve.use(target)
    about = safetensors_file.metadata(file)
    _check_has_record(entry.name, about)
    return Original(entry.name, target.model, file, storage.sha256_of(file), about, entry)


def training_of(weights: Weights) -> dict[str, str]:
    """Summarizes the training of ``weights``, if their file is cached. Does not import torch."""
    try:
        file = cache.find(weights)
        kind, _, package = weights.hub.partition(":")
        if file is None and kind != "embedded":
            return {}
        with file.open("rb") if file is not None else Embedded(package).open(weights, 0) as stream:
            length = min(int.from_bytes(stream.read(8), "little"), _MAX_HEADER)
            header = json.loads(b"".join(_parts(stream, length)))
        about = json.loads(header["__metadata__"]["zoo"])
        return facts_of(about, weights.name, is_fitted=_is_fitted(weights))
    except (ZooError, OSError, ValueError, LookupError, TypeError):
        return {}  # of another origin


def facts_of(about: Mapping[str, Any], name: str, *, is_fitted: bool) -> dict[str, str]:
    """Summarizes the training that the metadata ``about`` of the weights file of ``name`` records.

    Nothing if it records none. A command that it lacks is derived from what it has, and called that.
    """
    try:
        run = about["run"]
        recipe, images = run["recipe"], run["data"]["train"]
        epochs = "" if is_fitted else f"{recipe['epochs']} epochs, "
        facts = {
            "recipe": f"{recipe['name']}, {epochs}seed {recipe['seed']}",
            "trained on": f"{images['n']:,} images of {images['name']}/{images['split']}, {images['fingerprint']}",
            "trained with": ", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items()),
            "code": run.get("code", ""),
            "command": run.get("command", ""),
        }
        if not facts["command"]:
            facts["derived command"] = by_name.command_from(run, name)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}  # of another origin
    return {name: str(fact) for name, fact in facts.items() if fact}


def _is_fitted(weights: Weights) -> bool:
    """Returns whether the model is fitted without gradients, whose recipe has epochs only because every recipe has."""
    try:
        return registry.current().find(weights.arch).model.fitted
    except ZooError:
        return False


def _parts(stream: Any, count: int) -> Iterator[bytes]:
    """Yields the next ``count`` bytes of ``stream``, which may return fewer at a time or end earlier."""
    while count and (part := stream.read(min(count, 1 << 20))):
        yield part
        count -= len(part)


def _path(name: str | Path) -> Path | None:
    """Returns ``name`` as a path, unless it is a name of the registry."""
    if not isinstance(name, Path):
        try:
            resolve.find(name)
        except UnknownNameError:
            if not Path(name).exists():
                raise
        else:
            return None
    return Path(name)


def _check_has_record(name: str, about: dict[str, Any]) -> None:
    if not isinstance(about.get("run"), dict) or not isinstance(about.get("model"), str):
        raise _no_record(name)


def _no_record(name: str) -> TrainingError:
    trained = [
        f"{entry.name}.{weights.tag}"
        for entry in registry.current().models()
        for weights in entry.weights
        if weights.origin.startswith(by_name.TRAINED)
    ]
    return TrainingError(
        f"{name} has no run record, because it was not trained by zoo train.",
        hint=f"These can be reproduced: {', '.join(trained)}." if trained else "Files written by zoo train have one.",
    )


def _images(then: "Record", data: str | Path | None, allow_other_data: bool) -> "TrainingData":
    """Loads the training images and the held-out ones, and checks them against the record."""
    from zoo import training
    from zoo.training import record

    try:
        images = by_name.training_images(data or then.data["train"].name)
        has_own = "validation" in then.data and not then.recipe.validation
        held_out = by_name.validation_images(data or then.data["train"].name) if has_own else None
    except UnknownNameError as error:
        raise DataError(
            f"It was trained on {then.data['train'].name}, which is not available here: {error.message}",
            hint="Set the path of its images: --data PATH (data=PATH).",
        ) from None
    prepared = training.split(images, then.recipe, held_out)
    here = record.describe_images(prepared)
    differences = record.other_images(then.data, here)
    if differences and not allow_other_data:
        raise DataError(
            "The images differ from the original training images."
            + "".join(f"\n  {difference.what}: {difference.then}, here {difference.now}" for difference in differences),
            hint="Set the path of the right images (--data PATH), or continue with --allow-other-data.",
        )
    return prepared


def _start(then: "Record", model: Model, init: str | Path | None) -> "Source | None":
    """Finds the initial weights, if any."""
    if not then.init:
        return None
    from zoo.training.pretrained import find_source

    source = find_source(init or then.init["weights"], model)
    _require_same("init", then.init, source.record)
    return source


def _teacher(then: "Record", weights: str | Path | None) -> "Teacher | None":
    """Loads the network that it learned from, if any."""
    if not then.teacher:
        return None
    from zoo.training.pretrained import find_teacher

    guide = find_teacher(weights or then.teacher["weights"])
    _require_same("teacher", then.teacher, guide.record)
    return guide


def _require_same(role: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises :class:`TrainingError` if the weights in the ``role`` of the record are other ones ``now``."""
    if before["sha256"] != now["sha256"]:
        how = "from" if role == "init" else "with the teacher"
        raise TrainingError(
            f"It was trained {how} {before['weights']} with sha256 {before['sha256']}; "
            f"{now['weights']} has {now['sha256']}.",
            hint=f"Set the path of the right file: --{role} FILE ({role}=FILE).",
        )


def _warn(then: "Record") -> None:
    """Warns of known differences that prevent identical bits."""
    count = distributed.current().count
    if then.processes != count:
        log.warning("It used %d processes, this run uses %d: sums are rounded differently", then.processes, count)
    if any(set(place) - {"epochs"} for place in then.earlier):
        log.warning("It was interrupted and resumed on another machine, which cannot be repeated exactly")
    if lengths := [str(place["epochs"]) for place in then.earlier if "epochs" in place]:
        log.warning("It started with a schedule of %s epochs, which is not repeated", ", then ".join(lengths))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Makes torch use ``count`` threads within, which affects the order of sums; 0 for the default."""
    import torch

    before, cores = torch.get_num_threads(), os.cpu_count() or 1
    if count:
        torch.set_num_threads(count)
    else:
        log.warning("Its record has no number of threads: using %d", before)
    if count > cores:
        log.warning("It used %d threads, but there are %d cores: sums may be rounded differently", count, cores)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(recorded: str, asked: "torch.device | str | None") -> "torch.device | str | None":
    """Returns ``asked``, or else the ``recorded`` device; if it is not available, any."""
    import torch

    if asked is not None or not recorded:
        return asked
    try:
        torch.empty(0, device=recorded)
    except (RuntimeError, AssertionError, NotImplementedError):
        log.warning("It was trained on %s, which is not available here", recorded)
        return None
    return recorded


def _judge(
    original: Original, trained: "nn.Module", weights: Path, differences: "list[Difference]", data: str | Path
) -> Reproduction:
    from zoo.loading import safetensors_file

    before = safetensors_file.read(original.file)
    state = {key: _stored_as(value, before.get(key)) for key, value in trained.state_dict().items()}
    with TemporaryDirectory() as folder:
        sha256 = safetensors_file.write(state, Path(folder, "model.safetensors"), original.about)
    unequal = [key for key in {**before, **state} if not _are_same(before.get(key), state.get(key))]
    report = comparison = None
    outcome: Outcome = "file" if sha256 == original.sha256 else "tensors"
    if unequal:
        report, comparison = _compare(original, trained, data)
        outcome = "score" if comparison is not None and comparison.agrees else "different"
    return Reproduction(
        name=original.name,
        outcome=outcome,
        weights=weights,
        sha256=sha256,
        expected=original.sha256,
        tensors=len(before),
        unequal=len(unequal),
        report=report,
        comparison=comparison,
        differences=differences,
    )


def _stored_as(value: "Tensor", before: "Tensor | None") -> "Tensor":
    """Returns ``value`` in the dtype of the original tensor: files may hold float16 to be smaller."""
    is_shorter = before is not None and before.is_floating_point() and value.is_floating_point()
    return value.to(before.dtype) if before is not None and is_shorter else value


def _are_same(left: "Tensor | None", right: "Tensor | None") -> bool:
    """Returns whether both exist and are bit-identical."""
    import torch

    if left is None or right is None or left.shape != right.shape or left.dtype != right.dtype:
        return False
    bits = [tensor.detach().cpu().contiguous().flatten().view(torch.uint8) for tensor in (left, right)]
    return torch.equal(*bits)


def _compare(original: Original, trained: "nn.Module", data: str | Path) -> "tuple[Report | None, Comparison | None]":
    """Scores ``trained`` on the test images and compares it with the original; None without images."""
    from zoo import data as datasets
    from zoo.evaluation import claims as claimed

    claims = original.entry.scores if original.entry is not None else {}
    name = original.about["run"]["data"]["train"]["name"]
    split = next((key.partition("/")[2] for key in claims if key.startswith(f"{name}/")), "test")
    claim = claims.get(f"{name}/{split}")
    try:
        images = datasets.load(data, split)
        if claim is not None and (numbers := claimed.left_in(claim, images)) is not None:
            images = images.subset(numbers, split)
        report = evaluate(trained, images)
    except DataError as error:
        log.warning("Scores cannot be compared without test images: %s", error.message)
        return None, None
    if claim is None:
        measured = evaluate(create(original.model.name, weights=original.file), images)
        claim = Score(
            n=measured.n,
            source="the original's, measured now",
            top1=measured.top1,
            correct=measured.correct,
            fingerprint=measured.fingerprint,
        )
    return report, claimed.check(report, claim, is_another=True)
