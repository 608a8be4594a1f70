"""Receptive fields against published ones, and against what networks really depend on."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
import zoo_look as look
from zoo import loading, registry
from zoo_look.network import opened, reached
from zoo_look.receptive import Geometry, ReceptiveField, boxes_of

PUBLISHED = [
    # Araujo, Norris and Sim, "Computing receptive fields of convolutional neural networks", Distill 2019
    pytest.param("alexnet_owt", "features.12", (356, 356), (195, 32), id="alexnet"),
    pytest.param("vgg16", "features.30", (448, 448), (212, 32), id="vgg16", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "layer", "size", "published"), PUBLISHED)
def test_sizes_and_strides_are_the_published_ones(
    name: str, layer: str, size: tuple[int, int], published: tuple[int, int]
) -> None:
    with loading.skip_init():
        network = zoo.create(name)
    field = look.receptive_field(network, layer, size=size)
    for found in (field.rows(0), field.columns(0)):
        assert (found.size, found.stride) == published


class Toy(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


CLOSED = {
    "a dilated convolution": (nn.Conv2d(1, 1, 3, dilation=3), Geometry(7, 1, 0)),
    "a strided and padded one": (nn.Conv2d(1, 1, 5, stride=2, padding=2), Geometry(5, 2, -2)),
    "two of stride two": (nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.Conv2d(2, 1, 3, stride=2)), Geometry(7, 4, 0)),
    "a pool whose windows overhang": (nn.MaxPool2d(3, 2, ceil_mode=True), Geometry(3, 2, 0)),
    "an average": (nn.AvgPool2d(3, 2, padding=1), Geometry(3, 2, -1)),
    "pixels moved to channels": (nn.PixelUnshuffle(2), Geometry(1, 2, 0)),
    "reflected borders": (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), Geometry(3, 1, -1)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_single_operations_see_what_arithmetic_says(name: str) -> None:
    layer, expected = CLOSED[name]
    image = torch.zeros(1, 1, 24, 24)
    boxes, coarse = boxes_of(Toy(layer).eval(), image, "layers")
    field = ReceptiveField("layers", (24, 24), boxes, ())
    assert coarse == ()
    assert (field.rows(0), field.columns(0)) == (expected, expected)


@pytest.mark.parametrize(
    ("layer", "rows", "columns"),
    [
        (nn.Conv2d(1, 1, (3, 5), stride=(2, 1), padding=(0, 2)), Geometry(3, 2, 0), Geometry(5, 1, -2)),
        (nn.Conv2d(1, 1, 3, padding=(0, 1), dilation=(2, 1)), Geometry(5, 1, 0), Geometry(3, 1, -1)),
        (nn.MaxPool2d((2, 4), (2, 3), (1, 0)), Geometry(2, 2, -1), Geometry(4, 3, 0)),
        (nn.AvgPool2d((1, 3), 1, (0, 1)), Geometry(1, 1, 0), Geometry(3, 1, -1)),
    ],
    ids=["kernel and stride", "padding and dilation", "a max pool", "an average pool"],
)
def test_rows_and_columns_of_an_oblong_image_are_told_apart(
    layer: nn.Module, rows: Geometry, columns: Geometry
) -> None:
    boxes, coarse = boxes_of(Toy(layer).eval(), torch.zeros(1, 1, 16, 28), "layers")
    field = ReceptiveField("layers", (16, 28), boxes, ())
    assert (coarse, field.rows(0), field.columns(0)) == ((), rows, columns)


class Widths(nn.Module):
    """Four channels that see 1, 1, 3 and 5 pixels across, given to ``last``."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        wide = [F.conv2d(x, torch.ones(1, 1, 1, size), padding=(0, size // 2)) for size in (1, 1, 3, 5)]
        return self.last(torch.cat(wide, dim=1))


def test_a_group_of_a_convolution_sees_its_own_channels_alone() -> None:
    boxes, coarse = boxes_of(Widths(nn.Conv2d(4, 4, 1, groups=2)), torch.zeros(1, 1, 8, 12), "last")
    assert coarse == ()
    assert boxes[:, 4, 6].tolist() == [[4, 6, 5, 7], [4, 6, 5, 7], [4, 4, 5, 9], [4, 4, 5, 9]]
    depthwise, _ = boxes_of(Widths(nn.Conv2d(4, 8, 1, groups=4)), torch.zeros(1, 1, 8, 12), "last")
    assert [right - left for _, left, _, right in depthwise[:, 4, 6].tolist()] == [1, 1, 1, 1, 3, 3, 5, 5]


def test_group_normalisation_sees_all_of_its_group_and_nothing_of_another() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.GroupNorm(2, 4)

        def forward(self, x: Tensor) -> Tensor:
            top, all_of_it = F.pad(x[:, :, :3], (0, 0, 0, 5)), x
            return self.norm(torch.cat([top, 2 * top, all_of_it, top], dim=1))

    boxes, coarse = boxes_of(Halves(), torch.zeros(1, 1, 8, 12), "norm")
    assert coarse == ()
    assert boxes[:, 7, 0].tolist() == [[0, 0, 3, 12], [0, 0, 3, 12], [0, 0, 8, 12], [0, 0, 8, 12]]


def test_channels_of_a_concatenation_see_what_their_own_branch_sees() -> None:
    """As functions, in place, and written into a tensor made beforehand."""

    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            weight = torch.ones(1, 1, 3, 3)
            out = torch.zeros(1, 3, *x.shape[2:])
            out[:, 0:1] = x
            out[:, 1:2].add_(F.conv2d(x, weight, padding=1))
            out[:, 2:3] = F.conv2d(F.conv2d(x, weight, padding=1), weight, padding=1) + x
            return torch.cat([out, x.mean((2, 3), keepdim=True).expand_as(x)], dim=1)

    boxes, coarse = boxes_of(Branches(), torch.zeros(1, 1, 12, 12), "branches")
    assert coarse == ()
    assert boxes[:, 6, 6].tolist() == [[6, 6, 7, 7], [5, 5, 8, 8], [4, 4, 9, 9], [0, 0, 12, 12]]
    assert boxes[:, 0, 11].tolist() == [[0, 11, 1, 12], [0, 10, 2, 12], [0, 9, 3, 12], [0, 0, 12, 12]]


def test_what_samples_by_its_own_values_sees_everything_and_says_so() -> None:
    field = look.receptive_field(zoo.create("stn_tutorial_mnist"), "features.act2")
    assert "grid_sampler_2d" in field.coarse
    assert field.box(0, 1, 1) == (0, 0, 28, 28)


def small_models() -> list[Any]:
    """Returns the smallest convolutional model of every built-in family whose units have a field in the image.

    Classical descriptors are other libraries', outside torch; HMAX takes maxima of images scaled by what the whole
    image holds; a collection names no model of its own.
    """
    chosen = []
    for row in registry.current().plugins:
        if not (row.plugin and row.plugin.models and row.is_builtin) or row.name in ("classical", "hmax"):
            continue
        models = [model for model in row.plugin.models if "mlp" not in model.name and not model.name.startswith("stn")]
        name = {"invariant": "mnist_cnn"}.get(row.name, min(models, key=lambda model: model.params).name)
        chosen.append(pytest.param(name, id=row.name))
    extra = ["orn4_pool", "deform_cnn", "gcn4_3x3", "googlenet_small"]
    return [*chosen, *(pytest.param(name, id=name) for name in extra)]


def made_positive(model: nn.Module) -> None:
    """Makes all weights positive, all normalisation the identity and ReLU6 endless: no path from a pixel to a unit is
    cancelled or cut."""
    for module in model.modules():
        if isinstance(module, nn.ReLU6):
            module.max_val = math.inf
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_mean"):
            tensor.zero_()
        elif name.endswith("running_var"):
            tensor.fill_(1)
        elif tensor.is_floating_point():
            random = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.5
            tensor.copy_(random if tensor.ndim < 2 else random / tensor[0].numel())


@pytest.mark.first(2)
@pytest.mark.parametrize("name", small_models())
def test_units_depend_on_their_field_s_edges_and_on_nothing_outside(name: str) -> None:
    """Shown by changing pixels: outside the box nothing moves a unit by a bit, its outermost lines each do."""
    torch.manual_seed(0)
    model = zoo.create(name).eval()
    size = model.zoo_info.preprocess.input_size
    image = torch.rand(1, *size, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    probed = 0
    with opened(model) as network, torch.no_grad():
        for layer in network.default_layers[:3]:
            made_positive(network.float())
            with reached(network, layer) as run:
                boxes, coarse = boxes_of(run, image, layer)
                if coarse:
                    continue
                network.double()
                exact = image.double()
                before = run(exact)[0]
                if before.ndim != 3:
                    continue
                channels, height, width = before.shape
                for channel, row, column in {(0, 0, 0), (channels - 1, height // 2, width // 2), (0, height - 1, 0)}:
                    top, left, bottom, right = boxes[channel, row, column].tolist()
                    inside = torch.zeros(size[1:], dtype=torch.bool)
                    inside[top:bottom, left:right] = True
                    random = torch.rand(exact.shape, generator=generator, dtype=torch.float64)
                    if not inside.all():
                        probed += 1
                        moved = run(torch.where(inside, exact, random))[0, channel, row, column]
                        assert moved == before[channel, row, column], f"{layer}: more than {(top, left, bottom, right)}"
                    if name.startswith("neocognitron"):
                        continue  # its cells are inhibited by what they see: no weights keep every path open
                    for rows, columns in (
                        (slice(top, top + 1), slice(left, right)),
                        (slice(bottom - 1, bottom), slice(left, right)),
                        (slice(top, bottom), slice(left, left + 1)),
                        (slice(top, bottom), slice(right - 1, right)),
                    ):
                        changed = exact.clone()
                        changed[..., rows, columns] += 1e6 * random[..., rows, columns]
                        moved = run(changed)[0, channel, row, column]
                        assert moved != before[channel, row, column], f"{layer}: less than {(top, left, bottom, right)}"
            network.float()
    assert probed or name == "dtp_conv"


@pytest.mark.parametrize(
    ("name", "layer"),
    [("resnet20.c10", "layer1.1"), ("alexnet_small.c10", "features.4"), ("googlenet_small.c10", "inception3b")],
)
def test_an_inner_unit_answers_to_its_field_alone_as_to_the_whole_image(name: str, layer: str) -> None:
    model = zoo.create(name).eval()
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    field = look.receptive_field(model, layer)
    tested = 0
    with opened(model) as network, reached(network, layer) as run, torch.no_grad():
        maps = run(image)[0]
        middle = maps.shape[1] // 2
        for channel in range(0, len(maps), 7):
            geometry = field.rows(channel)
            top, left, bottom, right = field.box(channel, middle, middle)
            assert (bottom - top, right - left) == (geometry.size, geometry.size)
            # A crop must begin where a unit begins, else strides fall on other pixels.
            row, column = top // geometry.stride, left // geometry.stride
            crop = image[..., row * geometry.stride : bottom, column * geometry.stride : right]
            alone = run(crop)[0, channel, middle - row, middle - column]
            torch.testing.assert_close(alone, maps[channel, middle, middle], rtol=1e-4, atol=1e-5)
            tested += 1
    assert tested >= 3
