"""timm's model interface, for networks that end in a classifier."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor, fx, nn
from torch.nn import functional as F

from zoo.errors import SpecError
from zoo.modules import features
from zoo.modules.execution import blocks_of, input_facts, set_recomputed
from zoo.modules.features import FeatureInfo
from zoo.modules.layers import check_share, create_linear, create_pool


class ImageClassifier(nn.Module):
    """A network with timm's model interface that ends in a linear layer.

    A subclass defines ``forward_features`` and, if something stands between the features and the classifier,
    ``forward_head``. Its constructor sets ``num_features``, and ``head_hidden_size`` if the classifier sees
    another number of features, notes its stages and calls ``reset_classifier``.

    ``torch.jit.script`` scripts what ``torch.fx`` traces of the network, in the mode, training or not, that it is in.
    """

    classifier_name: ClassVar[str] = "fc"
    """Name of the linear layer in the state dict, with dots if it lies in a submodule."""
    head_names: ClassVar[tuple[str, ...]] = ()
    """Names of other submodules behind the features that have parameters or contain the classifier."""
    has_one_size: ClassVar[bool] = False
    """Whether it computes on images of another size, but not what it is meant to, as where it cuts them."""
    num_features: int
    num_classes: int
    is_headless: bool = False
    """Whether the network returns the maps of ``forward_features``: after ``reset_classifier(0, "")``."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = FeatureInfo()
        """Per stage: ``num_chs`` channels, ``reduction`` of the input's size, name of the ``module``."""

    def note_stage(self, module: str, num_chs: int, reduction: float) -> None:
        """Adds a stage to ``feature_info``."""
        self.feature_info.append({"num_chs": num_chs, "reduction": reduction, "module": module})

    @property
    def default_layers(self) -> tuple[str, ...]:
        """Names of the modules that are worth looking at: by default, the stages."""
        return tuple(str(stage["module"]) for stage in self.feature_info)

    def __prepare_scriptable__(self) -> nn.Module:  # torch's name
        """Returns what ``torch.jit.script`` takes in the network's place: its trace."""
        traced = fx.symbolic_trace(self)
        for node in traced.graph.find_nodes(op="output"):
            node.type = None  # forward's annotation, a union
        traced.recompile()
        return traced

    # ---- The description in timm's form ----------------------------------------------------------------------

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """timm's description; ``fixed_input_size`` and ``pool_size`` are worked out when it is first read."""
        config: dict[str, Any] = self.__dict__.get("_config", {})
        if "pool_size" not in config and "input_size" in config:
            config.update(input_facts(self, config["input_size"]))
            config["fixed_input_size"] |= self.has_one_size
        return config

    @pretrained_cfg.setter
    def pretrained_cfg(self, config: dict[str, Any]) -> None:
        self.__dict__["_config"] = config

    default_cfg = pretrained_cfg

    # ---- The head --------------------------------------------------------------------------------------------

    @property
    def head_hidden_size(self) -> int:
        """Inputs of the classifier: ``num_features``, unless hidden layers stand before it."""
        return int(self.__dict__.get("_head_hidden_size", self.num_features))

    @head_hidden_size.setter
    def head_hidden_size(self, size: int) -> None:
        self.__dict__["_head_hidden_size"] = size

    def get_classifier(self) -> nn.Module:
        """Returns the linear layer; the identity if there are no classes."""
        return self.get_submodule(self.classifier_name)

    def set_classifier(self, layer: nn.Module) -> None:
        """Puts ``layer`` in the classifier's place, in the network's mode."""
        self._replace(self.classifier_name, layer.train(self.training))

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the classifier by a new one; 0 classes leave it out.

        With 0 classes and an empty ``global_pool``, the network returns the maps of ``forward_features``. Raises
        :class:`SpecError` for any other ``global_pool``, which this network does not have.
        """
        if global_pool or (global_pool == "" and num_classes):
            raise SpecError(f"{type(self).__name__} has no global pool to replace, got global_pool={global_pool!r}.")
        self.is_headless = not num_classes and (global_pool == "" or self.is_headless)
        self.num_classes = num_classes
        self.set_classifier(self.make_classifier(num_classes))

    def make_classifier(self, num_classes: int) -> nn.Module:
        """Returns a new classifier on the network's device and of its type; the identity for 0 classes."""
        return create_linear(self.head_hidden_size, num_classes, like=next(self.parameters(), None))

    def remove_head(self) -> None:
        """Leaves only what computes features."""
        self.reset_classifier(0)
        for name in self.head_names:
            self._replace(name, nn.Identity())

    def _replace(self, name: str, module: nn.Module) -> None:
        parent, _, own = name.rpartition(".")
        setattr(self.get_submodule(parent), own, module)

    def prune_intermediate_layers(self, *_: Any, **__: Any) -> list[int]:
        """Raises :class:`SpecError`: a method of timm's that these networks do not have."""
        raise SpecError(
            f"{type(self).__name__} keeps all of its layers.",
            hint="zoo.create(NAME, features_only=True, out_indices=...) computes no more than these stages.",
        )

    # ---- The forward -----------------------------------------------------------------------------------------

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W to the last stage's features B num_features h w."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features to logits B num_classes, or with ``pre_logits`` to what the classifier sees."""
        return x if pre_logits else self.get_classifier()(x)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Maps images B C H W to logits B num_classes; a network may add other outputs in training."""
        features = self.forward_features(x)
        return features if self.is_headless else self.forward_head(features)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Returns the features of several stages, as timm's networks return them.

        Args:
            x: Images B C H W.
            indices: Stages in ``feature_info``: numbers, where negative ones count from the end, or how many of the
                last. By default all.
            norm: For timm's interface: no network here normalises its features once more.
            stop_early: Whether to compute no more than the last of these stages.
            output_fmt: ``NCHW``.
            intermediates_only: Whether to return the list alone.

        Returns:
            The last features that were computed, and a list of the stages' features, in order.

        Raises:
            SpecError: There is no such stage, or the format is another.
        """
        if output_fmt != "NCHW":
            raise SpecError(f"output_fmt = {output_fmt!r}: expected 'NCHW'.")
        final, intermediates = features.forward_intermediates(self, x, indices, stop=stop_early)
        if intermediates_only:
            return intermediates
        return intermediates[-1] if final is None else final, intermediates

    # ---- Training --------------------------------------------------------------------------------------------

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keeps only what blocks take, and computes the rest again for the gradient, which stays the same.

        Raises:
            SpecError: The network has no blocks, only single layers.
        """
        heads = tuple(self.get_submodule(name) for name in (self.classifier_name, *self.head_names))
        blocks = blocks_of(self, heads)
        if enable and not blocks:
            raise SpecError(f"{type(self).__name__} has no blocks whose activations could be computed again.")
        set_recomputed(blocks, enable)

    def group_matcher(self, coarse: bool = False) -> Callable[[str], tuple[int, int]]:
        """Groups parameters by their distance from the input, for timm's ``group_parameters`` and layer decay.

        Args:
            coarse: Whether a group is a stage; otherwise it is a block of one.

        Returns:
            A function from a parameter's name to its group; groups sort from the stem to the head.
        """
        info = getattr(self, "zoo_info", None)
        stages = info.model.stages if info is not None else self.feature_info.module_name()
        stem = info.model.stem if info is not None else ()
        head = info.model.head if info is not None else (self.classifier_name,)
        return parameter_levels(self, stages, stem=stem, head=head, by_block=not coarse).__getitem__

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay should not touch: none, beside biases and normalisations."""
        return set()


class PooledClassifier(ImageClassifier):
    """An :class:`ImageClassifier` with a global pool and dropout before the linear layer."""

    pool: str = "avg"
    """Name of the global pool: ``avg``, ``max``, or empty for none. A subclass may set another default."""
    drop_rate: float = 0.0

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces pool and classifier by new ones; 0 classes leave the classifier out.

        ``global_pool`` is ``avg``, ``max``, or the empty string for none, which needs 0 classes. By default it is that
        of before, or with classes the network's usual one. Raises :class:`SpecError` for anything else.
        """
        usual = (self.pool or type(self).pool) if num_classes else self.pool
        pool = usual if global_pool is None else global_pool
        self.global_pool, self.pool = create_pool(pool, num_classes).train(self.training), pool
        super().reset_classifier(num_classes)
        self.is_headless = not pool

    def set_global_pool(self, pool: str) -> None:
        """Replaces the global pool alone. Raises :class:`SpecError` for none in front of a classifier."""
        self.global_pool, self.pool = create_pool(pool, self.num_classes).train(self.training), pool
        self.is_headless = not pool

    def set_drop_rate(self, rate: float) -> None:
        """Sets the share of pooled features that training drops. Raises :class:`SpecError` outside [0, 1]."""
        check_share(drop_rate=rate)
        self.drop_rate = rate

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features B num_features h w to logits B num_classes, or with ``pre_logits`` to the pooled features."""
        x = self.global_pool(x)
        if self.drop_rate:
            x = F.dropout(x, self.drop_rate, self.training)
        return super().forward_head(x, pre_logits)


# ---- How far each parameter is from the input --------------------------------------------------------------------


def parameter_levels(
    model: nn.Module, stages: Sequence[str], *, stem: Sequence[str], head: Sequence[str], by_block: bool = False
) -> dict[str, tuple[int, int]]:
    """Returns where each parameter lies: (stage, block), both counted from the input on.

    Args:
        model: The network.
        stages: Names of its stages, in order.
        stem: Names of submodules in front of them.
        head: Names of submodules behind them.
        by_block: Whether the parts of a stage count; otherwise its block is 0.

    Returns:
        By name, (0, 0) for the stem and the highest stage for the head. Parameters outside of all stages belong to the
        stage that is registered after them.
    """
    places: dict[str, tuple[int, int]] = {}
    following = 0
    for owner, module in model.named_modules():
        stage = next((index for index, name in enumerate(stages) if lies_in(owner, name)), None)
        following = following if stage is None else max(following, stage + 1)
        for name, _ in module.named_parameters(prefix=owner, recurse=False):
            if any(lies_in(owner, part) for part in head):
                places[name] = len(stages) + 1, 0
            elif stage is not None:
                places[name] = stage, _block(model, stages[stage], owner) if by_block else 0
            else:
                places[name] = 0 if any(lies_in(owner, part) for part in stem) else following, 0
    used = sorted({stage for stage, _ in places.values()})
    return {name: (used.index(stage), block) for name, (stage, block) in places.items()}


def lies_in(name: str, module: str) -> bool:
    """Returns whether ``name`` is that of ``module`` or of something in it."""
    return name == module or name.startswith(f"{module}.")


def _block(model: nn.Module, stage: str, owner: str) -> int:
    """Returns the number of the part of ``stage`` that ``owner`` lies in; 0 for a stage without parts."""
    module = model.get_submodule(stage)
    if owner == stage or not isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return 0
    names = [name for name, _ in module.named_children()]
    return names.index(owner.removeprefix(f"{stage}.").partition(".")[0])
