"""onnxruntime on the CPU: the one place that starts it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import FileFormatError, MissingExtraError


def start(model: Path | bytes, name: str, *, what: str, extra: str) -> Any:
    """Returns an ``onnxruntime.InferenceSession`` of a file or its content, which errors call ``name``.

    Raises :class:`FileFormatError` if onnxruntime does not accept the model, and :class:`MissingExtraError`, which says
    that ``what`` needs onnxruntime and that ``extra`` installs it.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError.of(what, "onnxruntime", extra) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    content = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many kinds
        raise _unusable(name, error) from None


def run(session: Any, output: str, images: Tensor, name: str) -> Tensor:
    """Returns the value ``output`` for ``images``; raises :class:`FileFormatError`, which names the model ``name``."""
    try:
        [answer] = session.run([output], {session.get_inputs()[0].name: images.contiguous().numpy()})
    except Exception as error:  # onnxruntime raises many kinds
        raise _unusable(name, error) from None
    return torch.from_numpy(answer)


def _unusable(name: str, error: Exception) -> FileFormatError:
    reason = str(error).partition("\n")[0]
    return FileFormatError(f"onnxruntime cannot run {name}: {reason}")
