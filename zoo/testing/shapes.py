"""Checks of a model's interface, by counts and shapes, mostly without computing values."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo import loading, registry
from zoo.errors import MissingExtraError, PluginError
from zoo.evaluation import counting
from zoo.registry import hooks
from zoo.registry.hooks import Role
from zoo.spec import Model
from zoo.testing.subject import BATCH, CheckError, Subject, expect

METHODS = (
    "forward_intermediates",
    "get_classifier",
    "set_grad_checkpointing",
    "group_matcher",
    "no_weight_decay",
)
NO_MAPS = "it has no feature maps"
CONFIG = ("architecture", "input_size", "interpolation", "crop_pct", "mean", "std", "num_classes", "classifier")


def row(subject: Subject) -> None:
    """Checks that the hooks can be called; head, stem and stages are submodules, the first two with a state.

    Fix: name a function that exists, ``"package.module:function"``, with the arguments that the message lists; name
    submodules as ``named_modules`` does.
    """
    model = subject.model
    for role in (hooks.BUILD, hooks.TRANSLATE, hooks.TRAIN, hooks.EVALUATE):
        _import(role, model)
    accepted = hooks.args_of(registry.hook(model.build))
    others = [name for name in model.args if accepted is not None and name not in (*accepted, *hooks.SETTINGS)]
    expect(not others, f"args has {', '.join(others)}, which {model.build} does not take", field="args")
    module = subject.outline
    for field in ("head", "stem", "stages"):
        for name in getattr(model, field):
            submodule = _submodule(module, name)
            if submodule is None:
                raise CheckError(f"{field} names {name!r}, which is not a submodule of {type(module).__name__}", field)
            is_right = field == "stages" or submodule.state_dict()
            expect(is_right, f"{field} names {name!r}, which has no parameters", field=field)


def _import(role: Role, model: Model) -> None:
    field, target = role.field, getattr(model, role.field)
    if not target:
        return
    try:
        imported = registry.hook(target, model.requires)
        expect(
            callable(imported), f"{field} = {target!r} is a {type(imported).__name__}, expected a function", field=field
        )
        role.check(imported, target, model.name, model.args if field == "build" else ())
    except MissingExtraError:
        raise
    except PluginError as error:
        raise CheckError(str(error), field) from error


def interface(subject: Subject) -> None:
    """Checks that the network has timm's model interface, and its attributes are right.

    Fix: derive the network from ``zoo.modules.ImageClassifier`` and set ``num_features`` to the channels of
    ``forward_features``.
    """
    module, model = subject.outline, subject.model
    expected = (
        ("num_classes", int),
        ("num_features", int),
        ("feature_info", list),
        ("default_layers", tuple),
        ("forward_features", object),
        ("forward_head", object),
        ("reset_classifier", object),
    )
    for name, kind in expected:
        expect(hasattr(module, name), f"{type(module).__name__} has no {name}", field=name)
        value = getattr(module, name)
        expect(isinstance(value, kind), f"{name} is a {type(value).__name__}, expected {kind.__name__}", field=name)
    expect(
        module.num_classes == model.num_classes,
        f"num_classes is {module.num_classes}, the row declares {model.num_classes}",
        field="num_classes",
    )
    for name in module.default_layers:
        is_right = _submodule(module, name) is not None
        expect(is_right, f"default_layers names {name!r}, which is not a submodule", field="default_layers")
    with subject.on(subject.shape_device):
        features = module.forward_features(subject.images(subject.shape_device))
    expect(
        features.shape[1] == module.num_features,
        f"forward_features gives {features.shape[1]} channels, num_features says {module.num_features}",
        field="num_features",
    )
    with subject.on(subject.shape_device):
        logits = module.forward_head(features)
        pooled = module.forward_head(features, pre_logits=True)
    _expect_shape(logits, (BATCH, model.num_classes), "forward_head(forward_features(x))", field="forward_head")
    _expect_shape(pooled, (BATCH, _head_width(module)), "forward_head(..., pre_logits=True)", field="forward_head")


def parameters(subject: Subject) -> None:
    """Checks that the declared count of elements of all parameters is right to the unit.

    Fix: ``zoo plugins check --fix`` counts them and writes the row.
    """
    counted, declared = count_params(subject), subject.model.params
    expect(counted == declared, f"params = {declared:_} is declared, the network has {counted:_}")


def macs(subject: Subject) -> None:
    """Checks that the declared multiply-adds of convolutions and linear layers, if any, are right to the unit.

    Fix: ``zoo plugins check --fix`` counts them and writes the row.
    """
    if declared := subject.model.macs:
        counted = count_macs(subject)
        expect(counted == declared, f"macs = {declared:_} is declared, one image takes {counted:_}")


def count_params(subject: Subject) -> int:
    """Counts the elements of all parameters of the network."""
    return counting.params(subject.outline)


def count_macs(subject: Subject) -> int:
    """Multiply-adds of convolutions and linear layers for one image."""
    with subject.on(subject.shape_device), counting.MultiplyAdds() as counted:
        subject.outline(subject.images(subject.shape_device, batch=1))
    return int(counted.total)


def num_classes(subject: Subject) -> None:
    """Checks that another ``num_classes`` changes the logits and the head, and nothing else.

    Fix: pass ``num_classes`` to ``reset_classifier``, and name in ``head`` each submodule that depends on it.
    """
    classes = subject.model.num_classes + 3
    module = _changed(subject, {"num_classes": classes}, subject.model.head, "head")
    logits = _forward(subject, module)
    _expect_shape(logits, (BATCH, classes), f"with num_classes={classes}, the output")
    expect(module.num_classes == classes, f"built with num_classes={classes}, it has num_classes={module.num_classes}")


def in_chans(subject: Subject) -> None:
    """Checks that another ``in_chans`` changes the stem and the images it takes, and nothing else.

    Trained convolutions that take the image are adapted, so the row's stem names each itself.

    Fix: build the first layer for ``in_chans``, and name it in ``stem``.
    """
    declared, height, width = subject.model.preprocess.input_size
    channels = 3 if declared == 1 else 1
    module = _changed(subject, {"in_chans": channels}, subject.model.stem, "stem")
    logits = _forward(subject, module, (channels, height, width))
    _expect_shape(logits, (BATCH, subject.model.num_classes), f"with in_chans={channels}, the output")
    tensors, expected = dict(subject.outline.state_dict()), module.state_dict()
    loading.adapt_stem(tensors, subject.model.stem, channels)
    differing = [key for key, tensor in tensors.items() if key in expected and tensor.shape != expected[key].shape]
    missed = [key for key in differing if tensors[key].ndim == 4 and tensors[key].shape[1] == declared]
    expect(
        not missed,
        f"in_chans changes {', '.join(missed)}; the row's stem should name the convolution itself",
        field="stem",
    )


def reset_classifier(subject: Subject) -> None:
    """Checks that ``reset_classifier`` replaces the head; with 0 classes the network returns its features.

    Fix: replace the classifier and set ``self.num_classes``, as ``ImageClassifier`` does.
    """
    module = _build(subject)
    for classes, width in ((7, 7), (0, _head_width(module))):
        with subject.on(subject.shape_device):
            module.reset_classifier(classes)
        logits = _forward(subject, module)
        _expect_shape(logits, (BATCH, width), f"after reset_classifier({classes}), the output")
        expect(
            module.num_classes == classes, f"after reset_classifier({classes}), num_classes says {module.num_classes}"
        )


def features(subject: Subject) -> None:
    """Checks that every declared stage outputs features, with the channels and the size in ``feature_info``.

    Fix: call ``note_stage`` with the channels of the output, and with the factor by which it is smaller than the input.
    """
    module = subject.outline
    about = {str(entry["module"]): entry for entry in module.feature_info}
    seen = _outputs_of(subject, module, {*about, *subject.model.stages})
    height = subject.model.preprocess.input_size[1]
    for name, output in seen.items():
        if not isinstance(output, Tensor):
            field = "feature_info" if name in about else "stages"
            raise CheckError(f"{field}: {name!r} gives {type(output).__name__} in a forward, expected a tensor", field)
        if name not in about or output.ndim != 4:
            continue  # unknown, or not a map
        channels, expected = about[name]["num_chs"], height / about[name]["reduction"]
        expect(
            output.shape[1] == channels,
            f"{name!r} gives {output.shape[1]} channels, feature_info says num_chs {channels}",
        )
        # Unpadded convolutions cost up to four pixels, a network that looks beyond the border has up to six more; a
        # stage taken for its neighbour would be off by a factor of two.
        is_near = abs(output.shape[2] - expected) <= 6 and expected < 1.5 * output.shape[2] < 2.25 * expected
        expect(
            is_near,
            f"{name!r} gives maps {output.shape[2]} high, feature_info says reduction {about[name]['reduction']} "
            f"of {height}: {expected:g}",
        )


def _outputs_of(subject: Subject, module: nn.Module, names: set[str]) -> dict[str, object]:
    """Returns what the submodules called ``names`` give in one forward; None for one that takes no part."""
    seen: dict[str, object] = dict.fromkeys(sorted(names))

    def keep(name: str, _part: nn.Module, _inputs: object, output: object) -> None:
        seen[name] = output

    with contextlib.ExitStack() as hooks:
        for name in seen:
            submodule = _submodule(module, name)
            if submodule is None:
                raise CheckError(f"feature_info or stages name {name!r}, which is not a submodule", "feature_info")
            hooks.callback(submodule.register_forward_hook(partial(keep, name)).remove)
        _forward(subject, module)
    return seen


def _build(subject: Subject, **changes: Any) -> Any:
    with subject.on(subject.shape_device):
        return subject.build(**changes)


def _forward(subject: Subject, module: nn.Module, size: tuple[int, ...] | None = None) -> Tensor:
    with subject.on(subject.shape_device):
        logits: Tensor = module(subject.images(subject.shape_device, size=size))
    return logits


def _changed(subject: Subject, change: dict[str, int], may_differ: tuple[str, ...], field: str) -> Any:
    """Returns the network built with ``change``, of which only tensors under ``may_differ`` have another shape."""
    before, module = subject.outline.state_dict(), _build(subject, **change)
    after = module.state_dict()
    differing = {
        key
        for key in {*before, *after}
        if key not in before or key not in after or before[key].shape != after[key].shape
    }
    others = sorted(key for key in differing if not key.startswith(tuple(f"{name}." for name in may_differ)))
    changes = ", ".join(f"{key}={value}" for key, value in change.items())
    expect(
        not others,
        f"{changes} changes {', '.join(others)}; the row's {field} names {', '.join(may_differ) or 'nothing'}",
        field=field,
    )
    return module


def _head_width(module: Any) -> int:
    """Returns the classifier's inputs: timm's ``head_hidden_size`` if hidden layers stand before it."""
    return int(getattr(module, "head_hidden_size", module.num_features))


def _submodule(module: nn.Module, name: str) -> nn.Module | None:
    try:
        return module.get_submodule(name)
    except AttributeError:
        return None


def _expect_shape(tensor: object, expected: tuple[int, ...], what: str, field: str = "") -> None:
    got = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
    expect(got == expected, f"{what} is {got}, expected {expected}", field=field)


def methods(subject: Subject) -> None:
    """Checks that the network has the methods of timm's networks, and its configuration in timm's form.

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
    """Checks that ``group_matcher`` has a group for every parameter, and ``no_weight_decay`` names parameters.

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
    """Checks that ``forward_intermediates`` returns the last features and the maps that ``feature_info`` describes.

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
    """Checks that without its head, the network returns the maps of the stages that are asked for.

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


def _has_group(matcher: Callable[[str], Any], name: str) -> bool:
    try:
        return matcher(name) is not None
    except KeyError:
        return False


def _expect_channels(maps: list[Tensor], channels: list[int], what: str) -> None:
    got = [part.shape[1] for part in maps]
    expect(got == channels, f"{what} returns maps of {got} channels, feature_info says {channels}")
    expect(all(part.shape[0] == BATCH for part in maps), f"{what} returns another number of images")
