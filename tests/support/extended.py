"""A third-party plugin that brings one of each extension, and nothing else, written to a folder and put on the path."""

from pathlib import Path

import pytest
from support import distributions

from zoo import registry

ROWS = """
from zoo.spec import API, AttackMethod, DatasetSpec, ExportPass, LookQuestion, Plugin, Reader

plugin = Plugin(
    name="NAME",
    api=API,
    attacks=(
        AttackMethod("darken", run="NAME_hooks:darken", note="Darkens images."),
        AttackMethod("pgd", run="NAME_hooks:darken", norm="l2"),
    ),
    looks=(
        LookQuestion("norms", run="NAME_hooks:norms", note="Measure the norms of parameters."),
        LookQuestion("features", run="NAME_hooks:norms"),
    ),
    exports=(ExportPass("same", run="NAME_hooks:same"), ExportPass("zero", run="NAME_hooks:zero")),
    readers=(Reader("npz", run="NAME_hooks:read", suffixes=(".npz",), prefix="npz:"),),
    datasets=(DatasetSpec("dots", load="NAME_hooks:load"),),
)
"""

HOOKS = """
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from zoo.data import ImageSet
from zoo_look import Look, new_figure


def darken(model, images, labels, epsilon, *, method, is_targeted):
    return images - 10 * epsilon * method.steps  # far outside of the ball


@dataclass(frozen=True, eq=False)
class Norms(Look):
    norms: Tensor

    def facts(self):
        return {"layers": len(self.norms), "largest": round(float(self.norms.max()), 3)}

    def figure(self):
        figure = new_figure(4, 3, self.caption)
        figure.subplots().plot(self.norms)
        return figure


def norms(network, *, image, layer, order=2):
    held = [part.detach().norm(order) for name, part in network.named_parameters() if name.startswith(layer)]
    seen = "no image" if image is None else "an image"
    return Norms(f"Norms of order {order} with {seen}", torch.stack(held))


def same(network):
    return nn.Sequential(network, nn.Identity())


def zero(network):
    for parameter in network.parameters():
        parameter.data.zero_()
    return network


def read(address, split):
    held = np.load(address.removeprefix("npz:"))
    labels = torch.from_numpy(held["labels"])
    return ImageSet("held", split, tuple("0123456789"), labels, torch.from_numpy(held["pixels"]))


def load(root, split):
    return ImageSet("dots", split, ("no", "yes"), torch.tensor([0, 1]), torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
"""


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *changes: tuple[str, str], names: tuple[str, ...] = ("pet",)
) -> Path:
    """Installs a plugin for each of ``names``, with each ``old`` turned to ``new``; returns the folder on the path."""
    rows, hooks = ROWS, HOOKS
    for old, new in changes:
        assert old in rows + hooks, f"nothing to change: {old!r}"
        rows, hooks = rows.replace(old, new), hooks.replace(old, new)
    for name in names:
        files = {f"{name}.py": rows.replace("NAME", name), f"{name}_hooks.py": hooks}
        distributions.install(folder / "site", f"zoo-{name}", {name: f"{name}:plugin"}, files)
    monkeypatch.syspath_prepend(str(folder / "site"))
    registry.clear()
    return folder / "site"
