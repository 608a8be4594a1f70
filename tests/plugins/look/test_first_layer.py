"""First layers: Gabor fits against filters that were made, patterns, frequencies in closed form, drawings."""

import math
from pathlib import Path

import pytest
import torch
from support.command import ask_warm, printed, told
from support.seeded import noise
from torch import Tensor, nn

import zoo
import zoo_look as look
from zoo.errors import SpecError
from zoo.modules.gabor import gabor_filter
from zoo_look.diagnosis import frequencies
from zoo_look.first_layer import FirstLayer, Fit, as_pictures, find_first_layer, fit, patterns

# ---- The nearest Gabor filter ----

FILTERS = [
    {"wavelength": 6.0, "orientation": 0.0, "phase": 0.0, "sigma": 3.0, "gamma": 0.5},
    {"wavelength": 4.0, "orientation": 0.7, "phase": 0.9, "sigma": 2.5, "gamma": 0.8},
    {"wavelength": 9.5, "orientation": 2.3, "phase": -1.2, "sigma": 4.0, "gamma": 1.3},
    {"wavelength": 5.0, "orientation": math.pi / 2, "phase": math.pi / 2, "sigma": 2.0, "gamma": 1.0},
    {"wavelength": 5.0, "orientation": 3.12, "phase": 0.9, "sigma": 2.2, "gamma": 0.7},  # found from below 0
]


@pytest.fixture(scope="module")
def recovered() -> tuple[Fit, Tensor]:
    filters = torch.stack([3 * gabor_filter(**args, size=13) for args in FILTERS])
    shifted = torch.roll(filters[1], (1, -2), dims=(0, 1))[2:-2, 2:-2]
    return fit(torch.stack([*(one[2:-2, 2:-2] for one in filters), shifted])), filters[:, 2:-2, 2:-2]


def test_a_fit_recovers_the_filters_it_is_given(recovered: tuple[Fit, Tensor]) -> None:
    fitted, filters = recovered
    assert fitted.error.max() < 1e-3
    for index, args in enumerate(FILTERS):
        assert fitted.wavelength[index] == pytest.approx(args["wavelength"], rel=0.01)
        assert fitted.sigma[index] == pytest.approx(args["sigma"], rel=0.01)
        assert fitted.gamma[index] == pytest.approx(args["gamma"], rel=0.01)
        assert fitted.amplitude[index] == pytest.approx(3, rel=0.01)
        assert math.sin(fitted.orientation[index] - args["orientation"]) == pytest.approx(0, abs=0.01)
        # Half a turn further, the wave runs the other way.
        way = math.cos(fitted.orientation[index] - args["orientation"])
        assert math.cos(way * fitted.phase[index] - args["phase"]) == pytest.approx(1, abs=1e-3)
        assert (fitted.x[index].abs(), fitted.y[index].abs()) < (0.05, 0.05)
    torch.testing.assert_close(fitted.render(9, 9)[:-1], filters, atol=3e-3, rtol=0)


def test_a_fit_finds_a_filter_beside_the_middle(recovered: tuple[Fit, Tensor]) -> None:
    fitted, _ = recovered
    assert (fitted.x[-1], fitted.y[-1]) == (pytest.approx(-2, abs=0.02), pytest.approx(1, abs=0.02))
    assert fitted.wavelength[-1] == pytest.approx(4, rel=0.01)


def test_the_error_of_a_fit_is_what_its_rendering_leaves() -> None:
    filters = noise(4, 5, 7)
    fitted = fit(filters)
    left = (filters - fitted.render(5, 7)).flatten(1).norm(dim=1) / filters.flatten(1).norm(dim=1)
    torch.testing.assert_close(fitted.error, left.double(), atol=1e-6, rtol=0)
    assert (fitted.error > 0.2).all()  # noise is no Gabor filter
    torch.testing.assert_close(fit(1e-3 * filters).error, fitted.error, atol=1e-4, rtol=0)


def test_a_filter_of_zeros_is_fitted_by_nothing() -> None:
    fitted = fit(torch.zeros(1, 5, 5))
    assert (float(fitted.error), float(fitted.amplitude)) == (0.0, 0.0)
    for wrong in (torch.zeros(5, 5), torch.full((1, 3, 3), math.nan)):
        with pytest.raises(SpecError, match="expected finite N H W"):
            fit(wrong)


def test_a_pattern_is_the_nearest_filter_of_one_colour() -> None:
    gray = noise(5, 6, 6)
    color = torch.tensor([0.5, -1.5, 0.2])
    weight = gray.unsqueeze(1) * color.view(1, 3, 1, 1)
    pattern, share = patterns(weight)
    torch.testing.assert_close(share, torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(pattern, -gray.double() * float(color.norm()), atol=1e-5, rtol=0)
    half = torch.zeros(1, 2, 1, 2)
    half[0, 0, 0, 0] = half[0, 1, 0, 1] = 1.0
    assert patterns(half)[1].item() == pytest.approx(0.5)


@pytest.mark.slow
def test_fits_do_not_depend_on_what_is_fitted_with_them() -> None:
    filters = noise(40, 3, 3)
    together, alone = fit(filters).error, torch.cat([fit(one[None]).error for one in filters[30:34]])
    torch.testing.assert_close(together[30:34], alone, atol=1e-6, rtol=0)


# ---- The first layer of a network ----


class Modulated(nn.Conv2d):
    """Its filters are not its parameters: as they convolve, they are twice as large."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, 2 * self.weight, None, self.stride)


def resnet() -> nn.Module:
    return zoo.create("resnet20.c10")


def test_the_first_layer_is_what_convolves_first() -> None:
    network = resnet()
    layer = find_first_layer(network)
    assert torch.equal(layer.weight, network.conv1.weight.detach())
    assert layer.stride == (1, 1)
    network.conv1 = Modulated(3, 16, 3, 2)
    changed = find_first_layer(network)
    assert torch.equal(changed.weight, 2 * network.conv1.weight.detach())
    assert changed.stride == (2, 2)


def test_a_network_without_a_convolution_is_refused() -> None:
    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    network = Flat()
    network.zoo_info = zoo.create("resnet20").zoo_info
    with pytest.raises(SpecError, match="no convolution"):
        find_first_layer(network)


@pytest.mark.slow
def test_learned_filters_resemble_gabor_filters_more_than_noise_does() -> None:
    found = look.filters("alexnet_small.c10")
    assert found.weight.shape == (48, 3, 5, 5)
    assert found.nearest.error.median() < 0.8 * found.noise.median()
    assert int(found.orientations().sum()) == 48


def test_upright_stripes_have_the_first_of_the_orientations() -> None:
    angles = [0.0, math.pi / 2, math.pi / 4, math.pi - 0.05]
    weight = torch.stack([gabor_filter(5.0, angle, size=11) for angle in angles])[:, None]
    found = look.first_layer.Filters("", weight, weight[:, 0], torch.ones(4), fit(weight[:, 0]), torch.ones(4), "each")
    assert found.orientations(4).tolist() == [2, 1, 1, 0]


def test_pictures_have_zero_in_the_middle_and_the_largest_at_an_end() -> None:
    weight = torch.tensor([[-2.0, 1.0], [0.0, 0.5]]).view(1, 1, 2, 2).repeat(2, 3, 1, 1)
    weight[1] *= 0.1
    each, shared = as_pictures(weight), as_pictures(weight, "shared")
    assert torch.equal(each[0], each[1])
    assert each[0, 0].tolist() == [[0.0, 0.75], [0.5, 0.625]]
    torch.testing.assert_close(shared[1, 0], torch.tensor([[0.45, 0.525], [0.5, 0.5125]]))
    assert as_pictures(noise(4, 7, 3, 3)).shape == (4, 1, 3, 3)


# ---- Frequencies ----


@pytest.mark.parametrize(("cycles", "band"), [(1 / 16, 0), (3 / 16, 1), (7 / 16, 2)])
def test_a_wave_has_its_energy_in_its_band(cycles: float, band: int) -> None:
    wave = torch.cos(2 * math.pi * cycles * torch.arange(64.0)).expand(1, 2, 64, 64)
    energy, aliased = frequencies(FirstLayer(wave, (2, 2)))
    assert energy[0, band] == pytest.approx(1, abs=1e-6)
    assert float(aliased) == pytest.approx(float(cycles > 1 / 4), abs=1e-6)


def test_an_impulse_is_white() -> None:
    impulse = torch.zeros(1, 1, 5, 5)
    impulse[0, 0, 2, 2] = 1
    energy, aliased = frequencies(FirstLayer(impulse, (4, 4)))
    torch.testing.assert_close(energy[0], torch.tensor([1 / 16, 3 / 16, 12 / 16]).double(), atol=0.04, rtol=0)
    assert float(aliased) == pytest.approx(15 / 16, abs=0.03)  # stride 4 keeps a quarter of either axis
    assert float(frequencies(FirstLayer(impulse, (1, 1)))[1]) == 0


def test_a_filter_that_learnt_nothing_is_dead() -> None:
    network = resnet()
    with torch.no_grad():
        before = look.diagnose(network)
        learnt = int(before.norms.argmax())
        network.conv1.weight[learnt] = 0
    after = look.diagnose(network)
    assert (bool(before.dead[learnt]), bool(after.dead[learnt])) == (False, True)
    assert after.facts()["dead"] == before.facts()["dead"] + 1
    assert after.facts()["low"] + after.facts()["middle"] + after.facts()["high"] == pytest.approx(1)


# ---- From the command line ----


@pytest.mark.slow
def test_kernels_that_any_gabor_filter_fits_are_not_fitted(tmp_path: Path) -> None:
    """Eight parameters to nine pixels: real Gabor filters are fitted no better than others."""
    file = tmp_path / "f.svg"
    done = printed("look", "filters", "resnet20.c10", "-o", file)
    assert "16 of 3 x 3 x 3" in done
    assert "median" not in done
    assert file.read_text(encoding="utf-8").count("<image") == 16
    result = look.filters("resnet20.c10")
    assert result.nearest is None
    assert "fits" not in result.facts()
    with pytest.raises(SpecError, match="3x3"):
        result.orientations()


@pytest.mark.slow
def test_a_result_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    found = look.filters("resnet20.c10")
    for name in ("a.svg", "a.png", "a.pdf"):
        first = found.save(tmp_path / name).read_bytes()
        assert found.save(tmp_path / name).read_bytes() == first, name
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_an_untrained_network_is_diagnosed_from_the_command_line() -> None:
    """Its filters are noise: each band has the energy that its area has."""
    answer = told("look", "diagnose", "alexnet_small", "--untrained")
    shares = [answer["low"], answer["middle"], answer["high"]]
    assert shares == pytest.approx([1 / 16, 3 / 16, 12 / 16], abs=0.04)
    assert told("look", "diagnose", "alexnet_small", "--untrained") == answer
    for words in (["alexnet_small.c10"], ["alexnet_small", "--weights", __file__]):
        refused = ask_warm("look", "diagnose", *words, "--untrained")
        assert refused.exit_code == 2
        assert "expected the name of a model, without weights" in refused.output


def test_another_kind_of_file_is_refused_and_an_unknown_name_suggests(tmp_path: Path) -> None:
    wrong = ask_warm("look", "diagnose", "resnet20.c10", "-o", tmp_path / "f.bmp")
    assert wrong.exit_code == 1
    assert "or .safetensors" in wrong.output
    near = ask_warm("look", "filters", "resnet20.c11")
    assert near.exit_code == 2
    assert "Did you mean" in near.output
