"""Weights trained again from their run record, and what came of it."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from zoo.creation import create
from zoo.errors import DataError, TrainingError, UnknownNameError
from zoo.evaluation.by_name import evaluate
from zoo.manifest import Score
from zoo.registry import arguments
from zoo.spec import Model
from zoo.system import distributed
from zoo.training import by_name, find_record
from zoo.training.find_record import Original

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from zoo.evaluation import Report
    from zoo.evaluation.claims import Comparison
    from zoo.training import TrainingData
    from zoo.training.finetune import Source
    from zoo.training.record import Difference, Record

log = logging.getLogger("zoo")

Outcome = Literal["file", "tensors", "score", "different"]


class Reproduction(msgspec.Struct, frozen=True):
    """What became of weights that were trained again.

    ``outcome`` is ``file`` (the new tensors with the original's record make the very same file),
    ``tensors`` (they are the same to the bit, their file is not), ``score`` (the original's score lies
    within the new one's 95% interval) or ``different``. ``sha256`` and ``expected`` are those of the
    file made anew and of the original; ``unequal`` of ``tensors`` differ. ``report`` and ``comparison``
    tell the new score, where it was needed and there are test images; ``differences``, what was not
    the same around the training, as far as it was recorded.
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
    allow_other_data: bool = False,
    device: "torch.device | str | None" = None,
    **run_options: Any,
) -> Reproduction:
    """Trains weights again from the record of the run that made them, and compares the two.

    Uses as many threads as that run did; warns if that is not possible.

    Args:
        name: Weights (``arch.tag``), a safetensors file, or a run's directory.
        output: The directory of the new run.
        resume: Whether to go on with a reproduction that was interrupted.
        data: Where the images are, if not where the record says.
        init: Where the weights are that the run started from, if not where the record says.
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

    held = find_record.find(name)
    if held.file.resolve().parent == Path(output).resolve():
        raise TrainingError(f"{output} holds {held.file.name} itself.", hint="Choose another directory (-o DIR).")
    then = record.read(held.about["run"], held.name)
    prepared = _images(then, data, allow_other_data)
    args = arguments.of_file(held.model, then.args, held.name)
    source = _start(then, held.model, init)
    run_options.setdefault("command", by_name.command_line())
    run = training.Run(output, resume=resume, init=source and source.record, **run_options)
    _warn(then)
    with _threads(then.threads):
        place = _device(then.device, device)
        trained = by_name.carry_out(held.model, prepared, then.recipe, run, args=args, source=source, device=place)
    if run.is_paused:
        raise TrainingError(
            f"{held.name} is trained in part: there is nothing to compare yet.",
            hint=f"Go on with --resume -o {run.directory} (resume=True).",
        )
    now = record.read(safetensors_file.metadata(run.model)["run"], run.model)
    return _judge(held, trained, run.model, record.differences(then, now), data or prepared.train.name)


def _images(then: "Record", data: str | Path | None, allow_other_data: bool) -> "TrainingData":
    """The images to train on and those held out, seen to be those of the record."""
    from zoo import training
    from zoo.training import record

    try:
        images = by_name.training_images(data or then.data["train"].name)
        has_own = "validation" in then.data and not then.recipe.validation
        held_out = by_name.validation_images(data or then.data["train"].name) if has_own else None
    except UnknownNameError as error:
        raise DataError(
            f"It was trained on {then.data['train'].name}, which is no data set known here: {error.message}",
            hint="Say where its images lie: --data PATH (data=PATH).",
        ) from None
    prepared = training.split(images, then.recipe, held_out)
    here = record.images_of(prepared)
    others = record.other_images(then.data, here)
    if others and not allow_other_data:
        raise DataError(
            "The images are not those it was trained on."
            + "".join(f"\n  {found.what}: {found.then}, here {found.now}" for found in others),
            hint="Say where the right ones lie (--data PATH), or go on all the same: --allow-other-data.",
        )
    return prepared


def _start(then: "Record", model: Model, init: str | Path | None) -> "Source | None":
    """The weights that training starts from, if any."""
    if not then.init:
        return None
    from zoo.training import finetune

    source = finetune.find(init or then.init["weights"], model)
    if source.record["sha256"] != then.init["sha256"]:
        raise TrainingError(
            f"It was trained from {then.init['weights']} with sha256 {then.init['sha256']}; "
            f"{source.file} has {source.record['sha256']}.",
            hint="Say where the right file lies: --init FILE (init=FILE).",
        )
    return source


def _warn(then: "Record") -> None:
    """Of what is known beforehand to stand in the way of the same bits."""
    count = distributed.current().count
    if then.processes != count:
        log.warning("Its processes were %d, these are %d: sums come out differently", then.processes, count)
    if any(set(place) - {"epochs"} for place in then.earlier):
        log.warning("It was interrupted and resumed elsewhere, which cannot be done again in the same way")
    if lengths := [str(place["epochs"]) for place in then.earlier if "epochs" in place]:
        log.warning("It was begun with a schedule of %s epochs, which is not done again", ", then ".join(lengths))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Within it, torch takes ``count`` threads, on which the order of sums depends; 0: as many as it would."""
    import torch

    before, cores = torch.get_num_threads(), os.cpu_count() or 1
    if count:
        torch.set_num_threads(count)
    else:
        log.warning("Its record does not say how many threads it took: going on with %d", before)
    if count > cores:
        log.warning("It took %d threads, and there are %d cores: sums may be taken in another order", count, cores)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(recorded: str, asked: "torch.device | str | None") -> "torch.device | str | None":
    """As ``asked``, else the ``recorded`` one; where it is not to be had, any."""
    import torch

    if asked is not None or not recorded:
        return asked
    try:
        torch.empty(0, device=recorded)
    except (RuntimeError, AssertionError, NotImplementedError):
        log.warning("It was trained on %s, which is not to be had here", recorded)
        return None
    return recorded


def _judge(
    held: Original, trained: "nn.Module", weights: Path, differences: "list[Difference]", data: str | Path
) -> Reproduction:
    from zoo.loading import safetensors_file

    before = safetensors_file.read(held.file)
    state = {key: _stored_as(value, before.get(key)) for key, value in trained.state_dict().items()}
    with TemporaryDirectory() as folder:
        sha256 = safetensors_file.write(state, Path(folder, "model.safetensors"), held.about)
    unequal = [key for key in {**before, **state} if not _are_same(before.get(key), state.get(key))]
    report = comparison = None
    outcome: Outcome = "file" if sha256 == held.sha256 else "tensors"
    if unequal:
        report, comparison = _compare(held, trained, data)
        outcome = "score" if comparison is not None and comparison.agrees else "different"
    return Reproduction(
        name=held.name,
        outcome=outcome,
        weights=weights,
        sha256=sha256,
        expected=held.sha256,
        tensors=len(before),
        unequal=len(unequal),
        report=report,
        comparison=comparison,
        differences=differences,
    )


def _stored_as(value: "Tensor", before: "Tensor | None") -> "Tensor":
    """``value`` in the type of the tensor that it should equal: files may hold float16 to be smaller."""
    is_shorter = before is not None and before.is_floating_point() and value.is_floating_point()
    return value.to(before.dtype) if before is not None and is_shorter else value


def _are_same(left: "Tensor | None", right: "Tensor | None") -> bool:
    """Whether both are there and the same to the bit."""
    import torch

    if left is None or right is None or left.shape != right.shape or left.dtype != right.dtype:
        return False
    bits = [tensor.detach().cpu().contiguous().flatten().view(torch.uint8) for tensor in (left, right)]
    return torch.equal(*bits)


def _compare(held: Original, trained: "nn.Module", data: str | Path) -> "tuple[Report | None, Comparison | None]":
    """The score of ``trained`` on the test images, and how it compares with the original's; None without images."""
    from zoo.evaluation import claims as claimed

    claims = held.entry.scores if held.entry is not None else {}
    name = held.about["run"]["data"]["train"]["name"]
    split = next((key.partition("/")[2] for key in claims if key.startswith(f"{name}/")), "test")
    try:
        report = evaluate(trained, data, split)
    except DataError as error:
        log.warning("There are no test images to compare scores on: %s", error.message)
        return None, None
    claim = claims.get(f"{name}/{split}")
    if claim is None:
        own = evaluate(create(held.model.name, weights=held.file), data, split)
        claim = Score(n=own.n, source="the original's, measured now", top1=own.top1, fingerprint=own.fingerprint)
    return report, claimed.check(report, claim)
