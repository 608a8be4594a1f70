"""Hooks that do not take what the core passes are named, with what they lack."""

from pathlib import Path

import pytest
from support import distributions

import zoo
from zoo import registry
from zoo.errors import PluginError
from zoo.registry import hooks
from zoo.registry.hooks import BUILD, COLLECTION, EVALUATE, LOAD, REPOSITORIES, TRAIN, TRANSLATE, Role

GOOD = (
    (TRAIN, lambda model, images, recipe, run, *, preprocess, device=None: None),
    (TRAIN, lambda *given, **options: None),
    (TRAIN, lambda network, data, recipe, run, preprocess, device, epochs=3: None),
    (EVALUATE, lambda model, data, *, preprocess, column=None: None),
    (BUILD, lambda num_classes, in_chans: None),
    (BUILD, lambda **options: None),
    (TRANSLATE, lambda tensors, module: None),
    (COLLECTION, lambda: None),
    (REPOSITORIES, dict),
    (LOAD, lambda root, split="train": None),
)

BAD = (
    (TRAIN, lambda model, data: None, "takes no argument 'recipe', 'run', 'preprocess', 'device'"),
    (TRAIN, lambda model, data, recipe, run, *, preprocess: None, "takes no argument 'device'"),
    (
        TRAIN,
        lambda model, data, recipe, run, *, preprocess, device, epochs: None,
        "needs an argument 'epochs', which is not passed",
    ),
    (EVALUATE, lambda model, data, split, *, preprocess: None, "needs an argument 'split', which is not passed"),
    (EVALUATE, lambda model, data: None, "takes no argument 'preprocess'"),
    (BUILD, lambda num_classes: None, "takes no argument 'in_chans'"),
    (BUILD, lambda width, *, num_classes, in_chans: None, "needs an argument 'width', which is not passed"),
    (TRANSLATE, lambda tensors: None, "takes no argument 'module'"),
    (COLLECTION, lambda config: None, "needs an argument 'config', which is not passed"),
    (LOAD, lambda root: None, "takes no argument 'split'"),
)


@pytest.mark.parametrize(("role", "hook"), GOOD)
def test_a_hook_that_can_be_called_passes(role: Role, hook: object) -> None:
    role.check(hook, "zoo_pet.model:hook", "pet_net")  # type: ignore[arg-type]  # it is called with nothing


@pytest.mark.parametrize(("role", "hook", "problem"), BAD)
def test_a_hook_that_cannot_be_called_is_named_with_what_it_lacks(role: Role, hook: object, problem: str) -> None:
    with pytest.raises(PluginError) as raised:
        role.check(hook, "zoo_pet.model:hook", "pet_net")  # type: ignore[arg-type]  # it is called with nothing
    assert raised.value.message == f"zoo_pet.model:hook of pet_net {problem}: expected ({role})."


def test_an_argument_of_the_row_is_passed() -> None:
    BUILD.check(lambda width, *, num_classes, in_chans: None, "zoo_pet.model:hook", "pet_net", ["width"])


def test_what_has_no_signature_is_not_checked() -> None:
    LOAD.check(dict, "zoo_pet:hook")


def test_every_hook_of_a_built_in_model_takes_its_arguments() -> None:
    for row in registry.current().plugins:
        for model in row.models.values() if row.is_builtin and not row.is_collection else ():
            for role in (hooks.TRAIN, hooks.EVALUATE):
                registry.hook(getattr(model, role.field), role=role, of=model.name)


def test_the_error_reaches_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
from torch import nn

def build(*, num_classes, in_chans):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_chans, num_classes))

def train(model, images):
    return model
"""
    text = distributions.plugin("pet", "pet_net").replace("build=", 'train="pet_model:train", build=')
    files = {"pet.py": text, "pet_model.py": code}
    site = distributions.install(tmp_path / "site", "zoo-pet", {"pet": "pet:plugin"}, files)
    monkeypatch.syspath_prepend(str(site))
    registry.clear()
    with pytest.raises(PluginError, match=r"pet_model:train of pet_net takes no argument 'recipe'.*: expected "):
        zoo.train("pet_net", "digits", recipe="default", output=tmp_path / "run")
