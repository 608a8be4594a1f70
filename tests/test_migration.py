"""The page on migration: what stands in one row does the same."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import timm.data
import timm.optim
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

import zoo
from zoo import registry
from zoo.loading import skip_init

PAGE = (Path(__file__).parents[1] / "docs" / "migration.md").read_text(encoding="utf-8")
BEFORE_WEIGHTS, _, WEIGHTS = PAGE.partition("## Weights")


def rows(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", text, re.MULTILINE)


@pytest.fixture(scope="module")
def networks() -> dict[str, tuple[nn.Module, nn.Module]]:
    """By origin: another library's network and Zoo's, with the same tensors."""
    with skip_init():
        theirs = timm.create_model("resnet18.tv_in1k").eval()
        others = torchvision.models.resnet18().eval()
        ours = zoo.create("resnet18").eval(), zoo.create("torchvision/resnet18").eval()
    for tensor in theirs.parameters():
        nn.init.normal_(tensor, std=0.05)
    others.load_state_dict(theirs.state_dict())
    for network in ours:
        network.load_state_dict(theirs.state_dict())
    return {"timm": (theirs, ours[0]), "torchvision": (others, ours[1])}


def outcome(value: Any) -> Any:
    """Returns what two values must have in common: of networks, how many parameters they have and what they return."""
    if isinstance(value, nn.Module) and not isinstance(value, nn.Linear):
        channels = next(tensor.shape[1] for tensor in value.parameters())
        with torch.no_grad():
            output = value.eval()(torch.zeros(1, channels, 64, 64))
        maps = output if isinstance(output, list) else [output]
        return sum(tensor.numel() for tensor in value.parameters()), [tuple(part.shape) for part in maps]
    if isinstance(value, list) and value and isinstance(value[0], str):
        return sorted(name.rpartition("/")[2] for name in value)
    return repr(value) if isinstance(value, nn.Linear) else value


@pytest.mark.first(11)
@pytest.mark.parametrize(("there", "here"), rows(BEFORE_WEIGHTS))
def test_both_calls_of_a_row_do_the_same(there: str, here: str, networks: dict[str, Any]) -> None:
    origin = "torchvision" if "create_feature_extractor" in there else "timm"
    found = []
    for call, network in zip((there, here), networks[origin], strict=True):
        names = {
            "zoo": zoo,
            "timm": timm,
            "torchvision": torchvision,
            "create_feature_extractor": create_feature_extractor,
            "model": copy.deepcopy(network) if "model." in call else network,
            "x": torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
            "picture": Image.effect_noise((301, 257), 50).convert("RGB") if not found else found[0][1],
        }
        with torch.no_grad(), skip_init():
            found.append((outcome(eval(call, names)), names["picture"]))
    (expected, _), (got, _) = found
    if isinstance(expected, Tensor) or (isinstance(expected, list) and isinstance(expected[0], Tensor)):
        torch.testing.assert_close(got, expected)
    else:
        assert got == expected


@pytest.mark.parametrize(("there", "here"), rows(WEIGHTS))
def test_rows_on_weights_name_what_there_is(there: str, here: str) -> None:
    compile(there, "there", "eval")
    found = re.fullmatch(r'zoo\.create\("([^"]+)"(?:, pretrained="?(\w+)"?)?(?:, weights="mine.pth")?\)', here)
    assert found is not None
    name, tag = found.groups()
    if not name.startswith("hf-hub:"):
        model = registry.current().find(name)
        assert tag in (None, "True") or registry.current().tagged(model, tag).weights is not None


def test_every_table_is_run() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(lines) == len(rows(BEFORE_WEIGHTS)) + len(rows(WEIGHTS)) > 25
