"""Attacks stay within their bounds, do what peers and closed forms say, and leave the network as it was."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from support.command import ask_warm, printed, told
from torch import Tensor, nn

import zoo
import zoo_attack as attack
from zoo.data import ZCA, ImageSet, load
from zoo.data.whitening import attach
from zoo.errors import AttackError, DataError, SpecError, WeightsError
from zoo.spec import Preprocess
from zoo_attack import figure, robustness
from zoo_attack.cli import images as command
from zoo_attack.method import METHODS, Method, read_epsilon

DIGITS = "resnet20.digits"
OWN = ("fgsm", "pgd", "pgd_l2", "random_sign")
"""The methods that need no other distribution, and no minutes."""


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    pytest.importorskip("sklearn", reason="needs zoo-vision[data]")
    return load("digits", "test")


@pytest.fixture(scope="module")
def cifar10() -> ImageSet:
    if not os.environ.get("ZOO_DATA"):
        pytest.skip("needs CIFAR-10: set ZOO_DATA")
    return load("cifar10", "test")


def pixels_of(model: nn.Module, data: ImageSet, count: int) -> tuple[Tensor, Tensor]:
    chosen = robustness.thin(data, count)
    return attack.PixelTransform(zoo.preprocess(model).preprocess).batch(chosen.pixels), chosen.labels


def linear(weight: Tensor) -> attack.PixelModel:
    """Logits (w x, -w x) of images of the shape of ``weight``, C H W, as they are."""
    layer = nn.Linear(weight.numel(), 2, bias=False)
    layer.weight.data = torch.stack([weight.flatten(), -weight.flatten()])
    return attack.PixelModel(nn.Sequential(nn.Flatten(), layer), [0.0], [1.0])


# ---- What comes of it, against closed forms and peers ----


def test_an_attack_on_a_linear_network_lowers_its_margin_by_epsilon_times_the_dual_norm() -> None:
    """Goodfellow et al. 2014, section 5: the worst case of logistic regression is known."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1, 5, 5, generator=generator)
    images = 0.4 + 0.2 * torch.rand(3, 1, 5, 5, generator=generator)
    model, labels = linear(weight), torch.zeros(3, dtype=torch.int64)
    margin = model(images)[:, 0]
    for epsilon in (0.01, 0.1):
        lowest = margin - epsilon * weight.abs().sum()
        for changed in (attack.fgsm(model, images, labels, epsilon), attack.pgd(model, images, labels, epsilon)):
            torch.testing.assert_close(model(changed)[:, 0], lowest)
        changed = attack.pgd(model, images, labels, epsilon, norm="l2", random_start=False)
        torch.testing.assert_close(model(changed)[:, 0], margin - epsilon * weight.norm())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("name", "data"), [(DIGITS, "digits"), pytest.param("alexnet_small.c10", "cifar10", marks=pytest.mark.slow)]
)
def test_attacks_equal_those_of_foolbox(name: str, data: str, norm: str, request: pytest.FixtureRequest) -> None:
    """In float64, where no rounding turns the sign of a small gradient."""
    foolbox = pytest.importorskip("foolbox", reason="needs zoo-vision[test]")
    model = zoo.create(name).double().eval()
    preprocess = zoo.preprocess(model).preprocess
    images, labels = pixels_of(model, request.getfixturevalue(data), 4)
    images = images.double()
    mean_and_std = {"mean": list(preprocess.mean), "std": list(preprocess.std), "axis": -3}
    peer = foolbox.PyTorchModel(model, bounds=(0, 1), preprocessing=mean_and_std, device="cpu")
    epsilon = 0.05 if norm == "linf" else 0.7
    kinds = foolbox.attacks
    single = kinds.LinfFastGradientAttack if norm == "linf" else kinds.L2FastGradientAttack
    several = kinds.LinfPGD if norm == "linf" else kinds.L2PGD
    options: dict[str, Any] = {"norm": norm, "random_start": False}

    expected, _, _ = single(random_start=False)(peer, images, labels, epsilons=epsilon)
    changed = attack.pgd(model, images, labels, epsilon, steps=1, step_size=epsilon, **options)
    torch.testing.assert_close(changed, expected, atol=1e-12, rtol=0)
    if norm == "linf":
        torch.testing.assert_close(attack.fgsm(model, images, labels, epsilon), expected, atol=1e-12, rtol=0)

    expected, _, _ = several(abs_stepsize=epsilon / 3, steps=6, random_start=False)(
        peer, images, labels, epsilons=epsilon
    )
    changed = attack.pgd(model, images, labels, epsilon, steps=6, step_size=epsilon / 3, **options)
    torch.testing.assert_close(changed, expected, atol=1e-12, rtol=0)
    assert not torch.equal(changed, images)


def test_a_target_is_reached(digits: ImageSet) -> None:
    model = zoo.create(DIGITS)
    images, labels = pixels_of(model, digits, 20)
    target = (labels + 1) % 10
    changed = attack.pgd(model, images, target, 0.4, is_targeted=True)
    answers = attack.PixelModel.of(model).eval()(changed).argmax(1)
    assert (answers == target).float().mean() > 0.8
    assert (attack.fgsm(model, images, target, 0.1, is_targeted=True) != images).any()


# ---- Bounds ----


@pytest.mark.first(14)
@pytest.mark.parametrize("epsilon", [0.0, 1e-7, 1 / 255, 8 / 255, 0.3, 2.0])
@pytest.mark.parametrize("kind", OWN)
def test_bounds_hold_exactly(digits: ImageSet, kind: Any, epsilon: float) -> None:
    """Seen in float64: rounding to float32 must not put a pixel outside."""
    model = zoo.create(DIGITS)
    images, labels = pixels_of(model, digits, 30)
    images = (images + 1e-3 * torch.rand(images.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    changed = attack.gradient.perturb(model, images, labels, epsilon, Method(kind, steps=4))
    assert changed.dtype == images.dtype
    assert 0 <= changed.min() <= changed.max() <= 1
    change = changed.double() - images.double()
    sizes = change.flatten(1).norm(dim=1) if kind == "pgd_l2" else change.abs().flatten(1).amax(1)
    assert (sizes <= epsilon).all()
    assert torch.equal(changed, images) == (epsilon == 0)
    if kind in ("fgsm", "random_sign") and epsilon < 1:  # nothing is given away
        assert (sizes > epsilon - 1e-7).all()


def test_random_signs_are_signs_and_as_often_up_as_down() -> None:
    images = torch.full((40, 1, 16, 16), 0.5)
    change = attack.random_sign(images, 0.125, seed=3) - images
    assert set(change.unique().tolist()) == {-0.125, 0.125}
    assert abs(float(change.sign().mean())) < 4 / math.sqrt(change.numel())
    assert torch.equal(attack.random_sign(images, 0.125, seed=3) - images, change)
    assert not torch.equal(attack.random_sign(images, 0.125, seed=4) - images, change)


def test_random_starts_fill_the_ball() -> None:
    """A flat loss leaves each image where it started: uniform in the box, and of radii r ^ (1 / d) in the ball."""
    flat = linear(torch.full((1, 4, 4), 1e4))  # so sure that the gradient of its loss underflows
    images, labels = torch.full((2000, 1, 4, 4), 0.5), torch.zeros(2000, dtype=torch.int64)
    box = (attack.pgd(flat, images, labels, 0.25) - images) / 0.25
    assert abs(float(box.mean())) < 0.02
    assert float(box.std()) == pytest.approx(1 / math.sqrt(3), rel=0.02)
    radii = (attack.pgd(flat, images, labels, 0.25, norm="l2") - images).flatten(1).norm(dim=1) / 0.25
    assert float(radii.mean()) == pytest.approx(16 / 17, rel=0.01)
    assert float(radii.max()) <= 1


def test_chance_follows_from_the_seed_whatever_the_batch_size(digits: ImageSet) -> None:
    model = zoo.create(DIGITS).double()
    images, labels = (part[:7] for part in pixels_of(model, digits, 20))
    for norm in ("linf", "l2"):
        options: dict[str, Any] = {"norm": norm, "steps": 2}
        whole = attack.pgd(model, images.double(), labels, 0.1, **options)
        parts = attack.pgd(model, images.double(), labels, 0.1, batch_size=3, **options)
        torch.testing.assert_close(parts, whole, atol=1e-12, rtol=0)
        assert not torch.equal(attack.pgd(model, images.double(), labels, 0.1, seed=1, **options), whole)


# ---- The network ----


def state_of(model: nn.Module) -> list[Any]:
    """Returns all that an attack might change."""
    parameters = [(parameter.requires_grad, None if parameter.grad is None else parameter.grad.clone())
                  for parameter in model.parameters()]  # fmt: skip
    hooks = [(part.training, [*part._forward_hooks], [*part._backward_hooks]) for part in model.modules()]
    return [parameters, hooks, [key for key, _ in model.named_modules()], sorted(vars(model))]


@pytest.mark.parametrize("ends", ["well", "with an error", "with Ctrl-C"])
def test_the_network_is_left_as_it_was(digits: ImageSet, ends: str) -> None:
    model = zoo.create(DIGITS).train()
    images, labels = pixels_of(model, digits, 6)
    model(zoo.preprocess(model).batch(digits.pixels[:4])).sum().backward()
    first, *_ = model.parameters()
    first.requires_grad_(False)
    model.get_submodule("layer1").eval()
    before, tensors = state_of(model), {key: value.clone() for key, value in model.state_dict().items()}
    raised: dict[str, Any] = {"well": None, "with an error": ZeroDivisionError, "with Ctrl-C": KeyboardInterrupt}

    def tell(done: int, total: int) -> None:
        if raised[ends] and done == 4:
            raise raised[ends]

    def run() -> None:
        attack.pgd(model, images, labels, 0.1, steps=2, batch_size=2, progress=tell)

    if raised[ends]:
        with pytest.raises(raised[ends]):
            run()
    else:
        run()
    after = state_of(model)
    assert str(after) == str(before)
    assert [key for key, value in model.state_dict().items() if not torch.equal(value, tensors[key])] == []


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_mode_of_gradients_does_not_matter(digits: ImageSet, mode: Any) -> None:
    model = zoo.create(DIGITS)
    images, labels = pixels_of(model, digits, 4)
    with mode():
        changed = attack.fgsm(model, images.clone(), labels.clone(), 0.1)
    assert not changed.requires_grad
    assert torch.equal(changed, attack.fgsm(model, images, labels, 0.1))


def test_pixels_give_the_logits_that_evaluation_sees(digits: ImageSet) -> None:
    model = zoo.create(DIGITS).eval()
    images, _ = pixels_of(model, digits, 20)
    seen = robustness.thin(digits, 20).pixels
    with torch.no_grad():
        assert torch.equal(attack.PixelModel.of(model)(images), model(zoo.preprocess(model).batch(seen)))


def test_whitening_is_part_of_what_is_attacked() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(9, 2)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.fc(x.flatten(1))
            return logits

    torch.manual_seed(0)
    net, images = Net(), torch.rand(50, 1, 3, 3)
    zca = ZCA.fit(images)
    attach(net, zca)
    labels = torch.zeros(50, dtype=torch.int64)
    changed = attack.fgsm(attack.PixelModel(net, [0.0], [1.0]), images, labels, 0.01)
    inside = ((images > 0.01) & (images < 0.99)).all(dim=3).all(dim=2).flatten()
    direction = -(zca.matrix @ (net.fc.weight[0] - net.fc.weight[1])).sign().view(1, 3, 3)
    assert inside.any()
    torch.testing.assert_close((changed - images)[inside], 0.01 * direction.expand_as(images)[inside])


class Rounding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3].round()


class Detached(Rounding):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach())


class Counting(Rounding):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([(x.flatten(1) > bound).sum(1).float() for bound in (0.2, 0.5, 0.8)], dim=1)


@pytest.mark.parametrize("kind", [Rounding, Detached, Counting])
def test_a_network_without_gradients_is_said_to_have_none(kind: type[nn.Module]) -> None:
    model = attack.PixelModel(kind(), [0.0], [1.0])
    images, labels = torch.rand(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)
    for run in (attack.fgsm, attack.pgd):
        with pytest.raises(AttackError, match=r"(?s)no gradient with respect to its input.*applicable"):
            run(model, images, labels, 0.1)
    assert attack.applicable(model, Preprocess(input_size=(1, 4, 4), mean=(0,), std=(1,))) == ("random_sign",)
    assert not torch.equal(attack.random_sign(images, 0.1), images)


def test_all_methods_apply_to_a_differentiable_network() -> None:
    model = zoo.create(DIGITS)
    assert attack.applicable(model) == METHODS
    assert model.training


def test_gradients_that_are_not_numbers_are_refused() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.flatten(1)[:, :2] * 0).sqrt()

    images = torch.rand(2, 1, 2, 2)
    with pytest.raises(AttackError, match="not finite"):
        attack.fgsm(attack.PixelModel(Root(), [0.0], [1.0]), images, torch.zeros(2, dtype=torch.int64), 0.1)


GOOD = torch.full((2, 1, 5, 5), 0.5)


@pytest.mark.parametrize(
    ("images", "labels", "epsilon", "error", "message"),
    [
        (GOOD * 255, [0, 0], 0.1, DataError, r"127.5, expected \[0, 1\]"),
        (GOOD * float("nan"), [0, 0], 0.1, DataError, "expected"),
        (GOOD[0], [0], 0.1, DataError, "expected float images B C H W"),
        ((GOOD * 255).byte(), [0, 0], 0.1, DataError, "expected float images"),
        (GOOD, [0, 2], 0.1, DataError, "Label 2 for a network of 2 classes"),
        (GOOD, [0, -1], 0.1, DataError, "Label -1"),
        (GOOD, [0], 0.1, DataError, "one per image"),
        (GOOD, [0, 0], -0.1, SpecError, "epsilon = -0.1"),
        (GOOD, [0, 0], float("nan"), SpecError, "epsilon = nan"),
    ],
)
def test_what_cannot_be_attacked_is_refused(
    images: Tensor, labels: list[int], epsilon: float, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        attack.fgsm(linear(torch.ones(1, 5, 5)), images, torch.tensor(labels), epsilon)


def test_another_norm_is_refused() -> None:
    with pytest.raises(SpecError, match="'l1' is not one of linf, l2"):
        attack.pgd(linear(torch.ones(1, 5, 5)), GOOD, torch.tensor([0, 0]), 0.1, norm="l1")


def test_a_network_of_which_nothing_is_known_is_refused() -> None:
    with pytest.raises(WeightsError, match="its input is unknown"):
        attack.fgsm(nn.Flatten(), GOOD, torch.zeros(2, dtype=torch.int64), 0.1)


# ---- Robust accuracy ----


def accuracies(curve: robustness.Curve) -> list[int]:
    return [point.correct for point in curve.points]


def expect_order(model: nn.Module, data: ImageSet, epsilons: list[float], large: float, limit: int, steps: int) -> None:
    """Checks that clean >= random sign > FGSM >= PGD, falling with epsilon, to nothing: else gradients are masked."""
    curves = {
        kind: robustness.curve(model, data, Method(kind, steps=steps), [0, *epsilons], limit=limit, batch_size=64)
        for kind in ("random_sign", "fgsm", "pgd")
    }
    control, fgsm, pgd = (accuracies(curves[kind]) for kind in ("random_sign", "fgsm", "pgd"))
    assert control[0] == fgsm[0] == pgd[0] == curves["pgd"].clean
    for random, single, several in zip(control[1:], fgsm[1:], pgd[1:], strict=True):
        assert curves["pgd"].clean >= random > single >= several
    assert pgd == sorted(pgd, reverse=True)
    assert fgsm == sorted(fgsm, reverse=True)
    strong = Method("pgd", steps=max(steps, 20))
    assert accuracies(robustness.curve(model, data, strong, [large], limit=limit)) == [0]


def test_digits_fall_to_attacks_in_the_expected_order(digits: ImageSet) -> None:
    expect_order(zoo.create(DIGITS), digits, [0.1, 0.2], 0.5, limit=60, steps=8)


@pytest.mark.slow  # seconds a network; the digits' takes a part of one
@pytest.mark.parametrize("name", ["resnet20.c10", "alexnet_small.c10"])
def test_trained_networks_fall_to_attacks_in_the_expected_order(cifar10: ImageSet, name: str) -> None:
    expect_order(zoo.create(name), cifar10, [1 / 255, 3 / 255], 32 / 255, limit=24, steps=4)


@pytest.mark.may_skip  # its library takes a GPU's build of torch along
def test_autoattack_is_stronger_than_pgd_and_leaves_the_network_and_chance_alone(digits: ImageSet) -> None:
    pytest.importorskip("pyautoattack", reason="needs zoo-vision[autoattack]")
    model, data = zoo.create(DIGITS).train(), robustness.thin(digits, 24)
    torch.manual_seed(5)
    expected, before = torch.rand(3), str(state_of(model))
    torch.manual_seed(5)
    strong, pgd = (accuracies(attack.curve(model, data, kind, [0, 0.15])) for kind in ("autoattack", "pgd"))
    assert torch.equal(torch.rand(3), expected)
    assert str(state_of(model)) == before
    assert strong[0] == pgd[0] > pgd[1] >= strong[1]
    images, labels = pixels_of(model, digits, 4)
    with pytest.raises(SpecError, match="does not support a target"):
        attack.gradient.perturb(model, images, labels, 0.1, Method("autoattack"), is_targeted=True)


@pytest.mark.slow
def test_a_curve_at_epsilon_0_is_what_evaluation_counts(digits: ImageSet) -> None:
    model = zoo.create(DIGITS).train()
    curve = attack.curve(model, digits, "fgsm", [0.3, 0, 0.1])
    report = zoo.evaluate(DIGITS, digits)
    first = curve.points[0]
    assert [point.epsilon for point in curve.points] == [0, 0.1, 0.3]
    assert (first.correct, first.interval, curve.fingerprint) == (report.correct, report.interval, report.fingerprint)
    assert (curve.n, curve.model, curve.weights) == (360, "resnet20", DIGITS)
    assert model.training
    again = attack.curve(DIGITS, "digits", "fgsm", [0, 0.1, 0.3])
    assert again.points == curve.points


def test_accuracy_under_attack_is_a_share_of_all_images_not_of_those_that_were_right(digits: ImageSet) -> None:
    """Half of the labels are wrong, so half of the images are: at epsilon 0 the curve stands at 50%."""
    half = digits.subset(range(100), "half")
    labels = half.labels.clone()
    labels[::2] = (labels[::2] + 1) % 10
    wrong = ImageSet(half.name, half.split, half.classes, labels, pixels=half.pixels)
    curve = attack.curve(DIGITS, wrong, "fgsm", [0, 0.5])
    assert (curve.n, curve.clean, curve.points[0].correct) == (100, 50, 50)
    low, high = curve.points[0].interval
    assert low < 50 < high
    assert high - low < 20, "the interval of 50 of 100, not of 50 of 50"
    assert curve.points[1].correct < 50


def test_images_are_taken_at_equal_distances_so_that_all_classes_are_there(digits: ImageSet) -> None:
    order = digits.labels.argsort()
    sorted_by_class = digits.subset(order, "test")
    assert robustness.thin(sorted_by_class, 20).labels.unique().tolist() == list(range(10))
    assert robustness.thin(digits, None) is digits
    assert robustness.thin(digits, 1000) is digits
    with pytest.raises(DataError, match="limit = 0"):
        robustness.thin(digits, 0)


def test_curves_are_kept_in_a_file(digits: ImageSet, tmp_path: Path) -> None:
    curves = [robustness.curve(DIGITS, digits, kind, [0, 0.1], limit=20) for kind in OWN]
    robustness.write(curves, tmp_path / "curves.json")
    assert robustness.read(tmp_path / "curves.json") == curves
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match="is not a curves file"):
        robustness.read(tmp_path / "other.json")


def test_the_same_curves_give_the_same_bytes_of_svg(digits: ImageSet, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs zoo-vision[look]")
    curves = [robustness.curve(DIGITS, digits, "fgsm", [0, 0.1], limit=20)]
    for file in (tmp_path / "a.svg", tmp_path / "b.svg", tmp_path / "a.webp"):
        figure.draw_curves(curves, file)
    assert (tmp_path / "a.webp").read_bytes()[8:12] == b"WEBP"
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    with pytest.raises(SpecError, match=r"\.svg, \.png, \.webp, \.pdf"):
        figure.draw_curves(curves, tmp_path / "a.doc")


@pytest.mark.parametrize(("text", "value"), [("8/255", 8 / 255), ("0.03", 0.03), ("0", 0.0), ("1e-2", 0.01)])
def test_epsilon_is_read_as_a_number_or_a_fraction(text: str, value: float) -> None:
    assert read_epsilon(text) == value


@pytest.mark.parametrize("text", ["", "x", "-1/255", "1/0", "nan", "inf", "1/2/3"])
def test_anything_else_is_no_epsilon(text: str) -> None:
    with pytest.raises(SpecError, match="epsilon"):
        read_epsilon(text)


# ---- The command line ----


def test_the_command_line_knows_all_methods() -> None:
    assert command.METHODS == METHODS


def test_a_curve_from_the_command_line(digits: ImageSet, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs zoo-vision[look]")
    words = ["attack", "curve", DIGITS, "--data", "digits", "--attack", "fgsm", "--attack", "random_sign"]
    words += ["--epsilons", "0,0.1", "--limit", "20", "-o", str(tmp_path / "c.svg")]
    curves = told(*words)
    assert [(row["method"]["name"], row["n"], len(row["points"])) for row in curves] == [
        ("fgsm", 20, 2), ("random_sign", 20, 2),
    ]  # fmt: skip
    assert json.loads((tmp_path / "c.json").read_text()) == curves
    assert curves[0]["fingerprint"][:19] in (tmp_path / "c.svg").read_text() or (tmp_path / "c.svg").stat().st_size
    result = ask_warm(*words)
    assert f"{DIGITS}" in result.stdout
    assert "95% interval" in result.stdout


def test_norms_are_not_mixed_in_one_curve() -> None:
    words = ["attack", "curve", DIGITS, "--data", "digits", "--attack", "pgd_l2", "--attack", "pgd"]
    result = ask_warm(*words)
    assert result.exit_code == 2
    assert "run it on its own" in result.stderr


def test_one_image_from_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs zoo-vision[look]")
    image = str(Path(__file__).parents[3] / "examples" / "digit.png")
    words = ["attack", "image", DIGITS, image, "--epsilon", "0.2", "-o", str(tmp_path / "t.png")]
    outcome = told(*words)
    assert outcome["before"]["index"] == 3
    assert outcome["after"]["index"] != 3
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    result = printed("attack", "image", DIGITS, image, "--attack", "pgd", "--target", "8", "--epsilon", "0.4")
    assert "after" in result
    assert "8" in result


def test_a_class_that_there_is_not_is_refused() -> None:
    image = str(Path(__file__).parents[3] / "examples" / "digit.png")
    assert ask_warm("attack", "image", DIGITS, image, "--target", "11").exit_code == 1
    assert ask_warm("attack", "image", DIGITS, image, "--target", "cat").exit_code == 2
