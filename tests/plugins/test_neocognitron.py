"""The neocognitron against its equations in plain loops, its rules by hand, and its sizes."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.seeded import uniform as random
from torch import Tensor
from torch.nn import functional as F

import zoo
from zoo.data import ImageSet
from zoo.errors import SpecError
from zoo.testing import Check, conformance
from zoo.training.run import Silent
from zoo_neocognitron import five_digits, learning
from zoo_neocognitron.answers import nearest_segment
from zoo_neocognitron.cells import CCells, Contrast, SCells, fit, fixed_mask
from zoo_neocognitron.model import edges, neocognitron_1980, neocognitron_2003
from zoo_neocognitron.training import teach


@conformance("neocognitron")
def test_conformance(check: Check) -> None:
    check()


def s_cells(planes: int = 2, in_planes: int = 3, *, size: int = 6, theta: float = 0.6, learns_b: bool = True) -> SCells:
    return SCells(planes, in_planes, size=size, window=3, theta=theta, decay=0.8, learns_b=learns_b)


# Cells


def test_masks_fall_with_the_distance_and_sum_to_one() -> None:
    mask = fixed_mask(5, 0.7)
    assert float(mask.sum()) == pytest.approx(1)
    assert float(mask[2, 3] / mask[2, 2]) == pytest.approx(0.7)
    assert float(mask[3, 3] / mask[2, 2]) == pytest.approx(0.7 ** math.sqrt(2))
    c = s_cells().mask
    assert float(c.sum()) * 3 == pytest.approx(1), "c sums to 1 over the planes too"


def test_an_even_window_has_its_second_middle_cell_where_an_odd_one_has_its_middle() -> None:
    """A window of 4 at place p sees p - 1 to p + 2; where sizes differ by an odd number it stands between cells."""
    x = torch.arange(1.0, 4.0).expand(1, 1, 3, 3)
    assert fit(x, 3, 4)[0, 0, 1].tolist() == [0, 1, 2, 3, 0, 0]
    assert fit(x, 3, 3)[0, 0, 1].tolist() == [0, 1, 2, 3, 0]
    assert fit(x, 4, 4)[0, 0, 2].tolist() == [0, 0, 1, 2, 3, 0, 0]


def test_trap_13_s_cells_are_shunted_by_division_with_the_factor_2r_over_1_plus_r_on_b_v() -> None:
    r, cells, x = 1.5, s_cells(), random(1, 3, 6, 6)
    cells.weight.data.copy_(random(2, 3, 3, 3, seed=1))
    cells.b.data.copy_(torch.tensor([0.7, 1.9]))
    mask = cells.mask[0, 0].tolist()
    answers, weight = cells(x)[0].detach(), cells.weight.detach()

    def seen(plane: int, row: int, column: int) -> float:
        return float(x[0, plane, row, column]) if 0 <= row < 6 and 0 <= column < 6 else 0.0

    for plane in range(2):
        for row in range(6):
            for column in range(6):
                excitation = energy = 0.0
                for source in range(3):
                    for down in range(3):
                        for right in range(3):
                            u = seen(source, row + down - 1, column + right - 1)
                            excitation += float(weight[plane, source, down, right]) * u
                            energy += mask[down][right] * u * u
                inhibition = 2 * r / (1 + r) * (0.7, 1.9)[plane] * math.sqrt(energy)
                expected = r * max((1 + excitation) / (1 + inhibition) - 1, 0.0)
                assert float(answers[plane, row, column]) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_reinforced_cell_of_2003_answers_by_the_weighted_cosine_alone() -> None:
    theta, cells = 0.4, s_cells(1, 3, size=1, theta=0.4, learns_b=False)
    learnt, x = random(1, 3, 3, 3, seed=2), random(20, 3, 3, 3, seed=3).square()
    cells.weight.data.copy_(learning.STRENGTH * cells.mask * learnt)
    for image, answer in zip(x, cells(x).detach().flatten().tolist(), strict=True):
        product = norm = length = 0.0
        for source in range(3):
            for row in range(3):
                for column in range(3):
                    c = float(cells.mask[0, 0, row, column])
                    a, b = float(learnt[0, source, row, column]), float(image[source, row, column])
                    product, norm, length = product + c * a * b, norm + c * a * a, length + c * b * b
        cosine = product / math.sqrt(norm * length)
        assert answer == pytest.approx(max(cosine - theta, 0) / (1 - theta), abs=2e-3)
    assert 0 < float((cells(0.01 * x).mean() / cells(x).mean()).detach()) < 1, (
        "the 1 in the fraction counts for weak input"
    )


def test_r_and_theta_are_one_threshold() -> None:
    """b = sqrt(sum a^2 / c) of 2003 is what 1980 learns as 2 b, so that r = theta / (1 - theta) gives one answer."""
    old, new = s_cells(1, 1, size=1, learns_b=True), s_cells(1, 1, size=1, learns_b=False)
    x = random(1, 1, 3, 3, seed=4)
    old.weight.data.zero_()
    learning.reinforce(old, x, {0: 0}, 16.0)
    new.weight.data.copy_(old.weight)
    torch.testing.assert_close(2 * old.b.data, new.inhibition().data, rtol=1e-5, atol=0)
    torch.testing.assert_close(old(x), new(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lateral", [True, False])
def test_c_cells_are_a_saturated_blur_under_the_inhibition_of_all_planes(lateral: bool) -> None:
    alpha, x = 0.5, random(1, 3, 5, 5, seed=5)
    cells = CCells(size=5, window=3, decay=0.9, alpha=alpha, lateral=lateral)
    d, answers = fixed_mask(3, 0.9), cells(x)[0]

    def blurred(plane: int, row: int, column: int) -> float:
        total = 0.0
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                if 0 <= row + down < 5 and 0 <= column + right < 5:
                    total += float(d[down + 1, right + 1] * x[0, plane, row + down, column + right])
        return total

    for plane in range(3):
        for row in range(5):
            for column in range(5):
                v = sum(blurred(other, row, column) for other in range(3)) / 3 if lateral else 0.0
                inner = (1 + blurred(plane, row, column)) / (1 + v) - 1
                expected = max(inner / (alpha + inner), 0.0)
                assert float(answers[plane, row, column]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_c_cells_with_a_surround_are_inhibited_from_around() -> None:
    cells = CCells(size=9, window=5, decay=0.5, surround=0.8)
    spot, ring = torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 9, 9)
    spot[..., 4, 4] = 1
    ring[..., 2, 2] = 1  # a corner of the window
    assert float(cells.d[0, 0, 2, 2]) > 0 > float(cells.d[0, 0, 0, 0])
    assert float(cells(spot)[0, 0, 4, 4]) > float(cells(spot + ring)[0, 0, 4, 4]) > 0


def test_contrast_says_nothing_of_even_light_and_tells_bright_from_dark() -> None:
    layer, image = Contrast(31), torch.full((1, 1, 31, 31), 0.5)
    assert float(layer(image)[..., 6:-6, 6:-6].abs().max()) < 1e-6
    image[..., 15, 15] = 1.0
    on, off = layer(image)[0, :, 15, 15].tolist()
    assert on > 0.01 > off == 0.0


def test_every_orientation_has_its_edge_plane() -> None:
    cells = SCells(16, 2, size=1, window=6, theta=0.5, decay=0.9, learns_b=False)
    cells.weight.data.copy_(edges(16, cells))
    place = torch.arange(30, dtype=torch.float32) - 14.5
    for plane in range(16):
        angle = math.pi * plane / 8
        bright = (place[None, :] * math.cos(angle) + place[:, None] * math.sin(angle) > 0).float()
        answers = cells(Contrast(30)(bright[None, None])[..., 12:18, 12:18])[0].amax(dim=(1, 2))
        assert int(answers.argmax()) == plane


# Sizes


def sizes(network: torch.nn.Module, side: int) -> list[int]:
    x, found = random(1, 1, side, side), []
    for name in network.names:
        x = network.cells(name)(x)
        found.append(x.shape[-1])
    return found


def test_layers_have_the_sizes_of_1980_and_2003() -> None:
    assert sizes(neocognitron_1980(), 16) == [16, 10, 8, 6, 2, 1]
    small = neocognitron_2003(planes=(16, 3, 3, 10), classifier="competitive")
    assert sizes(small, 65) == [71, 68, 37, 38, 21, 22, 13, 5]
    assert small.forward_head(torch.zeros(1, 10, 5, 5), pre_logits=True).shape == (1, 10)


# Rules


def test_trap_13_a_plane_has_one_representative_the_largest_of_its_candidates() -> None:
    u = torch.zeros(3, 9, 9)
    u[0, 1, 1], u[0, 7, 7], u[1, 1, 1], u[1, 4, 4], u[2, 7, 7] = 0.9, 0.8, 0.7, 0.3, 0.1
    chosen = learning.representatives(u, 3)
    assert chosen == {0: 9 + 1, 1: 4 * 9 + 4}, "plane 1's best is beaten in its column; plane 2 never wins one"


def test_winners_learn_and_other_planes_stay_untouched() -> None:
    cells, x = s_cells(3, 2, size=6), random(1, 2, 6, 6, seed=6)
    cells.b.data.fill_(0.1)
    weight, b = cells.weight.detach().clone(), cells.b.detach().clone()
    learning.reinforce(cells, x, {1: 2 * 6 + 3}, 16.0)
    seen = x[0, :, 1:4, 2:5]
    torch.testing.assert_close(cells.weight.data[1] - weight[1], 16 * cells.mask[0] * seen, rtol=1e-4, atol=1e-6)
    v = math.sqrt(float((cells.mask[0] * seen.square()).sum()))
    assert float(cells.b.data[1] - b[1]) == pytest.approx(8 * v, rel=1e-4)
    assert torch.equal(cells.weight.data[[0, 2]], weight[[0, 2]])
    assert torch.equal(cells.b.data[[0, 2]], b[[0, 2]])


def patterns(*images: Tensor) -> learning.Batches:
    return lambda: iter([(torch.stack(images), torch.arange(len(images)))])


def test_add_if_silent_adds_a_plane_exactly_where_all_are_silent_though_the_input_is_active() -> None:
    one, other = torch.zeros(2, 3, 3), torch.zeros(2, 3, 3)
    one[0], other[1] = 1.0, 0.5  # orthogonal
    cells = s_cells(0, 2, size=1, learns_b=False)
    grow = {"theta": 0.6, "activity": 0.0}
    learning.add_if_silent(cells, patterns(one, 0.7 * one, torch.zeros(2, 3, 3), other, one), **grow)
    assert cells.planes == 2, "not for what a cell knows, not for nothing"
    torch.testing.assert_close(cells.weight.data[1:], learning.STRENGTH * cells.mask * other)
    mixed = (one + 0.9 * other * 2)[None]  # at a cosine of about .7 to both
    assert not learning.silent_sites(cells, mixed, cells.v(mixed), 0.6, 0.0).any()
    assert learning.silent_sites(cells, mixed, cells.v(mixed), 0.8, 0.0).all()


def test_a_faint_pattern_is_as_active_as_a_bright_one_beside_it() -> None:
    """Activity is a share of the pattern's own peak, whatever else is in the batch."""
    bright = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    faint = 0.01 * bright.flip(3)
    cells = s_cells(0, 3, learns_b=False)
    both = torch.cat([bright, faint])
    together = learning.silent_sites(cells, both, cells.v(both), 0.6, 0.5)
    alone = learning.silent_sites(cells, faint, cells.v(faint), 0.6, 0.5)
    assert alone.any()
    assert torch.equal(together[1:], alone)


def test_a_seed_that_rounding_keeps_silent_to_itself_is_added_once() -> None:
    theta, grown = 1 - 1e-9, []
    for seed in range(20):
        x = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(seed))
        cells = s_cells(0, 2, size=1, learns_b=False)
        learning.add_if_silent(cells, patterns(x), theta=theta, activity=0.0)
        grown.append(cells.planes)
        if float(cells.respond(x[None], theta).detach().max()) <= 0:
            break
    else:
        pytest.fail("no pattern is silent to itself: this shows nothing")
    assert set(grown) == {1}


def test_trap_13_the_threshold_is_higher_in_learning_than_in_recognition() -> None:
    network = neocognitron_2003()
    recognition = [network.s_cells(name).theta for name in ("s2", "s3")]
    assert all(high > low for high, low in zip(network.plan.theta, recognition, strict=True))
    one, near = torch.ones(1, 3, 3), torch.ones(1, 3, 3)
    near[0, 0] = near[0, 1] = 0.0  # seen again by a third
    cells = s_cells(0, 1, size=1, theta=0.4, learns_b=False)
    learning.add_if_silent(cells, patterns(one, near), theta=0.7, activity=0.0)
    assert cells.planes == 2, "silent at the threshold of learning"
    assert float(cells(near[None]).detach()[0, 0]) > 0, "not at that of recognition"


def test_winner_take_all_of_2003_grows_from_seeds_and_then_reinforces_them() -> None:
    one, other = torch.zeros(2, 3, 3), torch.zeros(2, 3, 3)
    one[0], other[1] = 1.0, 1.0
    cells = s_cells(0, 2, size=1, learns_b=False)
    learning.compete_and_grow(cells, patterns(one, other, one), theta=0.6, activity=0.0)
    expected = learning.STRENGTH * cells.mask[0] * torch.stack([2 * one, other])
    torch.testing.assert_close(cells.weight.data, expected)


def test_labelled_cells_are_added_only_for_what_is_misclassified() -> None:
    one, other = torch.zeros(2, 3, 3), torch.zeros(2, 3, 3)
    one[0], other[1] = 1.0, 1.0
    images, labels = torch.stack([one, one, other, one]), torch.tensor([4, 4, 7, 4])
    cells = s_cells(0, 2, size=1, learns_b=False)
    classes = learning.label_cells(cells, lambda: iter([(images, labels)]), passes=1)
    assert classes.tolist() == [4, 7]
    expected = learning.STRENGTH * cells.mask[0] * torch.stack([3 * one, other])
    torch.testing.assert_close(cells.weight.data, expected)


def test_the_nearest_segment_is_the_nearest_of_all_its_points() -> None:
    vectors = F.normalize(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    x = F.normalize(torch.randn(40, 6, generator=torch.Generator().manual_seed(1)) + 0.5 * vectors.sum(0), dim=1)
    nearest = nearest_segment(x @ vectors.T, vectors @ vectors.T)
    for image, nearness in zip(x, nearest.tolist(), strict=True):
        t = torch.linspace(0, 1, 501)[:, None]
        pairs = [F.normalize((1 - t) * a + t * b, dim=1) @ image for a in vectors for b in vectors]
        assert nearness == pytest.approx(float(torch.stack(pairs).max()), abs=1e-4)
    assert float((nearest - (x @ vectors.T).amax(dim=1)).max()) > 0.05, "some lie between"


def test_a_reference_is_added_only_for_what_is_misclassified_or_not_near_enough() -> None:
    angles, labels = torch.tensor([0.0, 0.1, 1.2, 0.2, 0.6]), torch.tensor([0, 0, 1, 0, 1])
    gram = torch.cos(angles[:, None] - angles)
    assert learning.choose_references(gram, labels, classes=2, passes=1) == [0, 2, 4]
    near = learning.choose_references(gram, labels, classes=2, passes=1, nearness=math.cos(0.15))
    assert near == [0, 2, 3, 4], "the fourth is further than 0.15 from the first"


# Networks


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    output = tmp_path_factory.mktemp("neocognitron") / "run"
    module = zoo.train("neocognitron_1980", "five_digits", output=output, display=Silent())
    return module.eval(), output / "model.safetensors"


def images_of(split: str) -> tuple[Tensor, Tensor]:
    digits: ImageSet = five_digits.load(None, split)
    return digits.pixels.float() / 255, digits.labels


def test_five_digits_get_a_plane_each_wherever_they_are_shifted(trained: tuple[torch.nn.Module, Path]) -> None:
    network, _ = trained
    with torch.no_grad():
        shifted, labels = images_of("test")
        assert network(shifted).argmax(dim=1).tolist() == labels.tolist()
        everything = torch.cat([shifted, images_of("train")[0]])
        winners = network.forward_features(everything).flatten(1).argmax(dim=1).view(-1, 5)
    assert all(len(winners[:, digit].unique()) == 1 for digit in range(5))
    assert len(winners[0].unique()) == 5


@pytest.mark.slow
def test_a_grown_network_is_rebuilt_from_its_file_to_the_last_tensor(tmp_path: Path) -> None:
    """Its numbers of planes are known only once it has been trained; a shifted digit keeps its label."""
    pytest.importorskip("sklearn")
    args = {"digits": 60, "seeding": 10}
    network = zoo.train(
        "neocognitron_2003", "digits", args=args, settings={"epochs": 1}, output=tmp_path, display=Silent()
    ).eval()
    rebuilt = zoo.create("neocognitron_2003", weights=tmp_path / "model.safetensors").eval()
    assert rebuilt.planes == network.planes
    assert rebuilt.planes[0] == 16
    assert min(rebuilt.planes) > 4
    digits = zoo.data.load("digits", "train")
    from zoo.data import Transform

    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))[:20]  # among those it learnt
    x = Transform(rebuilt.zoo_info.preprocess).batch(digits.pixels[order])
    with torch.no_grad():
        logits = rebuilt(x)
        assert torch.equal(logits, network(x))
        assert (logits.argmax(dim=1) == digits.labels[order]).float().mean() > 0.9
        moved = rebuilt(F.pad(x, (1, 0, 1, 0))[..., :-1, :-1]).argmax(dim=1)
    assert (moved == logits.argmax(dim=1)).float().mean() > 0.9


@pytest.mark.parametrize("rule", ["wta", "ais"])
def test_both_rules_and_the_labelled_stage_train(rule: str) -> None:
    network = neocognitron_2003(rule=rule, classifier="competitive", digits=5, seeding=5, num_classes=5)
    x = F.interpolate(images_of("test")[0][:5], 65)
    with torch.no_grad():
        teach(network, x, torch.arange(5), seed=0, epochs=3)
        assert network(x).argmax(dim=1).tolist() == list(range(5))


@pytest.mark.parametrize(
    ("args", "said"),
    [({"rule": "hebb"}, "rule = 'hebb'"), ({"classifier": "svm"}, "classifier = 'svm'"), ({"planes": [1]}, "planes")],
)
def test_an_argument_that_makes_no_network_is_refused(args: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        neocognitron_2003(**args)
