"""timm as its users know it, with Zoo's verified files: ``import zoo.timm as timm``.

Everything is the installed timm's own, also the network that ``create_model`` returns. What differs is where weights
come from. timm downloads what its configuration names; here Zoo's hubs, cache, pins, lock and policy do that, and the
network has ``zoo_info``, so that ``zoo.predict``, ``zoo.evaluate`` and ``zoo.preprocess`` take it.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

from zoo import hub, registry
from zoo.errors import MissingExtraError, SpecError, UnknownNameError, WeightsError
from zoo.loading import Network, resolve
from zoo.loading.network import ModelInfo
from zoo.manifest import Weights
from zoo.registry import Found
from zoo.spec import Preprocess
from zoo_timm import TIMM

try:
    import timm
except ImportError:
    raise MissingExtraError.of("zoo.timm", TIMM.module, TIMM.install) from None
import timm.data
from timm.models import _factory, register_model
from timm.models._hub import _parse_model_cfg, load_cfg_from_json

from zoo_timm.model import instead_of_loading

__path__: list[str] = []  # zoo.timm.data is timm.data: see _Submodules
__all__ = ["create_model", "register_model"]


class Source(NamedTuple):
    """The weights that a network got, and their file."""

    match: Found
    weights: Weights
    file: Path


def create_model(
    model_name: str,
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    checkpoint_path: str | Path | None = None,
    cache_dir: str | Path | None = None,
    scriptable: bool | None = None,
    exportable: bool | None = None,
    no_jit: bool | None = None,
    **kwargs: Any,
) -> Network:
    """Builds a network as ``timm.create_model`` does, with a verified file if ``pretrained``.

    Args:
        model_name: ``resnet50``, ``resnet50.a1_in1k``, either after ``timm/``, ``hf-hub:OWNER/NAME``, or
            ``local-dir:FOLDER``.
        pretrained: Whether to load weights: those of the tag, or timm's default.
        pretrained_cfg: A tag, or a configuration in timm's form, instead of the registered one.
        pretrained_cfg_overlay: Values that replace those of the configuration. ``file`` names a local file.
        checkpoint_path: A local file whose state dict the network then loads.
        cache_dir: A folder instead of Zoo's cache.
        scriptable: As in timm.
        exportable: As in timm.
        no_jit: As in timm.
        kwargs: Arguments of the network, ``num_classes``, ``in_chans``, ``features_only``; None counts as not given.

    Returns:
        timm's network, in training mode.

    Raises:
        UnknownNameError: timm has no such model; the nearest names are suggested.
        WeightsError: The configuration names weights that Zoo cannot verify.
        HubError: The weights cannot be fetched, or their bytes are not those that are stated.

    Example:
        >>> import zoo.timm as timm
        >>> timm.create_model("test_resnet", num_classes=5).num_classes
        5
    """
    if not isinstance(model_name, str):
        raise SpecError(f"model_name = {model_name!r}: expected a name such as 'resnet50'.")
    if model_name.count("/") == 1 and model_name.startswith("timm/"):
        model_name = model_name.removeprefix("timm/")
    if not set("/\\:") & set(model_name) and not timm.is_model(model_name):
        raise UnknownNameError.of("model of timm", model_name.partition(".")[0], timm.list_models())
    sources: list[Source] = []

    def load(model: Any, pretrained_cfg: dict[str, Any] | None = None, **about: Any) -> None:
        config = pretrained_cfg or model.pretrained_cfg
        if config.get("source") != "local-dir" and not config.get("state_dict") and not config.get("file"):
            sources.append(_source(config))
            config = {**config, "source": "", "file": str(sources[-1].file), "custom_load": False}
        load_as_timm(model, pretrained_cfg=config, **about)

    with _cache_in(cache_dir), instead_of_loading(load) as load_as_timm, _configurations_of_zoo():
        network: Network = timm.create_model(
            model_name,
            pretrained=pretrained,
            pretrained_cfg=pretrained_cfg,
            pretrained_cfg_overlay=pretrained_cfg_overlay,
            checkpoint_path=str(checkpoint_path) if checkpoint_path else "",
            scriptable=scriptable,
            exportable=exportable,
            no_jit=no_jit,
            **kwargs,
        )
    _describe(network, sources[0] if sources else None, kwargs)
    return network


def _source(config: dict[str, Any]) -> Source:
    """Returns the verified file of the weights that ``config`` names, fetched if it is not in the cache."""
    name, repo = f"{config.get('architecture')}.{config.get('tag')}", config.get("hf_hub_id")
    match = None
    with suppress(UnknownNameError):
        match = registry.current().find(f"timm/{name}")
    entry = match.weights if match and config.get("source") != "hf-hub" else None
    if entry is None or config.get("url" if not entry.repo else "hf_hub_id") != _address(entry):
        if not repo:
            raise WeightsError(
                f"{config.get('architecture')} has no weights that Zoo can verify: its configuration names "
                f"{config.get('url') or 'none'}.",
                hint="Name a repository (hf-hub:OWNER/NAME), or a local file: pretrained_cfg_overlay={'file': FILE}.",
            )
        match = resolve.find(f"hf-hub:{repo}")
        entry = match.weights
    assert match is not None
    assert entry is not None
    if (file := config.get("hf_hub_filename")) and file != entry.file:
        raise WeightsError(
            f"The configuration names {file} of {repo}; Zoo verifies {entry.file} there.",
            hint="Fetch the other file and name it: pretrained_cfg_overlay={'file': FILE}.",
        )
    weights, path = resolve.use(match)
    return Source(match, weights, path)


def _address(entry: Weights) -> str:
    return entry.repo or f"{entry.hub}/{entry.file}"


def _describe(network: Any, source: Source | None, kwargs: dict[str, Any]) -> None:
    """Gives ``network`` what ``zoo.create`` would: name, weights, preprocessing; nothing if Zoo does not know it."""
    config = getattr(network, "pretrained_cfg", None) or {}
    arch, tag = config.get("architecture"), config.get("tag") or ""
    with suppress(UnknownNameError, SpecError, TypeError):  # another's network, or an input that Zoo cannot prepare
        model = source.match.model if source else registry.current().find(f"timm/{arch}").model
        stated = timm.data.resolve_model_data_config(network)
        preprocess = Preprocess(**{key: stated[key] for key in Preprocess.__struct_fields__ if key in stated})
        weights = source.weights if source else None
        is_same_head = weights is not None and getattr(network, "num_classes", None) == weights.num_classes
        args = {key: value for key, value in kwargs.items() if value is not None and key not in _OF_SIZE}
        network.zoo_info = ModelInfo(
            name=weights.name if weights else model.name,
            model=model,
            weights=weights,
            file=source.file if source else None,
            preprocess=preprocess,
            classes=weights.classes if weights and is_same_head else "",
            class_names=tuple(weights.class_names) if weights and is_same_head else (),
            args={"arch": arch, **({"tag": tag} if source else {}), **args},
        )


_OF_SIZE = {"num_classes", "in_chans", "features_only", "out_indices", "device", "dtype"}
"""Arguments that do not belong to how a network with these weights is built again."""


@contextmanager
def _configurations_of_zoo() -> Iterator[None]:
    """Makes a context in which timm gets the ``config.json`` of a repository from Zoo; within ``instead_of_loading``,
    which lets in a thread at a time."""

    def read(model_id: str, cache_dir: Any = None) -> Any:
        description = resolve.find(f"hf-hub:{model_id}").description
        if description is None or description.file != "config.json":
            name = f"hf-hub:{model_id}"
            raise WeightsError(f"{name} is not in timm's form.", hint=f"Use zoo.create({name!r}).")
        config = load_cfg_from_json(hub.fetch(description))
        return _parse_model_cfg(config, {"hf_hub_id": model_id, "source": "hf-hub"})

    with mock.patch.object(_factory, "load_model_config_from_hf", read):
        yield


@contextmanager
def _cache_in(folder: str | Path | None) -> Iterator[None]:
    with mock.patch.dict(os.environ, {"ZOO_CACHE": str(folder)} if folder else {}):
        yield


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    for module in (timm, timm.models):
        if hasattr(module, name):
            return getattr(module, name)
    with suppress(ModuleNotFoundError):
        return importlib.import_module(f"timm.{name}")
    raise AttributeError(f"timm {timm.__version__} has no {name!r}, and so neither has zoo.timm.")


def __dir__() -> list[str]:
    return sorted({*__all__, *dir(timm)})


class _Submodules(Loader):
    """Finds ``zoo.timm.data`` as ``timm.data`` itself: not a second time under another name."""

    @classmethod
    def find_spec(cls, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, cls()) if name.startswith("zoo.timm.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(spec.name.removeprefix("zoo."))
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # importing replaced it by that of the alias


sys.meta_path.insert(0, _Submodules)  # a class with the method that importing calls
