"""Speed and size of networks on this machine, apart from any score: the protocol of timm's benchmark script."""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal, get_args

import msgspec
import torch
from torch import nn
from torch.nn import functional as F

from zoo.errors import SpecError
from zoo.evaluation import counting
from zoo.evaluation.forward import device_of, in_eval_mode
from zoo.loading.create import as_network, create, info_of
from zoo.modules.execution import compiled, compiler_errors
from zoo.system import distributed
from zoo.system.machine import hardware, keep_freed_memory

Mode = Literal["inference", "training"]
Precision = Literal["float32", "bfloat16", "float16", "amp"]

_LEAST = 5
"""Steps that are timed whatever they take."""

_LEARNING_RATE = 1e-4


class Speed(msgspec.Struct, frozen=True):
    """The speed of one network for batches of one size; no field says how accurate it is.

    ``latency_ms`` is the median of ``steps`` batches, ``latency_p95_ms`` their 95th percentile, ``images_per_s`` the
    mean. ``params_m``, ``gmacs`` and ``macts_m`` are millions of elements of parameters, billions of multiply-adds and
    millions of activations (outputs of convolutions and linear layers) for one image. ``first_s`` are the seconds of
    the very first batch, in which ``backend`` compiled compiles.
    """

    model: str
    mode: Mode
    device: str
    hardware: str
    threads: int
    backend: Literal["eager", "compiled"]
    precision: Precision
    channels_last: bool
    batch_size: int
    input_size: str
    latency_ms: float
    latency_p95_ms: float
    images_per_s: float
    steps: int
    first_s: float
    params_m: float
    gmacs: float
    macts_m: float
    torch: str


def benchmark(
    model: "str | nn.Module",
    *,
    mode: Mode = "inference",
    batch_size: int = 1,
    precision: Precision = "float32",
    compile: bool = False,
    channels_last: bool = True,
    device: "str | torch.device | None" = None,
    warmup: int = 10,
    steps: int = 40,
    seconds: float = 30.0,
    **args: Any,
) -> Speed:
    """Times a network on noise.

    A step is a forward pass; in training also the loss of random labels, the backward pass and a step of SGD. After
    ``warmup`` steps, ``steps`` are timed, fewer if they take longer than ``seconds``, but at least five.

    Args:
        model: A name, whose network gets random weights unless a tag names others, or a network that
            :func:`zoo.create` returned. Training changes the weights.
        mode: ``inference`` or ``training``.
        batch_size: Images per step.
        precision: Of the weights and the input: ``float32``, ``bfloat16`` or ``float16``; ``amp`` keeps them in float32
            and computes in bfloat16 (``torch.autocast``).
        compile: Compile with ``torch.compile``.
        channels_last: Use this memory format, as :func:`zoo.evaluate` does.
        device: Where to run. By default a GPU if there is one for a name, and where it is for a network.
        warmup: Steps before the timed ones.
        steps: Steps that are timed.
        seconds: The limit on timed steps.
        args: Arguments of the family's build function.

    Returns:
        Latency, throughput, and the size of the network.

    Raises:
        UnknownNameError: There is no such model.
        SpecError: ``mode`` or ``precision`` is unknown, a number is too small, or the network has nothing to train.

    Example:
        >>> import zoo
        >>> speed = zoo.benchmark("resnet20", batch_size=2, warmup=1, steps=5)
        >>> speed.params_m, speed.images_per_s > 1
        (0.269722, True)
    """
    _check(mode, precision, batch_size=batch_size, steps=steps, warmup=warmup + 1)
    keep_freed_memory()
    network = create(model, **args) if isinstance(model, str) else as_network(model)
    info = info_of(network)
    name = model if isinstance(model, str) else info.name
    if device is None and isinstance(model, str):
        device = distributed.current().device(None)
    place = torch.device(device) if device is not None else device_of(network)
    size = info.preprocess.input_size
    params = counting.params(network)
    macs, activations = counting.work(network.to(place), size)
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision, torch.float32)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network.to(device=place, dtype=dtype, memory_format=layout)  # type: ignore[call-overload]  # torch's stubs
    images = torch.randn(batch_size, *size, device=place, dtype=dtype).contiguous(memory_format=layout)
    is_frozen = mode == "inference" and place.type == "cpu"
    ran = compiled(network, is_frozen=is_frozen) if compile else network
    step = _inference(ran, images, precision) if mode == "inference" else _training(ran, network, images, precision)
    watched = compiler_errors() if compile else nullcontext()
    with watched, in_eval_mode(network) if mode == "inference" else nullcontext(network.train()):
        first, times = _time(step, place, warmup, steps, seconds)
    return Speed(
        model=name,
        mode=mode,
        device=str(place),
        hardware=hardware(place),
        threads=torch.get_num_threads(),
        backend="compiled" if compile else "eager",
        precision=precision,
        channels_last=channels_last,
        batch_size=batch_size,
        input_size="x".join(map(str, size)),
        latency_ms=round(1000 * statistics.median(times), 3),
        latency_p95_ms=round(1000 * sorted(times)[-(-95 * len(times) // 100) - 1], 3),
        images_per_s=round(batch_size * len(times) / sum(times), 2),
        steps=len(times),
        first_s=round(first, 3),
        params_m=round(params / 1e6, 6),
        gmacs=round(macs / 1e9, 9),
        macts_m=round(activations / 1e6, 6),
        torch=str(torch.__version__),
    )


def _check(mode: str, precision: str, **numbers: int) -> None:
    for what, value, allowed in (("mode", mode, Mode), ("precision", precision, Precision)):
        if value not in get_args(allowed):
            raise SpecError(f"{what} = {value!r} is invalid: expected {', '.join(get_args(allowed))}.")
    for what, number in numbers.items():
        if number < 1:
            raise SpecError(f"{what} is too small: expected at least 1.")


def _autocast(device: torch.device, precision: str) -> Any:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "amp")


def _inference(ran: nn.Module, images: torch.Tensor, precision: str) -> Callable[[], object]:
    def step() -> object:
        with torch.inference_mode(), _autocast(images.device, precision):
            return ran(images)

    return step


def _training(ran: nn.Module, network: nn.Module, images: torch.Tensor, precision: str) -> Callable[[], object]:
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not parameters:
        raise SpecError(f"{type(network).__name__} has no parameters that are trained by gradients.")
    optimizer = torch.optim.SGD(parameters, lr=_LEARNING_RATE, momentum=0.9, nesterov=True)

    def step() -> None:
        optimizer.zero_grad()
        with _autocast(images.device, precision):
            outputs = ran(images)
            logits = outputs[0] if isinstance(outputs, tuple) else outputs
            labels = torch.randint(logits.shape[1], (len(logits),), device=images.device)
            loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()

    return step


def _time(
    step: Callable[[], object], device: torch.device, warmup: int, steps: int, seconds: float
) -> tuple[float, list[float]]:
    """Returns the seconds of the very first step, and of each timed one."""

    def timed() -> float:
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    first = timed()
    for _ in range(warmup - 1):
        timed()
    times: list[float] = []
    while len(times) < steps and (len(times) < _LEAST or sum(times) < seconds):
        times.append(timed())
    return first, times
