"""Evaluation by name, by the model's own hook."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from zoo.errors import DataError, SpecError, WeightsError
from zoo.evaluation import hook
from zoo.loading.create import as_network, info_of, require_classes
from zoo.system import distributed, storage

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

    from zoo.data import ImageSet
    from zoo.data.readers.torch_dataset import PreparedBatches
    from zoo.evaluation import Report
    from zoo.evaluation.claims import Comparison
    from zoo.evaluation.outputs import Outputs
    from zoo.loading import ModelInfo, Network
    from zoo.manifest import Score

log = logging.getLogger("zoo")


def evaluate(
    model: "str | nn.Module",
    data: "str | Path | ImageSet | Dataset[Any] | DataLoader[Any] | None" = None,
    split: str = "test",
    *,
    weights: str | Path | None = None,
    device: "str | torch.device | None" = None,
    outputs: str | Path | None = None,
    mistakes: str | Path | None = None,
    **options: Any,
) -> "Report":
    """Scores a network on a data set.

    Args:
        model: A name, or a network that :func:`zoo.create` returned. A name without a tag means the model's default
            weights.
        data: A data set's name or path, its images, or a torch ``Dataset`` or ``DataLoader`` with the network's labels.
            By default the data set whose classes the weights know. Float tensors are scored as they are, prepared by
            :func:`zoo.transforms`; other images are as in :func:`zoo.data.from_dataset`.
        split: The split to load, if ``data`` is a name or a path.
        weights: A local safetensors file, instead of the weights that a name means.
        device: Where to run. By default a GPU if there is one for a name, and where it is for a network.
        outputs: A safetensors file to write the logits and the images' identities to, from which
            :func:`zoo.evaluation.measure` computes every score again.
        mistakes: A folder to write ``confusion.csv`` to, images by true and predicted class, and ``mistakes.csv``, the
            images that the network gets wrong, the most certain first.
        options: Passed to the model's evaluate hook; :func:`zoo.evaluation.evaluate` takes ``batch_size``, ``dtype``,
            ``compile`` and ``progress``.

    Returns:
        Top-1 with its 95% interval, top-5, loss, and the fingerprint of the images.

    Raises:
        UnknownNameError: There is no such model or data set, or the hook has no such option.
        DataError: The weights name no data set, or the images have classes that they do not know.
        WeightsError: The network has no classes, or its outputs contain NaN or infinity.
        SpecError: ``outputs`` or ``mistakes`` is set in one of several processes, or for a data loader.

    Example:
        >>> import zoo
        >>> report = zoo.evaluate("resnet20.digits", "digits")
        >>> report.n, report.top1 > 95
        (360, True)
    """
    from zoo.evaluation.outputs import write_mistakes, write_outputs

    if isinstance(model, str):
        device = distributed.current().device(device)
    network = as_network(model, weights=weights)
    images = _images(network, data, split)
    info = info_of(network)
    collected: list[Outputs] = []
    if (wanted := outputs if outputs is not None else mistakes) is not None:
        _require_images(images, wanted)
        options["take"] = collected.append
    report = hook.evaluate(info.model, network, images, preprocess=info.preprocess, device=device, **options)
    if outputs is not None:
        sha256 = sha256_of(info) if report.weights else ""
        write_outputs(Path(outputs), collected[0], cast("ImageSet", images), report, sha256)
    if mistakes is not None:
        write_mistakes(Path(mistakes), cast("ImageSet", images), collected[0].mistakes(cast("ImageSet", images)))
    return report


def check(
    model: "Network",
    data: "str | Path | ImageSet | None" = None,
    split: str = "test",
    *,
    allow_other_images: bool = False,
    outputs: str | Path | None = None,
    **options: Any,
) -> "tuple[Report, Comparison]":
    """Scores a network as :func:`evaluate` does, and compares the score with that of its manifest.

    A claim that leaves out images of the whole data set is compared on those that it is about; the report is on all.
    If the answers of these weights are published, the images that differ from them are named. A network that says
    ``is_approximate``, as an exported file in int8 does, is compared as another one.
    Raises :class:`WeightsError` if the manifest claims no score on these images.
    """
    from zoo.evaluation import answers, claims
    from zoo.evaluation.outputs import write_outputs
    from zoo.loading import is_as_loaded

    info = info_of(model)
    if not is_as_loaded(model):
        raise WeightsError(
            f"The tensors of this network are not those of {info.name}, so it has no claimed score.",
            hint="Leave out check, or create the network anew.",
        )
    images = cast("ImageSet", _images(model, data, split))
    claim = _claim(info, f"{images.name}/{images.split}")
    numbers = claims.left_in(claim, images)
    is_another = bool(getattr(model, "is_approximate", False))
    published = None
    if distributed.current().count == 1 and not is_another:
        published = answers.published(sha256_of(info))
    collected: list[Outputs] = []
    if outputs is not None or numbers is not None:
        _require_images(images, outputs)
    if outputs is not None or numbers is not None or published is not None:
        options["take"] = collected.append
    report = hook.evaluate(info.model, model, images, preprocess=info.preprocess, **options)
    if outputs is not None:
        write_outputs(Path(outputs), collected[0], images, report, sha256_of(info))

    def check_report(of: "Report", part: "Outputs | None") -> "Comparison":
        differing = claims.differences(of, part, published) if part is not None and published is not None else None
        return claims.check(
            of, claim, allow_other_images=allow_other_images, is_another=is_another, differing=differing
        )

    if numbers is None:
        return report, check_report(report, collected[0] if collected else None)
    part = images.subset(numbers, images.split)
    options |= {"device": report.device, "dtype": None if report.dtype == "float32" else report.dtype}
    outputs_of_part = collected[0].subset(numbers)
    comparison = check_report(outputs_of_part.report(model, part, report.seconds, options), outputs_of_part)
    words = f"{comparison.message}; it leaves out {len(claim.without)} of the {len(images):,} images"
    return report, msgspec.structs.replace(comparison, message=words)


def _images(
    model: "Network", data: "str | Path | ImageSet | Dataset[Any] | DataLoader[Any] | None", split: str
) -> "ImageSet | PreparedBatches":
    """Returns the images, by default of the data set whose classes the weights know, with classes of ``model``."""
    from zoo import data as datasets
    from zoo import evaluation

    info = info_of(model)
    require_classes(model)
    if data is None or data == "":
        data = info.classes
    if data == "":
        raise DataError(f"{info.name} does not name a data set.", hint="Set one with --data NAME (data=NAME).")
    if isinstance(data, str | Path):
        images: ImageSet | PreparedBatches = datasets.load(data, split)
    else:
        images = data if isinstance(data, datasets.ImageSet) else _of_torch(data, split, model, info)
    _warn_of_training_images(info, images)
    return evaluation.check_classes(model, images)


def _require_images(images: "ImageSet | PreparedBatches", outputs: str | Path | None) -> None:
    from zoo.data.readers.torch_dataset import PreparedBatches

    if isinstance(images, PreparedBatches) or distributed.current().count > 1:
        got = "a data loader" if isinstance(images, PreparedBatches) else "several processes"
        what = "A claim that leaves out images" if outputs is None else f"outputs = {str(outputs)!r}"
        raise SpecError(f"{what}: expected images in one process, got {got}.")


def _claim(info: "ModelInfo", where: str) -> "Score":
    """Returns the score of the manifest on ``where``."""
    scores = info.weights.scores if info.weights is not None else {}
    if where not in scores:
        raise WeightsError(
            f"The manifest claims no score of {info.name} on {where}.",
            hint=f"It claims scores on {', '.join(scores)}." if scores else "",
        )
    return scores[where]


def _of_torch(
    data: "Dataset[Any] | DataLoader[Any]", split: str, model: "Network", info: "ModelInfo"
) -> "ImageSet | PreparedBatches":
    """Returns the images of a torch data set or data loader, whose labels number the classes of ``model``."""
    from zoo.data.readers import torch_dataset

    torch_dataset.check(data)
    classes = torch_dataset.classes_of(data) or info.class_names or tuple(map(str, range(model.num_classes)))
    channels = info.preprocess.input_size[0]
    ready = torch_dataset.prepared(data, split=split, classes=classes, channels=channels)
    if ready is None:
        return torch_dataset.from_dataset(data, split=split, classes=classes)
    if info.model.evaluate != hook.DEFAULT.evaluate:
        raise DataError(
            f"{info.name} is scored by {info.model.evaluate}, which prepares images itself; got float tensors.",
            hint="Pass a data set of Pillow images or uint8 tensors.",
        )
    return ready


def sha256_of(info: "ModelInfo") -> str:
    """Returns the sha256 of the weights: the manifest's, else that of the file; empty for a network without weights."""
    if info.weights is not None and info.weights.sha256:
        return info.weights.sha256
    return storage.sha256_of(info.file) if info.file else ""


def _warn_of_training_images(info: "ModelInfo", images: "ImageSet | PreparedBatches") -> None:
    """Says so if the weights' own record names the split that they are to be scored on."""
    from zoo.loading import safetensors_file

    if info.file is None:
        return
    try:
        learned = safetensors_file.metadata(info.file)["run"]["data"]["train"]
        if (learned["name"], learned["split"]) != (images.name, images.split):
            return
    except (WeightsError, LookupError, TypeError):
        return  # of another origin
    where = f"{images.name}/{images.split}" if images.split != "all" else f"{images.name}, which has no splits"
    log.warning("%s was trained on images of %s: the score does not generalise to other images", info.name, where)
