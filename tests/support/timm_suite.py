"""A pytest plugin that has timm's own ``tests/test_models.py`` test Zoo's networks.

It stands in for what that file imports of timm: ``create_model``, ``list_models``, ``list_pretrained`` and
``get_pretrained_cfg_value``. The environment variable ``ZOO_TIMM_SUITE`` names the networks, with a space between two.
"""

import fnmatch
import os
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import timm

import zoo
from zoo.errors import UnknownNameError

NAMES = os.environ.get("ZOO_TIMM_SUITE", "").split()

TESTS = (
    "test_model_forward",
    "test_model_backward",
    "test_model_default_cfgs",
    "test_model_default_cfgs_non_std",
    "test_model_forward_torchscript",
    "test_model_forward_features",
    "test_model_forward_intermediates_features",
    "test_model_forward_intermediates",
    "test_model_forward_fx",
    "test_model_backward_fx",
    "test_model_forward_fx_torchscript",
)
"""Its tests that ask every network of a list. Others are of timm's own networks by name, of its hub, or of
``prune_intermediate_layers``, which Zoo's do not have: ``features_only`` computes no more than the last stage."""

NOT_MAPS = ("hmax*", "hog_*", "kmeans_svm", "sift_*", "surf_*")
"""Networks whose last features are no maps B C h w: timm's suite has a test apart for its own such networks."""

LAYERS_BEHIND_THE_POOL = ("vgg*",)
"""Networks in which hidden layers remain behind the maps without a pool; timm's ``EARLY_POOL_MODELS``."""

_CLASSICAL = ("hog_*", "sift_*", "surf_*")
_MAPS = {
    ("kmeans_svm", "scatter_*", "stn_*"): "has one or two stages; timm asks for three",
    ("neocognitron_2*",): "the first layers' maps reach over the border: they are larger than the image",
    ("inception_resnet_v1",): "convolves without padding, as those that timm names in its test do",
}
EXCLUDED: dict[str, dict[tuple[str, ...], str]] = {
    "*": {_CLASSICAL: "computes in OpenCV and NumPy, on pixels that exist, until it is fitted"},
    "test_model_default_cfgs*": {
        ("hmax",): "nothing learns by gradient but the classifier: its parameters are one group",
        ("kmeans_svm",): "the weights of its first layer are centroids, and called so in its files",
        ("neocognitron_2*",): "sees the mean of the channels: no first convolution depends on their number",
    },
    "test_model_forward_features": _MAPS,
    "test_model_forward_intermediates*": _MAPS,
    "test_model_backward*": {("airbench*",): "the first layer, filters made from training images, is frozen"},
    "test_model_backward_fx": {("*_sd",): "a trace in training keeps the units that it drew: others have no gradient"},
    "test_model_*_fx*": {("fractalnet*",): "timm traces it in training too, where it draws paths in Python"},
    "*torchscript": {
        ("deform_*", "kmeans_svm", "scatter_*", "stn_*"): "switches autocast off for a part, by the device's name",
    },
}
"""The reason why a network cannot pass by its nature, by test and network."""


def reason(test: str, name: str) -> str:
    """Returns why the network is left out of the test; empty if it is not."""
    for tests, networks in EXCLUDED.items():
        for patterns, why in networks.items():
            if fnmatch.fnmatch(test, tests) and _matches(name, patterns):
                return why
    return ""


def _matches(name: str, patterns: Any) -> bool:
    return any(fnmatch.fnmatch(name.removeprefix("timm/"), pattern) for pattern in patterns)


def _create_model(name: str, *, pretrained: bool = False, feature_cls: str = "", **args: Any) -> Any:
    """Returns Zoo's network; an argument that it does not know is a TypeError, as in timm."""
    try:
        return zoo.create(name, pretrained=pretrained, **args)
    except UnknownNameError as error:
        raise TypeError(str(error)) from error


def _list_models(filter: Any = "", *, exclude_filters: Any = (), **_: Any) -> list[str]:  # timm's name
    """Returns the networks of the run; timm's own filters tell those with maps from those without."""
    if isinstance(filter, list):
        return [name for name in NAMES if _matches(name, (*filter, *NOT_MAPS))]
    skipped = [*exclude_filters, *(NOT_MAPS if "vit_*" in exclude_filters else ())]
    return [name for name in NAMES if not _matches(name, skipped)] if not filter else []


@cache
def _config(name: str) -> dict[str, Any]:
    return dict(zoo.create(name).default_cfg)


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makemodule() -> Iterator[None]:
    """Puts Zoo in timm's place while the file imports what it tests; the plugin for timm's networks needs timm's."""
    ours = {
        "create_model": _create_model,
        "list_models": _list_models,
        "list_pretrained": lambda *_, **__: [],
        "get_pretrained_cfg_value": lambda name, key: _config(name).get(key),
    }
    theirs = {name: getattr(timm, name) for name in ours}
    vars(timm).update(ours)
    try:
        module = yield
        module.obj  # noqa: B018  # imports the file
        return module
    finally:
        vars(timm).update(theirs)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps the tests of every network, and skips what :data:`EXCLUDED` lists."""
    kept, dropped = [], []
    for item in items:
        test, names = item.originalname, getattr(item, "callspec", None)  # type: ignore[attr-defined]  # a function's
        name = names.params.get("model_name") if names else None
        (kept if test in TESTS and name in NAMES else dropped).append(item)
        if name in NAMES and (why := reason(test, name)):
            item.add_marker(pytest.mark.skip(reason=why))
    for module in {item.module for item in kept}:  # type: ignore[attr-defined]  # a function's
        early = {type(zoo.create(name)) for name in NAMES if _matches(name, LAYERS_BEHIND_THE_POOL)}
        module.EARLY_POOL_MODELS += tuple(early)
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)
