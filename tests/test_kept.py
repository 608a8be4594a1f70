"""What others hold on to: public names, the addresses that plugins write, the keys of every network's tensors.

``kept.json`` lists them. A change of it is a change that users see: it belongs in the changelog. The outputs of trained
networks are held by the probes of their manifests, which the conformance kit runs.
"""

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo import registry
from zoo.loading import skip_init

FILE = Path(__file__).with_name("kept.json")
KEPT: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def digest(module: torch.nn.Module) -> str:
    """Hashes the names, shapes and types of a network's tensors, in order."""
    lines = [f"{key} {tuple(value.shape)} {value.dtype}" for key, value in module.state_dict().items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def state_dicts() -> dict[str, str]:
    found = {}
    for listed in registry.current().models():
        with skip_init(), torch.device("meta"):
            try:
                found[listed.name] = digest(zoo.create(listed.name))
            except (NotImplementedError, RuntimeError):  # of those that compute a constant from its values
                with torch.device("cpu"):
                    found[listed.name] = digest(zoo.create(listed.name))
    return found


@pytest.mark.parametrize("module", KEPT["names"])
def test_public_names_stay(module: str) -> None:
    found = importlib.import_module(module)
    assert [name for name in KEPT["names"][module] if not hasattr(found, name)] == []


@pytest.mark.parametrize("address", KEPT["addresses"])
def test_addresses_that_plugins_write_stay(address: str) -> None:
    assert callable(registry.hook(address))


@pytest.mark.slow
def test_the_keys_of_every_network_stay() -> None:
    assert state_dicts() == KEPT["state_dicts"]
