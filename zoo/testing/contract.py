"""Checks of what ``zoo.modules.ImageClassifier`` gives a network, whether it derives from that class or not."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zoo import loading
from zoo.errors import SpecError, ZooError
from zoo.testing.expectation import expect
from zoo.testing.subject import BATCH, Subject
from zoo.testing.values import expect_close, quiet, traced

METHODS = (
    "forward_intermediates",
    "get_classifier",
    "set_grad_checkpointing",
    "group_matcher",
    "no_weight_decay",
)
NO_MAPS = "it has no feature maps"
CONFIG = ("architecture", "input_size", "interpolation", "crop_pct", "mean", "std", "num_classes", "classifier")


def methods(subject: Subject) -> None:
    """The network has the methods of timm's networks, and its configuration in timm's form.

    Fix: derive the network from ``zoo.modules.ImageClassifier`` or ``PooledClassifier``.
    """
    module = subject.outline
    missing = [name for name in METHODS if not callable(getattr(module, name, None))]
    expect(
        not missing,
        f"{type(module).__name__} has no {', '.join(missing)}. "
        "Derive it from zoo.modules.ImageClassifier or PooledClassifier, which have them.",
        field=missing[0] if missing else "",
    )
    config = module.pretrained_cfg
    expect(config is module.default_cfg, "default_cfg is not pretrained_cfg", field="default_cfg")
    lacking = [key for key in CONFIG if key not in config]
    expect(not lacking, f"pretrained_cfg lacks {', '.join(lacking)}", field="pretrained_cfg")
    expect(isinstance(module.get_classifier(), nn.Module), "get_classifier returns no module", field="get_classifier")
    module.feature_info.channels(), module.feature_info.reduction(), module.feature_info.module_name()


def groups(subject: Subject) -> None:
    """``group_matcher`` has a group for every parameter, and ``no_weight_decay`` names parameters.

    Fix: return a group for each name that the message lists; ``ImageClassifier`` does so from ``stages``.
    """
    module = subject.outline
    names = [name for name, _ in module.named_parameters()]
    for coarse in (True, False):
        matcher = module.group_matcher(coarse=coarse)
        if callable(matcher):
            without = [name for name in names if not _has_group(matcher, name)]
            expect(not without, f"group_matcher(coarse={coarse}) has no group for {', '.join(without)}")
    unknown = sorted(set(module.no_weight_decay()) - set(names))
    expect(not unknown, f"no_weight_decay names {', '.join(unknown)}, not parameters", field="no_weight_decay")


def intermediates(subject: Subject) -> str:
    """``forward_intermediates`` returns the last features and the maps that ``feature_info`` describes.

    Fix: call ``note_stage`` with the number of channels that the module outputs.
    """
    module = subject.outline
    if not module.feature_info.channels():
        return NO_MAPS
    device = subject.shape_device
    images = subject.images(device)
    with subject.on(device):
        final, maps = module.forward_intermediates(images)
        last = module.forward_intermediates(images, indices=[-1], stop_early=True, intermediates_only=True)
        features = module.forward_features(images)
    expect(final.shape == features.shape, f"forward_intermediates ends with {tuple(final.shape)}, not its features")
    _expect_channels(maps, module.feature_info.channels(), "forward_intermediates")
    _expect_channels(last, module.feature_info.channels()[-1:], "forward_intermediates of the last stage")
    return ""


def features_only(subject: Subject) -> str:
    """Without its head, the network returns the maps of the stages that are asked for.

    Fix: call ``note_stage`` in the order of the forward, once per stage.
    """
    device = subject.shape_device
    with subject.on(device):
        module = subject.build()
        channels = module.feature_info.channels()
        if not channels:
            return NO_MAPS
        network: Any = loading.as_features(module, (-1, 0))
        maps = network(subject.images(device))
    _expect_channels(maps, [channels[-1], channels[0]], "with features_only=True, out_indices=(-1, 0), the network")
    expect(network.feature_info.channels() == [channels[-1], channels[0]], "feature_info has other stages")
    return ""


def checkpointing(subject: Subject) -> str:
    """Checkpointed blocks give the same outputs, gradients and statistics; or ``SpecError`` says that it has no blocks.

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
    """A deep copy and a pickled copy compute the same, on their own tensors.

    Fix: keep tensors as parameters and buffers, and no lambdas or open files in attributes.
    """
    module, images = subject.module, subject.images(batch=1)
    with torch.no_grad():
        expected = module(images)
        for name, other in (("copy", copy.deepcopy(module)), ("pickled copy", pickle.loads(pickle.dumps(module)))):
            expect_close(other(images), expected, f"the output of a {name}")
            own = {tensor.data_ptr() for tensor in module.state_dict().values() if tensor.numel()}
            shared = [key for key, tensor in other.state_dict().items() if tensor.data_ptr() in own]
            expect(not shared, f"a {name} shares {', '.join(shared)}")


def layouts(subject: Subject) -> None:
    """In ``channels_last`` the network computes the same; with autocast to bfloat16, the output is finite.

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
    """Exported by ``torch.export``, a network of feature maps takes images of other sizes if it takes them itself.

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
    """``torch.compile`` takes the whole network as one graph, which computes the same; unless it cannot be traced.

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
    """Output, gradients and statistics of one step, by name; random numbers are those of seed 0."""
    module.zero_grad()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        output = module(images)
        first: Any = output[0] if isinstance(output, tuple) else output
        first.square().mean().backward()
    gradients = {name: part.grad for name, part in module.named_parameters() if part.grad is not None}
    buffers = {name: part.clone() for name, part in module.named_buffers() if part.is_floating_point()}
    return {"the output": first.detach(), **buffers, **gradients}


def _has_group(matcher: Callable[[str], Any], name: str) -> bool:
    try:
        return matcher(name) is not None
    except KeyError:
        return False


def _expect_channels(maps: list[Tensor], channels: list[int], what: str) -> None:
    got = [part.shape[1] for part in maps]
    expect(got == channels, f"{what} returns maps of {got} channels, feature_info says {channels}")
    expect(all(part.shape[0] == BATCH for part in maps), f"{what} returns another number of images")
