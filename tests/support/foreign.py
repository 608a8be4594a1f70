"""Hubs with files of other formats."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo import registry

NAME = "resnet20.foreign"


def offer(hub: Path, file: Path, name: str = NAME, known: str = "sha256", **fields: Any) -> str:
    """Adds ``file`` to the directory ``hub`` as the weights ``name``, and makes ZOO_HUB name it; returns the sha256.

    ``known`` is the hash that the entry states, or empty.
    """
    hub.mkdir(exist_ok=True)
    if name == NAME:  # whose tensors fit two networks
        fields.setdefault("key_map", '"as-is"')
    if file.parent != hub:
        (hub / file.name).write_bytes(file.read_bytes())
    content = (hub / file.name).read_bytes()
    lines = [f"[{name}]", f'file = "{file.name}"', f'hub = "{hub}"']
    if known != "sha256":
        lines.append("pinned = false")
    if known:
        digest = hashlib.new(known, content, usedforsecurity=False).hexdigest()
        lines.append(f'sha256 = "{digest}"' if known == "sha256" else f'digest = "{known}:{digest}"')
    lines += [f"{key} = {value}" for key, value in fields.items()]
    with (hub / "manifest.toml").open("a") as manifest:
        manifest.write("\n".join(lines) + "\n\n")
    os.environ["ZOO_HUB"] = str(hub)
    registry.clear()
    return hashlib.sha256(content).hexdigest()


def save_state(file: Path, model: str = "resnet20") -> dict[str, torch.Tensor]:
    """Saves random weights of ``model`` in ``file`` as torch does."""
    torch.manual_seed(0)
    state: dict[str, torch.Tensor] = zoo.create(model).state_dict()
    torch.save(state, file)
    return state


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def has_state(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    got = model.state_dict()
    return got.keys() == state.keys() and all(torch.equal(got[key], state[key]) for key in state)


def calls_here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes what would run in a process of its own runs in this one; the names of the files it converts."""
    import importlib

    import msgspec

    from zoo.system import process, sandbox

    monkeypatch.setattr(sandbox, "_layers", frozenset())
    converted: list[str] = []

    def ask(function: str, arguments: dict[str, Any], **_: Any) -> Any:
        module, _, name = function.partition(":")
        sent = msgspec.json.decode(msgspec.json.encode(arguments))
        if "out" in sent:
            converted.append(sent["file"])
        return msgspec.to_builtins(getattr(importlib.import_module(module), name)(**sent))

    monkeypatch.setattr(process, "ask", ask)
    return converted
