"""A network's features of a data set: the inputs of its head, for other classifiers."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from zoo import data as datasets
from zoo.data import Fingerprint, ImageSet, Transform
from zoo.data.image_set import check_labels
from zoo.errors import DataError, UnknownNameError, WeightsError
from zoo.evaluation import batches, in_eval_mode, versions
from zoo.evaluation.forward import device_of
from zoo.loading import ModelInfo, Network, safetensors_file
from zoo.loading.create import as_network, info_of
from zoo.system import distributed
from zoo.system.machine import keep_freed_memory


class Origin(msgspec.Struct, frozen=True):
    """The origin of features.

    ``weights`` is a name from a manifest or a path, ``network`` the sha256 of the network's whole state. ``layer`` is
    empty for the input of the head. ``fingerprint`` identifies the pixels and labels.
    """

    model: str
    weights: str
    network: str
    layer: str
    data: str
    split: str
    fingerprint: str
    classes: tuple[str, ...]
    versions: dict[str, str]


@dataclass(frozen=True, eq=False)
class Features:
    """``features`` float32 N D and ``labels`` int64 N of the images of a split, in its order."""

    features: Tensor
    labels: Tensor
    origin: Origin

    def __len__(self) -> int:
        return len(self.labels)

    def write(self, file: str | Path) -> str:
        """Writes a safetensors file that :func:`read` reads; returns its sha256."""
        tensors = {"features": self.features, "labels": self.labels}
        return safetensors_file.write(tensors, Path(file), msgspec.to_builtins(self.origin))


def features(
    model: str | nn.Module,
    data: str | Path | ImageSet,
    split: str = "train",
    *,
    weights: str | Path | None = None,
    layer: str = "",
    batch_size: int = 256,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Computes the features of a data set's images: the input of the network's classifier, in eval mode and float32.

    They are ``forward_head(forward_features(x), pre_logits=True)``.

    Args:
        model: A name, or a network that :func:`zoo.create` returned. A name without a tag means the model's default
            weights.
        data: A data set's name or path, or its images.
        split: The split to load, if ``data`` is not images.
        weights: A local safetensors file, instead of the weights that a name means.
        layer: A submodule whose output to use instead, averaged over a map B C H W or over tokens B T C.
        batch_size: Images per forward pass.
        device: Where to run. By default a GPU if there is one for a name, and where it is for a network.
        progress: Called with (images done, images in all).

    Returns:
        Features N D and labels N, in the order of the split.

    Raises:
        UnknownNameError: There is no such model, data set or layer.
        WeightsError: The features contain NaN or infinity, or have another shape than B D, B C H W or B T C.

    Example:
        >>> import zoo
        >>> zoo.features("resnet20.digits", "digits", "test").features.shape
        torch.Size([360, 64])
    """
    if isinstance(model, str):
        device = distributed.current().device(device)
    network = as_network(model, weights=weights)
    info = info_of(network)
    images = data if isinstance(data, ImageSet) else datasets.load(data, split)
    keep_freed_memory()
    device = torch.device(device or device_of(network))
    network.to(device)
    streamed = Fingerprint() if images.pixels is None else None
    parts: list[Tensor] = []
    done = 0
    with ExitStack() as stack:
        compute = _layer(network, layer, stack) if layer else _pre_logits(network, info)
        stack.enter_context(in_eval_mode(network))
        stack.enter_context(torch.inference_mode())
        for batch, _ in batches(images, Transform(info.preprocess), batch_size, streamed):
            part = compute(batch.to(device, memory_format=torch.channels_last))
            if not torch.isfinite(part).all():
                raise WeightsError("The network's features contain NaN or infinity.")
            parts.append(part.float().cpu())
            done += len(part)
            if progress is not None:
                progress(done, len(images))
    origin = Origin(
        model=info.model.name,
        weights=info.weights.name if info.weights is not None else str(info.file or ""),
        network=state_hash(network),
        layer=layer,
        data=images.name,
        split=images.split,
        fingerprint=images.fingerprint if streamed is None else str(streamed),
        classes=images.classes,
        versions=versions(),
    )
    return Features(torch.cat(parts), images.labels.clone(), origin)


def read(file: str | Path) -> Features:
    """Reads features written by :meth:`Features.write`; raises :class:`DataError` for any other file."""
    file = Path(file)
    tensors = safetensors_file.read(file)
    try:
        origin = msgspec.convert(safetensors_file.metadata(file), Origin)
        values, labels = tensors["features"], tensors["labels"]
        if values.ndim != 2 or labels.shape != values.shape[:1] or len(labels) == 0:
            raise ValueError(f"features of shape {tuple(values.shape)}, labels of shape {tuple(labels.shape)}")
        if values.dtype != torch.float32 or labels.dtype != torch.int64:
            raise ValueError(f"features are {values.dtype}, labels {labels.dtype}, expected float32 and int64")
    except (msgspec.ValidationError, LookupError, ValueError) as error:
        raise DataError(
            f"{file} is not a features file: {error}.", hint="zoo features NAME --data DATA -o NEW_FILE writes one."
        ) from None
    check_labels(labels, len(origin.classes), str(file))
    return Features(values, labels, origin)


def _pre_logits(model: Network, info: ModelInfo) -> Callable[[Tensor], Tensor]:
    def compute(images: Tensor) -> Tensor:
        if info.preprocess.whitening == "zca":  # it hangs before ``forward``, which is not called here
            images = model.get_submodule("whitening")(images)
        pooled: Tensor = model.forward_head(model.forward_features(images), pre_logits=True)
        return _pool(pooled, "The head")

    return compute


def _layer(model: nn.Module, layer: str, stack: ExitStack) -> Callable[[Tensor], Tensor]:
    """Returns the output of the submodule ``layer``, while ``stack`` is open."""
    modules = {name: module for name, module in model.named_modules() if name}
    if layer not in modules:
        parts = ", ".join(name for name, _ in model.named_children())
        raise UnknownNameError.of("layer", layer, modules, hint=f"Available: {parts}, and their submodules.")
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        outputs.append(_pool(output, layer))  # at once: what comes next may work in place

    stack.enter_context(modules[layer].register_forward_hook(keep))

    def compute(images: Tensor) -> Tensor:
        outputs.clear()
        model(images)
        return outputs[-1]

    return compute


def _pool(output: Tensor, source: str) -> Tensor:
    """Returns ``output`` as B D: B C H W and B T C are averaged over positions."""
    if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
        what = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise WeightsError(f"{source} returned {what}, expected (images, features) or maps.")
    if output.ndim == 4:
        return output.mean(dim=(2, 3))
    return output.mean(dim=1) if output.ndim == 3 else output


def state_hash(model: nn.Module) -> str:
    hasher = sha256()
    for name, tensor in model.state_dict().items():
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        hasher.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return f"sha256:{hasher.hexdigest()}"
