"""Checks of a model's outputs and gradients."""

import contextlib
import copy
import pickle
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo import loading
from zoo.errors import SpecError, ZooError
from zoo.loading import safetensors_file
from zoo.testing.subject import BATCH, CheckError, Subject, expect


def forward(subject: Subject) -> None:
    """Checks that the logits of the declared input are finite, one per class.

    Fix: check the forward for divisions by 0, roots and logarithms of values that may be negative.
    """
    batch = 1 if subject.is_giant else BATCH
    with torch.no_grad():
        logits = subject.module(subject.images(batch=batch))
    expected = (batch, subject.model.num_classes)
    expect(isinstance(logits, Tensor), f"the output is a {type(logits).__name__}, expected a tensor")
    expect(logits.shape == expected, f"the output is {tuple(logits.shape)}, expected {expected}")
    expect(logits.isfinite().all(), "noise of mean 0 and variance 1 gives logits that are not finite")


def determinism(subject: Subject) -> None:
    """Checks that, in evaluation mode, the same input gives the same logits, in one call or in its two halves.

    Fix: pass ``self.training`` to functions such as ``F.dropout``, and change buffers only in training.
    """
    module, images = subject.module, subject.images()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    with torch.no_grad():
        first, second = module(images), module(images)
        halves = module.forward_head(module.forward_features(images))
    expect(torch.equal(first, second), "in evaluation mode, two forwards of the same input differ")
    expect_close(halves, first, "forward_head(forward_features(x)) against forward(x)")
    changed = [key for key, tensor in module.state_dict().items() if not torch.equal(tensor, before[key])]
    expect(not changed, f"a forward in evaluation mode changes {', '.join(changed)}")


def batches(subject: Subject) -> None:
    """Checks that, in evaluation mode, an image has the same logits alone and among 64.

    Fix: compute statistics of a batch in training alone, as ``nn.BatchNorm2d`` does; in evaluation use running ones.
    """
    module, images = subject.module, subject.images(batch=8 if subject.is_long else 64)
    with torch.no_grad():
        together = module(images)
        for number in (0, len(images) - 1):
            alone = module(images[number : number + 1])
            expect_close(alone[0], together[number], f"of {len(images)} images, the logits of one", slack=200)


def skipped_initialisation(subject: Subject) -> None:
    """Checks that a network built without initializing, given a state, computes the same: nothing hides elsewhere.

    Fix: register what is computed from initial weights as a buffer, or compute it in the forward.
    """
    module = subject.module
    with loading.skip_init(), _nan_where_uninitialized():
        other = subject.build()
    loading.assign(other, module.state_dict(), subject.model.name)
    images = subject.images()
    with torch.no_grad():
        expect_close(other(images), module(images), "built without initialisation, the output")


def round_trip(subject: Subject) -> None:
    """Checks that the state survives a safetensors file bit for bit.

    Fix: a tensor may have one name only, and hooks must not change what is loaded.
    """
    state = subject.module.state_dict()
    with loading.skip_init():
        other = subject.build()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.safetensors")
        safetensors_file.write(state, file, {"model": subject.model.name})
        loading.assign(other, safetensors_file.read(file), file)
        lost = [key for key, tensor in other.state_dict().items() if not torch.equal(tensor, state[key])]
    expect(not lost, f"these are lost in a safetensors file: {', '.join(lost)}")


def gradients(subject: Subject) -> str:
    """Checks that a loss on the logits reaches every learnable parameter.

    Fix: remove layers that take no part, and calls of ``detach``; ``requires_grad_(False)`` marks what is not trained.
    """
    if subject.model.fitted:
        return f"{subject.model.name} is fitted, without gradients"
    module = subject.build().train()
    learnable = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    advice = "set fitted=True in its row if it is fitted"
    expect(learnable, f"the network has no learnable parameters: {advice}", field="fitted")
    module(subject.images()).square().mean().backward()
    unreached = [name for name, parameter in learnable.items() if parameter.grad is None]
    expect(not unreached, f"no gradient reaches {', '.join(unreached)}")
    wild = [name for name, parameter in learnable.items() if not parameter.grad.isfinite().all()]
    expect(not wild, f"the gradient is not finite at {', '.join(wild)}")
    return ""


def traced(subject: Subject) -> str:
    """Checks that the network, traced by ``torch.jit.trace`` with two images, takes three; or says that it cannot be.

    Fix: use ``x.flatten(1)`` or ``x.shape[0]`` in place of ``len(x)`` and of fixed numbers of images.
    """
    module, more = subject.module, subject.images(batch=BATCH + 1)
    with torch.no_grad(), quiet():
        try:
            other = torch.jit.trace(module, subject.images(), check_trace=False)
        except ZooError as error:
            return str(error)
        try:
            got = other(more)
        except RuntimeError as error:
            reason = str(error).strip().rpartition("\n")[2]
            raise CheckError(f"traced with {BATCH} images, it does not take {BATCH + 1}: {reason}") from None
        expect_close(got, module(more), f"traced with {BATCH} images, the output for {BATCH + 1}")
    return ""


def exported(subject: Subject) -> str:
    """Checks that the network, if ``torch.export`` can export it for any number of images, computes the same.

    Fix: do not iterate over the images of a batch, and use ``x.shape[0]`` in place of ``len(x)``.
    """
    module, more = subject.module, subject.images(batch=BATCH + 1)
    sizes = ({0: torch.export.Dim("batch", min=1)},)
    with torch.no_grad(), quiet():
        try:
            other = torch.export.export(module, (subject.images(),), dynamic_shapes=sizes, strict=False).module()
        except Exception as error:  # torch.export does not take every network, and says so in many ways
            expect("Constraints violated" not in str(error), f"the number of images is fixed: {error}")
            return f"torch.export: {str(error).strip().splitlines()[0]}"
        expect_close(other(more), module(more), f"exported with {BATCH} images, the output for {BATCH + 1}")
    return ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides torch's warnings of its own plans."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def trace_of(module: nn.Module) -> dict[str, object]:
    """Returns all that an attack might leave behind."""
    trace: dict[str, object] = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        trace[f"{name}.requires_grad"], trace[f"{name}.grad"] = parameter.requires_grad, parameter.grad
    for name, submodule in module.named_modules():
        trace[f"{name or 'the network'}, its mode"] = submodule.training
        trace[f"{name or 'the network'}, its hooks"] = [*submodule._forward_hooks, *submodule._forward_pre_hooks]
    return trace


def is_same(left: object, right: object) -> bool:
    return torch.equal(left, right) if isinstance(left, Tensor) and isinstance(right, Tensor) else left == right


@contextlib.contextmanager
def _nan_where_uninitialized() -> Iterator[None]:
    """Fills ``torch.empty`` with NaN: what a build derives from values it does not have, shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def expect_close(got: Tensor, expected: Tensor, what: str, *, slack: float = 1.0) -> None:
    """Kernels may differ by where a tensor lies in memory, and so by rounding: ``slack`` times as much is allowed."""
    largest = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(
        got, expected, rtol=1e-4 * slack, atol=1e-5 * slack * largest, msg=lambda text: f"{what}: {text}"
    )


def checkpointing(subject: Subject) -> str:
    """Checks that checkpointed blocks give the same outputs, gradients and statistics, if the network has any.

    Fix: blocks must not change anything but their outputs, or depend on the order of random numbers.
    """
    if subject.model.fitted:
        return f"{subject.model.name} is fitted, without gradients"
    module = subject.build().train()
    state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    expected = _step(module, subject.images())
    try:
        module.set_grad_checkpointing(True)
    except SpecError as error:
        return str(error)
    module.load_state_dict(state)
    got = _step(module, subject.images())
    for name, tensor in expected.items():
        expect_close(got[name], tensor, f"with checkpointing, {name}")
    return ""


def copies(subject: Subject) -> None:
    """Checks that a deep copy and a pickled copy compute the same, on their own tensors.

    Fix: keep tensors as parameters and buffers, and no lambdas or open files in attributes.
    """
    module, images = subject.module, subject.images(batch=1)
    with torch.no_grad():
        expected = module(images)
        for name, other in (("copy", copy.deepcopy(module)), ("pickled copy", pickle.loads(pickle.dumps(module)))):
            expect_close(other(images), expected, f"the output of a {name}")
            pointers = {tensor.data_ptr() for tensor in module.state_dict().values() if tensor.numel()}
            shared = [key for key, tensor in other.state_dict().items() if tensor.data_ptr() in pointers]
            expect(not shared, f"a {name} shares {', '.join(shared)}")


def layouts(subject: Subject) -> None:
    """Checks that in ``channels_last`` the network computes the same; with autocast to bfloat16, its output is finite.

    Fix: use ``reshape`` instead of ``view``, do not use strides, and compute sums of many terms in float32.
    """
    module, images = copy.deepcopy(subject.module), subject.images()
    with torch.no_grad():
        expected = module(images)
        module.to(memory_format=torch.channels_last)
        # Other kernels, whose sums have another order: 150 layers amplify that to 1e-3 of the largest output. A network
        # that reads the wrong places is wrong by as much as its output is large.
        got = module(images.to(memory_format=torch.channels_last))
        expect_close(got, expected, "in channels_last, the output", slack=200)
        with torch.autocast("cpu", torch.bfloat16):
            low = module(images)
    expect(low.isfinite().all(), "with autocast to bfloat16, the output is not finite")


def resized(subject: Subject) -> str:
    """Checks that an exported network of feature maps takes images of other sizes if it takes them itself.

    Fix: compute sizes from the input's shape in the forward, without ``int`` or ``math``.
    """
    module = subject.module
    with torch.no_grad():
        if module.forward_features(subject.images(batch=1)).ndim != 4:
            return "its features are not maps"
    channels, height, width = subject.model.preprocess.input_size
    # Larger than usual: torch.export takes a map of one pixel for one of a fixed size.
    large, larger = (
        subject.images(size=(channels, height + more, width + more), batch=batch) for more, batch in ((32, 2), (64, 3))
    )
    auto = torch.export.Dim.AUTO
    with torch.no_grad(), quiet():
        try:
            expected = module(larger)
        except Exception:  # a network of one size may raise anything
            return "it takes images of one size"
        try:
            sizes = ({0: auto, 2: auto, 3: auto},)
            exported = torch.export.export(module, (large,), dynamic_shapes=sizes, strict=False).module()
        except ZooError as error:
            return str(error)
        expect_close(exported(larger), expected, f"exported with {height + 32} pixels, the output for {height + 64}")
    return ""


def compiled(subject: Subject) -> str:
    """Checks that ``torch.compile`` takes the network as one graph and computes the same, unless it cannot be traced.

    Fix: leave out of the forward what depends on values: ``item``, printing, ``if`` over a tensor.
    """
    module, images = subject.module, subject.images()
    torch.compiler.reset()
    with torch.no_grad():
        other: Any = torch.compile(module, backend="eager", fullgraph=True)
        try:
            got = other(images)
        except Exception:  # of torch's compiler, also for what the network says
            if reason := traced(subject):
                return reason
            raise
        expect_close(got, module(images), "compiled, the output")
    return ""


def _step(module: Any, images: Tensor) -> dict[str, Tensor]:
    """Returns output, gradients and statistics of one step, by name; random numbers are those of seed 0."""
    module.zero_grad()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        output = module(images)
        first: Any = output[0] if isinstance(output, tuple) else output
        first.square().mean().backward()
    gradients = {name: part.grad for name, part in module.named_parameters() if part.grad is not None}
    buffers = {name: part.clone() for name, part in module.named_buffers() if part.is_floating_point()}
    return {"the output": first.detach(), **buffers, **gradients}
