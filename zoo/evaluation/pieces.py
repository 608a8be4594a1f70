"""A network that computes batches in pieces, whose feature maps fit into a processor's cache."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from zoo.evaluation.folding import folded
from zoo.modules.execution import compiled, compiler_errors

Precision = Literal["bfloat16", "float32"]

_MANY = 64
"""Images for which it pays to fold a network."""

_AT_ONCE = 8 * 3 * 224 * 224
"""Numbers that a processor computes on at once: the feature maps of more photographs do not fit into its cache."""


class Pieces:
    """The outputs of ``model``, in eval mode on ``device``, as it computes them for ``total`` images in less time.

    Call it within its context, in which autocast keeps the converted weights.

    A compiled network that is one graph, and so has no state of its own, computes as many pieces at once as there are
    processors: each does without waiting for the others, which also decode images.
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
        """float32 on the CPU: the outputs for ``images`` float32 B C H W."""
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
            return
        self._at_once = min(self._at_once, len(images))
        if not (is_processor and self._runs_in_threads(images[: self._at_once])):
            self._model = compiled(self._model, is_frozen=is_processor)

    def _runs_in_threads(self, images: Tensor) -> bool:
        """Compiles the network as one graph for threads, one for each processor; False if there is none."""
        from torch._dynamo.exc import TorchDynamoException  # slow to import

        plain = self._model
        pool = ThreadPoolExecutor(torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,))
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
        """One piece; a compiled network gets as many images as ever, the last of them again if there are fewer.

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
