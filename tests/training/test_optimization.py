"""Every update's learning rate, and what the optimiser makes of it, against closed forms."""

import math
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from support.small_training import images, network, rows, run
from torch import Tensor, nn

import zoo
from zoo import loading, registry
from zoo.errors import MissingExtraError
from zoo.training import Recipe, optimization
from zoo.training.optimization import EMA, LookaheadWeights
from zoo.training.recipe import Lookahead

pytest.importorskip("timm", reason="needs zoo-vision[train]")

SCALES = (1.0, 64.0, 0.25)


def rates(recipe: Recipe, steps: int) -> list[list[float]]:
    """Returns what the optimiser has at each update: the rate of each group, of which the scales are SCALES."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr_scale": scale} for scale in SCALES]
    optimizer = optimization.create_optimizer(nn.Module(), recipe, groups)
    schedule = optimization.Schedule(optimizer, recipe, steps)
    found = []
    for update in range(recipe.epochs * steps):
        returned = schedule.set(update)
        found.append([float(group["lr"]) for group in optimizer.param_groups])
        assert returned == found[-1][0]
    return found


def share_left(recipe: Recipe, steps: int, update: int) -> float:
    """Returns 1 where warm-up ends, 0 where training does."""
    warmup = recipe.warmup_epochs * steps
    return 1 - (update - warmup) / (recipe.epochs * steps - warmup)


def cosine(recipe: Recipe, steps: int, update: int) -> float:
    angle = math.pi * (1 - share_left(recipe, steps, update))
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + math.cos(angle)) / 2


def linear(recipe: Recipe, steps: int, update: int) -> float:
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * share_left(recipe, steps, update)


def step(recipe: Recipe, steps: int, update: int) -> float:
    falls = Fraction(update) // (Fraction(str(recipe.decay_epochs[0])) * steps)
    return recipe.lr * recipe.decay_rate**falls


def multistep(recipe: Recipe, steps: int, update: int) -> float:
    falls = sum(update >= Fraction(str(epoch)) * steps - Fraction(1, 2) for epoch in recipe.decay_epochs)
    return recipe.lr * recipe.decay_rate**falls


def constant(recipe: Recipe, steps: int, update: int) -> float:
    return recipe.lr


Form = Callable[[Recipe, int, int], float]
FORMS: dict[str, Form] = {form.__name__: form for form in (constant, cosine, linear, step, multistep)}


def expected(recipe: Recipe, steps: int) -> list[list[float]]:
    after, found = FORMS[recipe.schedule], []
    for update in range(recipe.epochs * steps):
        warmup = recipe.warmup_epochs * steps
        if update < warmup:
            rate = recipe.warmup_lr + (recipe.lr - recipe.warmup_lr) * update / warmup
        else:
            rate = after(recipe, steps, update)
        found.append([rate * scale for scale in SCALES])
    return found


def assert_follows(recipe: Recipe, steps: int) -> None:
    for found, wanted in zip(rates(recipe, steps), expected(recipe, steps), strict=True):
        assert found == pytest.approx(wanted, rel=1e-12, abs=1e-15)


@st.composite
def recipes(draw: st.DrawFn, schedule: str) -> tuple[Recipe, int]:
    """Returns a recipe and the steps of an epoch, of quarters of epochs and no milestone halfway between two
    updates.
    """
    epochs, steps = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    quarter = st.integers(0, 4 * epochs).map(lambda number: number / 4)
    decay: tuple[float, ...] = ()
    if schedule == "step":
        decay = (draw(quarter.filter(bool)),)
    if schedule == "multistep":
        clear = quarter.filter(lambda epoch: epoch * steps % 1 != 0.5)
        decay = tuple(sorted(draw(st.lists(clear, min_size=1, max_size=3))))
    recipe = Recipe(
        epochs=epochs,
        schedule=schedule,  # type: ignore[arg-type]  # one of FORMS
        lr=draw(st.sampled_from([0.1, 0.4, 3e-4])),
        warmup_epochs=draw(quarter.filter(lambda epoch: epoch < epochs)),
        warmup_lr=draw(st.sampled_from([0.0, 0.01])),
        min_lr=draw(st.sampled_from([0.0, 1e-5])),
        decay_epochs=decay,
        decay_rate=draw(st.sampled_from([0.1, 0.5])),
    )
    return recipe, steps


@pytest.mark.parametrize("schedule", FORMS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_update_of_every_group_has_the_rate_of_the_closed_form(schedule: str, data: st.DataObject) -> None:
    assert_follows(*data.draw(recipes(schedule)))


@pytest.mark.parametrize("interval", [0.7, 1.1, 2.2])
@pytest.mark.parametrize("schedule", ["step", "multistep"])
def test_a_rate_falls_on_its_update_where_floats_miss_the_product(schedule: str, interval: float) -> None:
    assert 1.1 * 50 > 55  # what there is to guard against
    decay = (interval,) if schedule == "step" else (interval, 2 * interval)
    assert_follows(Recipe(epochs=8, schedule=schedule, decay_epochs=decay), 50)  # type: ignore[arg-type]


@pytest.mark.parametrize("schedule", FORMS)
def test_one_epoch_of_one_step_is_taken_at_the_full_rate(schedule: str) -> None:
    recipe = Recipe(epochs=1, schedule=schedule, lr=0.3, decay_epochs=(1,))  # type: ignore[arg-type]
    assert rates(recipe, 1) == [pytest.approx([0.3 * scale for scale in SCALES])]


@pytest.mark.parametrize("schedule", FORMS)
def test_rates_do_not_depend_on_the_updates_before(schedule: str) -> None:
    recipe = Recipe(epochs=4, schedule=schedule, warmup_epochs=1, decay_epochs=(2,))  # type: ignore[arg-type]
    optimizer = optimization.create_optimizer(nn.Linear(1, 1), recipe)
    schedule_again = optimization.Schedule(optimizer, recipe, 5)
    assert [schedule_again.set(update) for update in reversed(range(20))][::-1] == [row[0] for row in rates(recipe, 5)]


def test_training_takes_each_update_at_the_rate_of_the_schedule(tmp_path: Path) -> None:
    """Without a gradient but weight decay's, a weight is what the rates have made of it."""
    recipe = Recipe(
        epochs=3, batch_size=24, lr=0.5, momentum=0.0, weight_decay=0.1, warmup_epochs=1, warmup_lr=0.1,
        schedule="linear", precision="float32",
    )  # fmt: skip
    model = network(has_norm=False)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    got = run(tmp_path, recipe, model=model, criterion=lambda logits, labels: 0 * logits.sum())
    left = math.prod(1 - 0.1 * rate[0] for rate in expected(recipe, 3))
    for key, value in start.items():
        torch.testing.assert_close(got[key], left * value)
    assert [row["lr"] for row in rows(tmp_path)] == [
        pytest.approx(expected(recipe, 3)[last][0], rel=1e-12) for last in (2, 5, 8)
    ]


# ---- optimisers ---------------------------------------------------------------------------------------------------


def sgd(values: Tensor, gradients: list[Tensor], rate: float, decay: float, momentum: float, nesterov: bool) -> Tensor:
    """Steps as Sutskever et al. 2013, as Torch writes it: v <- m v + g, w <- w - lr (g + m v), or - lr v without
    Nesterov."""
    velocity = torch.zeros_like(values)
    for gradient in gradients:
        gradient = gradient + decay * values
        velocity = momentum * velocity + gradient
        values = values - rate * (gradient + momentum * velocity if nesterov else velocity)
    return values


def adam(values: Tensor, gradients: list[Tensor], rate: float, decay: float, *, is_decoupled: bool) -> Tensor:
    """Steps as Kingma and Ba 2015, algorithm 1; with decoupled decay, Loshchilov and Hutter 2019, algorithm 2."""
    first, second = torch.zeros_like(values), torch.zeros_like(values)
    for number, gradient in enumerate(gradients, 1):
        if is_decoupled:
            values = values - rate * decay * values
        else:
            gradient = gradient + decay * values
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        values = values - rate * (first / (1 - 0.9**number)) / ((second / (1 - 0.999**number)).sqrt() + 1e-8)
    return values


@pytest.mark.parametrize(
    ("changes", "form"),
    [
        ({"momentum": 0.0}, lambda *given: sgd(*given, momentum=0.0, nesterov=False)),
        ({"nesterov": False}, lambda *given: sgd(*given, momentum=0.9, nesterov=False)),
        ({"nesterov": True}, lambda *given: sgd(*given, momentum=0.9, nesterov=True)),
        ({"optimizer": "adam"}, lambda *given: adam(*given, is_decoupled=False)),
        ({"optimizer": "adamw"}, lambda *given: adam(*given, is_decoupled=True)),
    ],
    ids=["sgd", "momentum", "nesterov", "adam", "adamw"],
)
def test_an_optimiser_does_what_its_paper_says(changes: dict[str, Any], form: Callable[..., Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    draw = lambda: torch.randn(3, 2, generator=generator, dtype=torch.float64)  # noqa: E731  # said thrice
    model, gradients = nn.Linear(2, 3, bias=False).double(), [draw() for _ in range(6)]
    recipe = Recipe(lr=0.05, weight_decay=0.01, **changes)
    wanted = form(model.weight.detach().clone(), gradients, 0.05, 0.01)
    optimizer = optimization.create_optimizer(model, recipe)
    for gradient in gradients:
        model.weight.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(model.weight.detach(), wanted, rtol=1e-12, atol=1e-13)


def test_momentum_of_a_parameter_starts_with_its_first_gradient_however_late() -> None:
    model, recipe = nn.Linear(2, 3).double(), Recipe(lr=0.05, weight_decay=0.01)
    late, gradients = model.bias, [torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) * step for step in (1, 2, 3)]
    wanted = sgd(late.detach().clone(), gradients, 0.05, 0.01, momentum=0.9, nesterov=True)
    optimizer = optimization.create_optimizer(model, structs.replace(recipe, decay_norm_and_bias=True))
    for gradient in (None, None, *gradients):  # as of a path that is dropped twice, then taken
        model.weight.grad, late.grad = torch.ones(3, 2).double(), gradient
        optimizer.step()
    torch.testing.assert_close(late.detach(), wanted, rtol=1e-12, atol=1e-13)


def of_timm(optimizer: torch.optim.Optimizer, recipe: Recipe, updates: int) -> Any:
    """Returns timm's scheduler of the recipe. It falls one update before a milestone, so half an update is added."""
    from timm.scheduler import create_scheduler_v2

    falling = {"num_epochs": recipe.epochs - recipe.warmup_epochs, "min_lr": recipe.min_lr, "warmup_prefix": True}
    forms = {
        "cosine": {"sched": "cosine", **falling},
        "linear": {"sched": "poly", **falling, "decay_rate": 1.0},
        "step": {"sched": "step", "decay_epochs": [*recipe.decay_epochs, 1][0] * (1 - 1e-12)},
        "multistep": {"sched": "multistep", "decay_milestones": [at + 0.5 / updates for at in recipe.decay_epochs]},
        "constant": {"sched": "step", "decay_epochs": 1, "decay_rate": 1.0},
    }
    arguments = {"num_epochs": recipe.epochs, "decay_rate": recipe.decay_rate, **forms[recipe.schedule]}
    arguments |= {"warmup_epochs": recipe.warmup_epochs, "warmup_lr": recipe.warmup_lr}
    return create_scheduler_v2(optimizer, **arguments, step_on_epochs=False, updates_per_epoch=updates)[0]


@pytest.mark.parametrize("schedule", FORMS)
def test_each_rate_is_timms_to_the_bit(schedule: str) -> None:
    for epochs, warmup, first, lowest, updates in product((3, 8), (0, 0.5, 2), (0.0, 0.01), (0.0, 1e-5), (1, 7, 50)):
        falls = {"step": (1.1,), "multistep": (0.5, 1.1, 2.3)}.get(schedule, ())
        recipe = Recipe(
            epochs=epochs, schedule=schedule, warmup_epochs=warmup, warmup_lr=first, min_lr=lowest, lr=0.3,  # type: ignore[arg-type]
            decay_epochs=falls, decay_rate=0.1,
        )  # fmt: skip
        ours, theirs = (optimization.create_optimizer(nn.Linear(2, 2), recipe) for _ in range(2))
        schedules = optimization.Schedule(ours, recipe, updates), of_timm(theirs, recipe, updates)
        for update in range(epochs * updates):
            schedules[0].set(update)
            schedules[1].step_update(update)
            assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"], (recipe, updates, update)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_an_optimiser_of_torch_is_the_one_that_timm_creates(name: str) -> None:
    from timm.optim import create_optimizer_v2

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 2))
    for decay, nesterov, momentum, small in product((0, 0.01), (True, False), (0, 0.9), (True, False)):
        recipe = Recipe(
            optimizer=name, weight_decay=decay, nesterov=nesterov, momentum=momentum, decay_norm_and_bias=small
        )
        plain = "momentum" if name == "sgd" and not (nesterov and momentum) else name
        ours = optimization.create_optimizer(model, recipe)
        theirs = create_optimizer_v2(
            model, plain, lr=recipe.lr, weight_decay=decay, momentum=momentum, fused=True, filter_bias_and_bn=not small
        )
        assert type(ours) is type(theirs)
        for group, wanted in zip(ours.param_groups, theirs.param_groups, strict=True):
            assert [*map(id, group.pop("params"))] == [*map(id, wanted.pop("params"))]
            assert group == wanted


def test_a_plain_recipe_needs_no_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "timm.optim", None)
    settings = {"epochs": 1, "optimizer": "adamw", "lr": 0.01}
    zoo.train("resnet8", "digits", settings=settings, output=tmp_path / "run", device="cpu")
    with pytest.raises(MissingExtraError, match="'lamb' needs timm"):
        optimization.create_optimizer(nn.Linear(2, 2), Recipe(optimizer="lamb"))


NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def smallest_of_each_build_hook() -> list[str]:
    models = sorted((listed.model for listed in registry.current().models()), key=lambda model: -model.params)
    return sorted({model.build: model.name for model in models}.values())


@pytest.mark.first(6)
@pytest.mark.parametrize("name", smallest_of_each_build_hook())
def test_weight_decay_spares_biases_and_norms_alone_and_only_where_asked_to(name: str) -> None:
    with torch.device("meta"):
        model, _ = loading.build(registry.current().find(name).model)
    learning = {key: tensor for key, tensor in model.named_parameters() if tensor.requires_grad}
    spared = {id(tensor) for module in model.modules() if isinstance(module, NORMS) for tensor in module.parameters()}
    spared |= {id(tensor) for key, tensor in learning.items() if key.endswith(("bias", ".b"))}
    assert len(spared & {id(tensor) for tensor in learning.values()}) < len(learning)
    for excludes in (True, False):
        recipe = Recipe(optimizer="lamb", weight_decay=0.3, decay_norm_and_bias=not excludes)
        groups = optimization.create_optimizer(model, recipe).param_groups
        got = {id(tensor): group["weight_decay"] for group in groups for tensor in group["params"]}
        assert sum(len(group["params"]) for group in groups) == len(got) == len(learning)
        for key, tensor in learning.items():
            assert got[id(tensor)] == (0.0 if excludes and id(tensor) in spared else 0.3), key


# ---- one update ---------------------------------------------------------------------------------------------------

ONE_UPDATE = Recipe(
    epochs=1, batch_size=72, lr=0.1, momentum=0.0, weight_decay=0.0, schedule="constant", precision="float32"
)


def gradients_of(loss: Callable[[Tensor], Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], float]:
    """Weights and gradients of ``loss`` of the logits of all images, in float64, and the loss."""
    model = network(has_norm=False).double()
    pixels = images().pixels
    assert pixels is not None
    value = loss(model((pixels.double() / 255 - 0.3) / 0.4))
    value.backward()
    gradients = {key: tensor.grad for key, tensor in model.named_parameters() if tensor.grad is not None}
    return {key: tensor.detach() for key, tensor in model.named_parameters()}, gradients, value.item()


def assert_updated(directory: Path, recipe: Recipe, wanted: dict[str, Tensor]) -> None:
    got = run(directory, recipe, model=network(has_norm=False))
    for key, value in wanted.items():
        torch.testing.assert_close(got[key].double(), value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("limit", [0.01, 1e6])
def test_a_gradient_is_scaled_down_to_the_largest_norm_as_a_whole(tmp_path: Path, limit: float) -> None:
    weights, gradients, _ = gradients_of(lambda logits: F.cross_entropy(logits, images().labels))
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))
    assert 0.01 < norm < 1e6
    scale = min(1.0, limit / norm)
    wanted = {key: value - 0.1 * scale * gradients[key] for key, value in weights.items()}
    assert_updated(tmp_path, structs.replace(ONE_UPDATE, clip_grad=limit), wanted)


def test_label_smoothing_is_cross_entropy_with_a_share_spread_over_all_classes(tmp_path: Path) -> None:
    """Szegedy et al. 2016, section 7: q'(k) = (1 - e) [k = y] + e / K."""
    target = 0.8 * torch.eye(4, dtype=torch.float64)[images().labels] + 0.2 / 4
    smoothed = lambda logits: -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()  # noqa: E731  # said once
    weights, gradients, loss = gradients_of(smoothed)
    wanted = {key: value - 0.1 * gradients[key] for key, value in weights.items()}
    assert_updated(tmp_path, structs.replace(ONE_UPDATE, label_smoothing=0.2), wanted)
    assert rows(tmp_path)[0]["loss"] == pytest.approx(loss, rel=1e-6)


# ---- averages -----------------------------------------------------------------------------------------------------


def test_tied_weights_are_averaged_once() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    model[1].weight = model[0].weight
    model[0].weight.data.fill_(0.0)
    average = EMA(model, 0.5)
    model[0].weight.data.fill_(1.0)
    for update in range(20):
        average.update(update)
    left = math.prod(min(0.5, (1 + t) / (10 + t)) for t in range(20))
    assert average.module.state_dict()["1.weight"].item() == pytest.approx(1 - left, rel=1e-12)


def test_slow_weights_follow_and_lead_as_their_closed_form_says() -> None:
    """Of weights that move by 1 an update: s <- d s + (1 - d) (s + k), so that s gains (1 - d) k each time."""
    model = nn.BatchNorm1d(1).double()
    every, updates = 3, 11
    slow = LookaheadWeights(model, Lookahead(every=every, decay=0.9, power=2.0), updates)
    follow, value = 1.0, 1.0
    for update in range(updates):
        model.weight.data += 1
        value += 1
        slow.update(update)
        if (update + 1) % every == 0:
            follow += (1 - 0.9**3 * ((update + 1) / 11) ** 2) * every
            value = follow
        if update + 1 == updates:
            value = follow
        assert model.weight.item() == pytest.approx(value, rel=1e-12)
    assert float(slow.module.weight) == pytest.approx(follow, rel=1e-12)  # type: ignore[arg-type]


def test_slow_weights_of_constant_decay_are_lookaheads(tmp_path: Path) -> None:
    """Zhang et al. 2019, algorithm 1, with SGD inside: phi <- phi + alpha (theta - phi), theta <- phi."""
    alpha = 0.4
    steady = structs.replace(ONE_UPDATE, epochs=6, weight_decay=0.1)
    lookahead = Lookahead(every=2, decay=math.sqrt(1 - alpha), power=0.0)
    got = run(
        tmp_path, structs.replace(steady, lookahead=lookahead), model=network(has_norm=False),
        criterion=lambda logits, labels: 0 * logits.sum(),
    )  # fmt: skip
    inner = (1 - 0.1 * 0.1) ** 2
    for key, value in network(has_norm=False).state_dict().items():
        torch.testing.assert_close(got[key], (1 - alpha + alpha * inner) ** 3 * value)
