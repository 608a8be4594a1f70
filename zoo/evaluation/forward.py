"""A network's logits for the images of a data set: its mode, the batches, and the pieces in which they are computed."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, Self, TypeVar, overload

import torch
from torch import Tensor, fx, nn

from zoo.data.image_file import to_pixels
from zoo.data.image_set import Fingerprint, Images, ImageSet
from zoo.data.preprocess import Transform
from zoo.data.readers.torch_dataset import PreparedBatches
from zoo.errors import DataError, SpecError, WeightsError
from zoo.evaluation.folding import folded
from zoo.modules.execution import compiled, compiler_errors
from zoo.spec import Preprocess
from zoo.system import distributed
from zoo.system.machine import keep_freed_memory


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Keeps a network in eval mode within a context. Every module's own mode is put back afterwards.

    Args:
        model: The network.

    Example:
        >>> import zoo
        >>> model = zoo.create("resnet20")
        >>> with zoo.evaluation.in_eval_mode(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Keeps a network in eval mode within a context, without gradients of its parameters.

    Modes and ``requires_grad`` are put back afterwards, whatever happens inside; ``grad`` is never touched.

    Args:
        model: The network.

    Example:
        >>> import zoo
        >>> model = zoo.create("resnet20")
        >>> with zoo.evaluation.frozen(model):
        ...     any(parameter.requires_grad for parameter in model.parameters())
        False
    """
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with in_eval_mode(model):
        try:
            model.requires_grad_(False)
            yield
        finally:
            for parameter, asks in flags:
                parameter.requires_grad_(asks)


@overload
def batches(
    data: ImageSet,
    transform: Transform,
    batch_size: int,
    fingerprint: Fingerprint | None = None,
    images: range | None = None,
) -> Iterator[tuple[Tensor, Tensor]]: ...
@overload
def batches(
    data: Images, transform: Transform, batch_size: int, fingerprint: None = None, images: range | None = None
) -> Iterator[tuple[Tensor, None]]: ...
def batches(
    data: ImageSet | Images,
    transform: Transform,
    batch_size: int,
    fingerprint: Fingerprint | None = None,
    images: range | None = None,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Prepares a data set's images for a network, in order.

    Images that are not in memory are decoded in threads, one batch ahead.

    Args:
        data: The images.
        transform: How images are prepared.
        batch_size: Images in a batch. The last one may be smaller.
        fingerprint: Takes in pixels and labels of images that are decoded here, which saves decoding them again.
        images: The numbers of the images. By default all.

    Returns:
        An iterator over (images float32 B C H W, labels int64 B), or (images, None) if ``data`` has no labels.

    Raises:
        DataError: An image is damaged.

    Example:
        >>> import zoo
        >>> transform = zoo.preprocess(zoo.create("resnet20.digits"))
        >>> images, labels = next(zoo.evaluation.batches(zoo.data.load("digits"), transform, 32))
        >>> images.shape
        torch.Size([32, 1, 8, 8])
    """
    images = range(len(data)) if images is None else images
    parts = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    labels = None if isinstance(data, Images) else data.labels
    if data.pixels is not None:
        for numbers in parts:
            chosen = slice(numbers.start, numbers.stop)
            yield transform.batch(data.pixels[chosen]), None if labels is None else labels[chosen]
        return

    def prepare(index: int) -> tuple[Tensor, Tensor]:
        image = data.image(index)
        return transform(image), to_pixels(image)

    if not parts:
        return
    with ThreadPoolExecutor() as pool:
        coming = pool.map(prepare, parts[0])
        for numbers, following in zip(parts, [*parts[1:], range(0)], strict=True):
            current, coming = coming, pool.map(prepare, following)
            inputs = []
            for index, (image, pixels) in zip(numbers, current, strict=True):
                inputs.append(image)
                if fingerprint is not None and labels is not None:
                    fingerprint.add(pixels[None], labels[index : index + 1])
            yield torch.stack(inputs), None if labels is None else labels[numbers.start : numbers.stop]


Precision = Literal["bfloat16", "float32"]

_MANY = 64
"""Images for which it pays to fold a network."""

_AT_ONCE = 8 * 3 * 224 * 224
"""Numbers that a processor computes on at once: the feature maps of more photographs do not fit into its cache."""


class Pieces:
    """The outputs of ``model``, in eval mode on ``device``, as it computes them for ``total`` images in less time.

    Call it within its context, in which autocast keeps the converted weights.

    A network that is one graph, and so has no state of its own, computes as many pieces at once as there are processors
    if it is compiled or computes in bfloat16: each does without waiting for the others, which also decode images.
    """

    def __init__(self, model: nn.Module, total: int, device: torch.device, precision: Precision, compile: bool) -> None:
        self._model = model
        self._total = total
        self._device = device
        self._precision = precision
        self._compile = compile
        self._at_once = 0  # until the first images are known
        self._pool: ThreadPoolExecutor | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(torch.inference_mode())
        self._stack.enter_context(self._autocast())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        if self._pool is not None:
            self._pool.shutdown()

    def __call__(self, images: Tensor) -> Tensor:
        """Returns float32 on the CPU: the outputs for ``images`` float32 B C H W."""
        images = images.to(self._device, memory_format=torch.channels_last)
        if not self._at_once:
            self._prepare(images)
        pieces = [images[start : start + self._at_once] for start in range(0, len(images), self._at_once)]
        outputs = list(self._pool.map(self._run, pieces) if self._pool else map(self._run, pieces))
        return outputs[0] if len(outputs) == 1 else torch.cat([*map(torch.atleast_1d, outputs)])

    def _prepare(self, images: Tensor) -> None:
        is_processor = self._device.type == "cpu"
        self._at_once = max(1, _AT_ONCE // images[0].numel()) if is_processor else len(images)
        if self._total >= _MANY:
            with torch.autocast(self._device.type, enabled=False):
                self._model = folded(self._model, images[:2])
        if not self._compile:
            if is_processor and self._precision == "bfloat16" and self._total >= _MANY:
                self._trace(images[:2])
            return
        self._at_once = min(self._at_once, len(images))
        if not (is_processor and self._runs_in_threads(images[: self._at_once])):
            self._model = compiled(self._model, is_frozen=is_processor)

    def _trace(self, images: Tensor) -> None:
        """Makes the network one graph for threads, if it is one.

        Its modules might keep what they compute, which threads would mix up.
        """
        try:
            traced = fx.symbolic_trace(self._model)
            if torch.equal(traced(images), self._model(images)):
                self._model, self._pool = traced, self._threads()
        except Exception:  # it decides by values, or does what only its author knows
            return

    def _threads(self) -> ThreadPoolExecutor:
        """Returns a thread for each processor. Its autocast keeps the converted weights from one piece to the next."""
        contexts = threading.local()

        def begin() -> None:
            torch.set_num_threads(1)
            contexts.autocast = self._autocast()
            contexts.autocast.__enter__()  # it ends with the thread

        return ThreadPoolExecutor(torch.get_num_threads(), initializer=begin)

    def _runs_in_threads(self, images: Tensor) -> bool:
        """Compiles the network as one graph for threads, one for each processor; False if there is none."""
        from torch._dynamo.exc import TorchDynamoException  # slow to import

        plain = self._model
        pool = self._threads()
        try:
            self._model = compiled(plain, is_frozen=True, is_whole=True)
            pool.submit(self._run, images).result()
        except TorchDynamoException:
            pool.shutdown()
            self._model = plain
            return False
        self._pool = pool
        return True

    def _run(self, images: Tensor) -> Tensor:
        """Returns one piece; a compiled network gets as many images as ever, the last of them again if there are fewer.

        For another number it would be compiled again.
        """
        count = len(images)
        with torch.inference_mode(), self._autocast():  # each thread has its own
            if not self._compile:
                return _on_cpu(self._model(images))
            if count < self._at_once:
                images = torch.cat([images, images[-1:].expand(self._at_once - count, -1, -1, -1)])
                images = images.contiguous(memory_format=torch.channels_last)
            with compiler_errors():
                return _on_cpu(self._model(images))[:count]

    def _autocast(self) -> Any:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == "bfloat16")


def _on_cpu(output: Tensor) -> Tensor:
    return output.float().cpu()


Labels = TypeVar("Labels")


def logits(
    model: nn.Module,
    data: Images | ImageSet,
    *,
    preprocess: Preprocess,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    compile: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Computes the logits of all images of a data set, in order: what an evaluate hook may return.

    The network runs as in :func:`zoo.evaluation.evaluate`. In processes that a launcher started, each computes a part
    of the images, and all get the logits of the whole.

    Args:
        model: The network. Its modes are put back afterwards.
        data: The images. Labels are not read.
        preprocess: How images are prepared.
        batch_size: Images per batch. A processor computes on fewer photographs at a time, which is faster.
        device: Where to run. By default where the network is.
        dtype: ``"float32"`` or ``"bfloat16"``, or torch's types of these names. By default float32.
        compile: Compile the network with ``torch.compile``, which takes a while and pays for many images.
        progress: Called with (images done, images in all), of this process.

    Returns:
        float32 N K on the CPU: one row for each image, one column for each class.

    Raises:
        WeightsError: Outputs are not B C, or contain NaN or infinity.
        SpecError: Another ``dtype``.

    Example:
        >>> import zoo
        >>> model, digits = zoo.create("resnet20.digits"), zoo.data.load("digits", "test")
        >>> zoo.evaluation.logits(model, digits, preprocess=model.zoo_info.preprocess).shape
        torch.Size([360, 10])
    """
    group = distributed.current()
    device = group.device(device if device is not None else device_of(model))
    share = group.share(len(data))
    images = data if isinstance(data, Images) else data.without_labels()
    source = batches(images, Transform(preprocess), batch_size, images=share)
    collected: list[Tensor] = []

    def keep(output: Tensor, _: None) -> None:
        require_logits(output)
        collected.append(output)
        if progress is not None:
            progress(min(len(collected) * batch_size, len(share)), len(share))

    run(model, source, len(share), device, precision_of(dtype), compile, keep)
    computed = torch.cat(collected) if collected else torch.empty(0, 0)
    if group.count == 1:
        return computed
    classes, sharers = group.totals(computed.shape[1], bool(collected))
    whole = torch.zeros(len(data), int(classes / sharers), device=device)
    whole[share.start : share.stop] = computed.to(device) if collected else 0
    return group.sum(whole).cpu()


def run(
    model: nn.Module,
    source: Iterable[tuple[Tensor, Labels]],
    total: int,
    device: torch.device,
    precision: Precision,
    compile: bool,
    take: Callable[[Tensor, Labels], None],
) -> None:
    """Calls ``take`` with (outputs float32 on the CPU, labels) of each of the batches ``source`` of ``total`` images.

    The network is in eval mode and on ``device``.
    """
    keep_freed_memory()
    model.to(device)
    with in_eval_mode(model), Pieces(model, total, device, precision, compile) as pieces:
        for images, labels in source:
            take(pieces(images), labels)


def require_logits(outputs: Tensor) -> None:
    """Raises :class:`WeightsError` unless ``outputs`` are finite logits."""
    if outputs.ndim != 2:
        raise WeightsError(f"The network returns shape {tuple(outputs.shape)}, expected (images, classes).")
    if not torch.isfinite(outputs).all():
        raise WeightsError("The network's outputs contain NaN or infinity.")


def require_classes(logits: Tensor, labels: Tensor, data: ImageSet | PreparedBatches) -> None:
    """Raises :class:`DataError` unless ``logits`` have a column for each of ``labels``."""
    if int(labels.max()) >= logits.shape[1]:
        raise DataError(
            f"{data.name} has labels up to {int(labels.max())}, but the network has {logits.shape[1]} classes.",
            hint="Use weights trained on this data set, or train with its number of classes.",
        )


def precision_of(dtype: torch.dtype | str | None) -> Precision:
    """Returns the precision that ``dtype`` names; raises :class:`SpecError` for another."""
    match str(dtype or "float32").removeprefix("torch."):
        case "float32":
            return "float32"
        case "bfloat16":
            return "bfloat16"
    raise SpecError(f"dtype = {dtype!r}: expected float32 or bfloat16.")


def device_of(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))
