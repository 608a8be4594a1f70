"""A recipe: all settings that affect the result of training.

A family's ``recipes.toml`` holds one table per recipe. In addition to the fields below, a table states for
which ``models`` and ``data`` it is the default (shell patterns; ``[]`` for none), a ``note``, and
what it gave (``expected``, see :class:`Expectation`)::

    [fast_c10]
    models = ["resnet*", "plain*"]
    data = ["cifar10"]
    note = "..."
    epochs = 60
    augment = {pad_crop = 4, flip = true}
    expected = [{model = "resnet20", data = "cifar10", top1 = 91.73, weights = "resnet20.c10"}]
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from zoo.data.augmentation import Augmentation
from zoo.errors import RecipeError
from zoo.manifest import Percent, Protocol

NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class Adversary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Training images are attacked with the network as it is, and learnt from.

    Attacks are made in eval mode, so that they do not change the network's running statistics.

    Args:
        attack: ``fgsm`` (Goodfellow, Shlens and Szegedy 2014, section 6), or ``pgd`` and ``pgd_l2`` (Madry et al.
            2017).
        epsilon: Largest change, in pixel units before normalisation, values in [0, 1] (8/255 = 0.0314).
        steps: Steps of the attack.
        step_size: Size of a step in units of epsilon; 0 means 2.5 / steps, with which any point can be reached.
        random_start: Whether the attack starts at a random point.
        clean: Weight of the loss of the unchanged images; the attacked ones have the rest. By default 0.5 with ``fgsm``
            and 0 with ``pgd`` and ``pgd_l2``.
    """

    attack: Literal["fgsm", "pgd", "pgd_l2"] = "pgd"
    epsilon: NotNegative = 8 / 255
    steps: Annotated[int, msgspec.Meta(ge=1)] = 7
    step_size: NotNegative = 0.0
    random_start: bool = True
    clean: Annotated[float, msgspec.Meta(ge=0, lt=1)] | None = None

    @property
    def clean_share(self) -> float:
        """``clean``, or what it is by default."""
        return self.clean if self.clean is not None else 0.5 if self.attack == "fgsm" else 0.0

    @property
    def name(self) -> str:
        """``attack``, as :class:`zoo.training.perturbation.Steps` calls it."""
        return self.attack

    @property
    def norm(self) -> Literal["linf", "l2"]:
        """The norm in which epsilon is measured."""
        return "l2" if self.attack == "pgd_l2" else "linf"

    @property
    def relative_step(self) -> float:
        """The size of a step, in units of epsilon; 2.5 / steps if ``step_size`` is 0."""
        return self.step_size or 2.5 / self.steps


class Distill(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings with which a network learns from a teacher (Hinton, Vinyals and Dean 2015, arXiv 1503.02531, section 2).

    The loss is (1 - ``alpha``) times that of the labels plus ``alpha`` T^2 KL(teacher || network), whose outputs are
    the softmax of the logits over the ``temperature`` T. T^2 keeps the gradient's size.

    Args:
        alpha: Weight of the teacher's outputs.
        temperature: T, by which logits are divided.
    """

    alpha: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    temperature: Annotated[float, msgspec.Meta(gt=0)] = 4.0


class Progressive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Progressive resizing, as in fastai and Composer: early epochs see smaller images, which cost less.

    The side of the images grows linearly from ``initial_scale`` of the full side to all of it, in steps of
    ``increment`` pixels; the last ``full_share`` of the epochs, at least one, see full images.

    Args:
        initial_scale: The side in the first epoch, as a share of the full side.
        full_share: Share of the epochs, at the end, with images of the full side.
        increment: Sides are multiples of this many pixels, apart from the full side.
    """

    initial_scale: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.625
    full_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3
    increment: Annotated[int, msgspec.Meta(ge=1)] = 4

    def side(self, full: int, epoch: int, epochs: int) -> int:
        """Returns the side in pixels of the images of ``epoch`` of ``epochs``, from 0, where ``full`` is all."""
        growing = (1 - self.full_share) * epochs
        if epoch >= min(growing, epochs - 1):
            return full
        scale = self.initial_scale + (1 - self.initial_scale) * epoch / growing
        return min(full, max(1, round(scale * full / self.increment)) * self.increment)

    def share_of_pixels(self, full: int, epochs: int) -> float:
        """Returns the pixels of a training of ``epochs`` as a share of those of one with full images."""
        return sum((self.side(full, epoch, epochs) / full) ** 2 for epoch in range(epochs)) / epochs


T = TypeVar("T", bound=msgspec.Struct)
Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Fraction = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class Expectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The result of a recipe, either reported by ``source`` or measured on ``weights``.

    Args:
        model: Name of the model.
        data: The data set, whose test images were scored.
        top1: Top-1 in per cent.
        mean_class: Mean over the classes of their top-1, in per cent, where that is what is reported.
        source: Who reported it.
        confirmed: Whether the figure was seen in its source; otherwise it was quoted.
        protocol: How it came about, if it was reported.
        args: Arguments of the build function, of a figure that is about the network with these alone.
        weights: The trained weights with this score.
        seconds: Training time.
        on: The machine that took so long.
    """

    model: str
    data: str
    top1: Percent | None = None
    mean_class: Percent | None = None
    source: str = ""
    confirmed: bool = True
    protocol: Protocol = Protocol()
    args: Mapping[str, Any] = {}
    weights: str = ""
    seconds: NotNegative = 0.0
    on: str = ""

    def __post_init__(self) -> None:
        if bool(self.source) == bool(self.weights):
            raise ValueError("expected either source or weights with top1")
        if (self.top1 is None) == (self.mean_class is None):
            raise ValueError("expected either top1 or mean_class")
        if self.weights and self.protocol != Protocol():
            raise ValueError("protocol is for figures of others: that of weights is in their manifest")
        if bool(self.seconds) != bool(self.on):
            raise ValueError("set both seconds and on, or neither")

    @property
    def figure(self) -> str:
        """The score as a table shows it: ``44% (mean of classes)``, with no more digits than others reported."""
        score = self.mean_class if self.top1 is None else self.top1
        digits = f"{score:.2f}%" if self.weights else f"{score:g}%"
        return digits + (" (mean of classes)" if self.top1 is None else "")

    @property
    def is_of_others(self) -> bool:
        """Whether it is not this project's own: weights are, and what states a machine."""
        return bool(self.source) and not self.on

    @property
    def reference(self) -> str:
        """Who reported it of which arguments, and whether that was seen."""
        args = ", ".join(f"{key}={value}" for key, value in self.args.items())
        return (
            self.source
            + (f", {args}" if args else "")
            + ("" if self.confirmed or not self.source else ", quoted, not confirmed")
        )


class Lookahead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lookahead (Zhang et al. 2019, arXiv 1907.08610): see ``zoo.training.optimization``.

    Args:
        every: Updates between two steps of the slow weights.
        decay: Share of the slow weights that a step keeps, at the end of training.
        power: Exponent with which the share approaches ``decay`` during training.
    """

    every: Positive = 5
    decay: Fraction = 0.95
    power: NotNegative = 3.0


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings with which a network is trained. Omitted fields have the defaults shown here.

    Args:
        name: Its table's name in ``recipes.toml``.
        note: What differs from its source, in words.
        epochs: Passes over the training images. The images left over after the last whole batch are skipped in that
            epoch.
        batch_size: Images per update of the weights.
        accumulate: Number of micro-batches in which a batch is computed: less memory, the same update.
        optimizer: ``sgd``, ``adam`` or ``adamw``, or with timm any name of its factory: ``lamb``, ``muon``, ...
        optimizer_args: More arguments of the optimiser, by its own names: ``{alpha = 0.95, centered = true}``.
        lr: The learning rate after warm-up.
        momentum: Momentum of ``sgd`` and of others that have one.
        nesterov: Whether ``sgd`` uses Nesterov's momentum.
        weight_decay: Strength of the pull of the weights towards 0.
        decay_norm_and_bias: Whether weight decay applies to biases and to the parameters of normalisation.
        clip_grad: Largest norm of the whole gradient; 0 does not clip.
        layer_decay: Factor of the learning rate from one stage of the network to the one below; the head has the full
            rate.
        freeze: Submodules that are not trained, by name or shell pattern; ``backbone`` is everything but the head.
        schedule: How the learning rate falls, update by update; ``cosine`` and ``linear`` end at ``min_lr``.
        decay_epochs: For ``multistep``, the epochs at which the rate falls; for ``step``, one number, the interval.
        decay_rate: The factor by which it falls at ``decay_epochs``.
        warmup_epochs: Epochs in which the rate rises linearly from ``warmup_lr`` to ``lr``, counted among ``epochs``.
        warmup_lr: The learning rate at the start of the warm-up.
        min_lr: The learning rate at the end of ``cosine`` and ``linear``.
        label_smoothing: Share of the probability that the labels spread over all classes.
        ema: Decay per update of a running average of the weights, which is what is saved; 0 saves the weights
            themselves.
        lookahead: Slow weights that follow the network's, and that it is reset to.
        sync_norm: Whether several processes share the statistics of batch normalisation.
        precision: Arithmetic of the forward and backward pass; weights are always float32.
        channels_last: Memory layout of images and filters: faster for convolutions, the same result up to rounding.
        compile: Compile the network with ``torch.compile``: a minute or two at the start, then faster updates, the same
            result up to rounding. ``auto`` decides by the length of the training; the run's record has the decision,
            which is repeated whenever it is resumed or reproduced.
        seed: Determines initial weights, order, augmentation and dropout.
        validation: Number of training images to hold out, the same share of each class; they are scored after every
            epoch.
        keep: Which epoch's network is saved: the last, or the one that classifies most of the held-out images
            correctly.
        input_size: Side of the network's input in pixels; 0 takes what the model declares.
        progressive: Progressive resizing: smaller images in early epochs.
        normalize: How pixels are normalised: with the model's declared mean and std, with the training images' mean
            (std 1), with their mean and std, or by a whitening transform fitted to them.
        augment: Random changes of the training images.
        adversarial: Adversarial training.
        distill: How the network learns from a teacher, if the run has one.
        hook_args: The family's own fields, which its train hook reads; its plugin names their type
            (``Plugin.hook_args``).
    """

    name: str = ""
    note: str = ""

    epochs: Positive = 30
    batch_size: Positive = 128
    accumulate: Positive = 1

    optimizer: str = "sgd"
    optimizer_args: dict[str, bool | int | float | tuple[float, ...]] = {}
    lr: NotNegative = 0.1
    momentum: Fraction = 0.9
    nesterov: bool = True
    weight_decay: NotNegative = 5e-4
    decay_norm_and_bias: bool = True
    clip_grad: NotNegative = 0.0
    layer_decay: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    freeze: tuple[str, ...] = ()

    schedule: Literal["constant", "cosine", "linear", "multistep", "step"] = "cosine"
    decay_epochs: tuple[NotNegative, ...] = ()
    decay_rate: NotNegative = 0.1
    warmup_epochs: NotNegative = 0.0
    warmup_lr: NotNegative = 0.0
    min_lr: NotNegative = 0.0

    label_smoothing: Fraction = 0.0
    ema: Fraction = 0.0
    lookahead: Lookahead | None = None
    sync_norm: bool = False
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    channels_last: bool = True
    compile: bool | Literal["auto"] = False

    seed: int = 0
    validation: Natural = 0
    keep: Literal["best", "last"] = "last"
    input_size: Natural = 0
    progressive: Progressive | None = None
    normalize: Literal["model", "mean", "standardize", "zca"] = "model"
    augment: Augmentation = Augmentation()
    adversarial: Adversary | None = None
    distill: Distill | None = None
    hook_args: dict[str, Any] = {}

    def read_hook_args(self, kind: type[T]) -> T:
        """Reads the family's own fields as ``kind``, with its defaults; raises :class:`RecipeError`."""
        try:
            return msgspec.convert(self.hook_args, kind)
        except msgspec.ValidationError as error:
            message, _, path = str(error).partition(" - at `$.")
            where = f"hook_args.{path.rstrip('`')}" if path else "hook_args"
            raise RecipeError(f"Recipe {self.name!r}: {where}: {message}.") from None

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value = getattr(self, field)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not math.isfinite(number):
                    raise ValueError(f"{field} must be finite, got {number}")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate = {self.accumulate} micro-batches of a batch of {self.batch_size}")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs = {self.warmup_epochs} must be fewer than epochs = {self.epochs}")
        if self.augment.mixes and self.adversarial is not None:
            raise ValueError("augment.mixup and augment.cutmix cannot be combined with adversarial")
        if self.schedule == "multistep" and not self.decay_epochs:
            raise ValueError("schedule multistep needs decay_epochs, such as [80, 120]")
        if self.schedule == "step" and (len(self.decay_epochs) != 1 or self.decay_epochs[0] <= 0):
            raise ValueError("schedule step needs decay_epochs with one interval, such as [30]")
        if self.decay_epochs != tuple(sorted(self.decay_epochs)):
            raise ValueError(f"decay_epochs {list(self.decay_epochs)} must increase")
