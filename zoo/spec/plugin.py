"""A plugin: a family of models with their weights, recipes and data sets.

A plugin is a module-level ``Plugin`` that an entry point of the group ``zoo.plugins`` names. Its
hooks are strings ``"package.module:function"``, imported on first use, so this module and every
plugin's top-level module stay free of torch.
"""

import re
from collections.abc import Mapping

from msgspec.structs import force_setattr, replace

from zoo.names import is_part
from zoo.spec.checked import Spec, is_address
from zoo.spec.extensions import AttackMethod, DatasetSpec, ExportPass, KeyMap, LookQuestion, Reader
from zoo.spec.model import API, Argument, Model, Requirement

_ENDING = re.compile(r"(\.[a-z0-9_-]+)+")
_COMMAND = re.compile(r"[a-z][a-z0-9-]*( --[a-z][a-z0-9-]*)?")
_RESOURCE = re.compile(r"[A-Za-z_][\w.]*:[\w./-]+")


class Plugin(Spec, frozen=True):
    """A family of models. Its resources are ``"package:path"``.

    Args:
        name: The name, also that of its entry point.
        api: The version of the contract it was written for; the latest is ``zoo.spec.API``. Older ones still run.
        models: Its models.
        weights: Manifests of its weights.
        recipes: Its training recipes.
        key_maps: How checkpoints of others become its own.
        datasets: Data sets that it brings.
        requires: Requirements of all its models.
        collection: For a plugin that stands for another library: a hook that returns models and their weights
            (``zoo.manifest.Weights``), instead of ``models``. It is called on first need and must not import torch.
            Each model is named in full, ``plugin/arch``, and is listed only if the plugin is asked for.
        file_args: ``file_args`` of all its models.
        repositories: A hook for ``hf-hub:OWNER/NAME``: takes the ``config.json`` of a repository as a dictionary, and
            returns a :class:`Described`, or None if another library wrote it. It must not import torch.
        hook_args: The type of the table ``hook_args`` of its recipes, the family's own fields: a ``msgspec.Struct``,
            ``"package.module:Name"``, whose module must not import torch. Without it, recipes have no such table.
        attacks: Attack methods that it brings.
        looks: Questions about networks that it brings.
        exports: Export passes that it brings.
        readers: Kinds of data sets that it reads.
        commands: Commands that it brings, by name: ``{"detect": "package.cli:detect"}`` is ``zoo detect``, a
            ``click.Command`` in a module that must not import torch. ``"train --queue"`` takes over ``zoo train`` where
            this option is given, which ``zoo train`` itself does not have. See :mod:`zoo.registry.extensions`.
        modules: What it adds to ``zoo``, by name: ``{"detect": "package"}`` is the module ``zoo.detect``,
            ``"package.module:function"`` a function of that name.
        converters: Formats of weights that it reads, by the end of a file's name: ``{".npz": "package.module:read"}``.
            The function takes a file and the :class:`zoo.registry.Found` of its model, whose ``weights`` are the entry
            of the file. It returns the tensors by their names in the network, and that entry with the ``args``,
            ``preprocess`` and ``classes`` that the file states. It runs in a process of its own, without a network.
        openers: Files that are networks, by the end of their name: ``{".onnx": "package.module:open_file"}``. The
            function takes a file and returns a network with ``zoo_info``, as :func:`zoo.create` does.
        checks: What it adds to the conformance kit: functions that take a ``zoo.testing.Subject``, a network of any
            family, and raise if the plugin's tools do not work on it.

    Raises:
        SpecError: A value is not valid, or two models have the same name or alias.

    Example:
        >>> import zoo
        >>> zoo.Plugin("mine", api=2, models=(zoo.Model("my_net", build="my_package.model:my_net"),)).models[0].name
        'my_net'
    """

    name: str
    api: int
    models: tuple[Model, ...] = ()
    weights: tuple[str, ...] = ()
    recipes: str = ""
    key_maps: tuple[KeyMap, ...] = ()
    datasets: tuple[DatasetSpec, ...] = ()
    requires: tuple[Requirement, ...] = ()
    collection: str = ""
    file_args: Mapping[str, Argument] = {}
    repositories: str = ""
    hook_args: str = ""
    attacks: tuple[AttackMethod, ...] = ()
    looks: tuple[LookQuestion, ...] = ()
    exports: tuple[ExportPass, ...] = ()
    readers: tuple[Reader, ...] = ()
    commands: Mapping[str, str] = {}
    modules: Mapping[str, str] = {}
    converters: Mapping[str, str] = {}
    openers: Mapping[str, str] = {}
    checks: tuple[str, ...] = ()

    def _check(self) -> None:
        self.require(is_part(self.name), "a name has lower case letters, digits and _")
        self.require(self.api >= 1, f"api = {self.api}, expected the contract's version, 1 to {API}")
        self.require_hooks("collection", "repositories", "hook_args")
        self.require(not (self.collection and self.models), "expected models or a collection, not both")
        if self.requires or self.file_args or any(model.api != self.api for model in self.models):
            force_setattr(self, "models", tuple(map(self._completed, self.models)))
        self.require(all(is_part(model.name) for model in self.models), "only models of a collection have full names")
        names = [name for model in self.models for name in (model.name, *model.aliases)]
        twice = sorted({name for name in names if names.count(name) > 1})
        self.require(not twice, f"duplicate models: {', '.join(twice)}")
        for brought in (self.datasets, self.attacks, self.looks, self.exports, self.readers):
            names = [extension.name for extension in brought]
            self.require(len(names) == len({*names}), f"two extensions of one kind have one name: {', '.join(names)}")
        for name in self.commands:
            is_command = _COMMAND.fullmatch(name) is not None
            self.require(is_command, f"command {name!r} must have lower case letters, digits, -; or be 'name --option'")
        for name in self.modules:
            self.require(is_part(name) and name.isidentifier(), f"module {name!r} must be a name in lower case")
        for ending in (*self.converters, *self.openers):
            self.require(_ENDING.fullmatch(ending) is not None, f"{ending!r} must end a file's name, such as '.npz'")
        hooks = (*self.commands.values(), *self.converters.values(), *self.openers.values(), *self.checks)
        for target in hooks:
            self.require(is_address(target), f"hook {target!r} must have the form 'package.module:function'")
        for target in self.modules.values():
            is_module = all(map(str.isidentifier, target.split(".")))
            self.require(is_module or is_address(target), f"module {target!r} must be 'package' or 'package:function'")
        for resource in (*self.weights, *filter(None, [self.recipes])):
            self.require(
                _RESOURCE.fullmatch(resource) is not None, f"resource {resource!r} must have the form 'package:path'"
            )

    def _completed(self, model: Model) -> Model:
        requires, file_args = (*self.requires, *model.requires), {**self.file_args, **model.file_args}
        return replace(model, requires=requires, file_args=file_args, api=self.api)
