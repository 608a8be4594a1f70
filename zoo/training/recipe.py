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
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from zoo.data.augmentation import Augmentation
from zoo.errors import RecipeError
from zoo.training.adversary import Adversary
from zoo.training.distill import Distill

T = TypeVar("T", bound=msgspec.Struct)
Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class Expectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The result of a recipe: ``top1`` per cent of the test images of ``data`` by ``model``.

    Either reported by ``source``, or measured, with the name of the trained ``weights``. ``seconds`` is the training
    time, ``on`` the machine.
    """

    model: str
    data: str
    top1: Annotated[float, msgspec.Meta(ge=0, le=100)]
    source: str = ""
    weights: str = ""
    seconds: NotNegative = 0.0
    on: str = ""

    def __post_init__(self) -> None:
        if bool(self.source) == bool(self.weights):
            raise ValueError("expected either source or weights with top1")
        if bool(self.seconds) != bool(self.on):
            raise ValueError("set both seconds and on, or neither")


class Lookahead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lookahead: see ``zoo.training.averages``."""

    every: Positive = 5
    decay: Fraction = 0.95
    power: NotNegative = 3.0


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a network is trained. Omitted fields have the defaults shown here."""

    name: str = ""
    note: str = ""

    epochs: Positive = 30
    """Passes over the training images. The images left over after whole batches sit an epoch out."""
    batch_size: Positive = 128
    """Images an update of the weights."""
    accumulate: Positive = 1
    """Pieces in which a batch is computed, one after the other: less memory, the same update."""

    optimizer: str = "sgd"
    """A name of timm's optimiser factory: ``sgd``, ``adamw``, ``lamb``, ``muon``, ..."""
    optimizer_args: dict[str, bool | int | float | tuple[float, ...]] = {}
    """Further arguments of the optimiser, by its own names: ``{alpha = 0.95, centered = true}``."""
    lr: NotNegative = 0.1
    """The learning rate after warm-up."""
    momentum: Fraction = 0.9
    nesterov: bool = True
    """Nesterov's momentum; concerns ``sgd`` only."""
    weight_decay: NotNegative = 5e-4
    decay_norm_and_bias: bool = True
    """Whether weight decay also pulls on biases and on the parameters of normalisation."""
    clip_grad: NotNegative = 0.0
    """Largest norm of the whole gradient; 0: not clipped."""
    layer_decay: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """Factor of the learning rate from one stage of the network down to the next, the head at 1."""
    freeze: tuple[str, ...] = ()
    """Submodules that stay as they are, by name or shell pattern; ``backbone``: all but the head."""

    schedule: Literal["constant", "cosine", "linear", "multistep", "step"] = "cosine"
    """How the learning rate falls, update by update; ``cosine`` and ``linear`` end at ``min_lr``."""
    decay_epochs: tuple[NotNegative, ...] = ()
    """``multistep``: the epochs at which the rate falls; ``step``: one number, the interval."""
    decay_rate: NotNegative = 0.1
    """The factor by which it falls there."""
    warmup_epochs: NotNegative = 0.0
    """Epochs of linear rise from ``warmup_lr`` to ``lr``, counted among ``epochs``."""
    warmup_lr: NotNegative = 0.0
    min_lr: NotNegative = 0.0

    label_smoothing: Fraction = 0.0
    ema: Fraction = 0.0
    """Decay an update of an average of the weights, which is what is kept; 0: no average."""
    lookahead: Lookahead | None = None
    """Slow weights that lead the network's."""
    sync_norm: bool = False
    """Whether several processes share the statistics of batch normalisation."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Arithmetic of the forward and backward pass; weights are float32 always."""
    channels_last: bool = True
    """Memory layout of images and filters: faster for convolutions, the same mathematics."""

    seed: int = 0
    """Decides initial weights, order, augmentation and dropout."""
    validation: Natural = 0
    """Training images held out, the same share of each class, and scored after every epoch."""
    keep: Literal["best", "last"] = "last"
    """Which epoch's network the run leaves: the last one's, or that of the images held out most are right of."""
    input_size: Natural = 0
    """Side of the network's input in pixels; 0: as the model declares it."""
    normalize: Literal["model", "mean", "standardize", "zca"] = "model"
    """Whether pixels are normalised with the model's declared mean and std, with the training
    images' mean (std 1), with their mean and std, or whitened by a transform fitted to them."""
    augment: Augmentation = Augmentation()
    """Random changes of the training images."""
    adversarial: Adversary | None = None
    """Whether the images are attacked before they are learnt from."""
    distill: Distill | None = None
    """How the network learns from a teacher, if the run has one."""
    hook_args: dict[str, Any] = {}
    """The family's own fields, which its train hook reads; its plugin names their type (``Plugin.hook_args``)."""

    def read_hook_args(self, kind: type[T]) -> T:
        """The family's own fields as ``kind``, with its defaults; raises :class:`RecipeError` for a wrong value."""
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
