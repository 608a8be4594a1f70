"""The parts that families of networks share: timm's model interface, features, heads, layers, checks of build
arguments.

The names of layers are a family's own, since state-dict keys follow its public checkpoints.
"""

from zoo.modules.execution import recompute
from zoo.modules.features import FeatureInfo, FeatureNet
from zoo.modules.layers import (
    DropPath,
    ResponseNorm,
    ZeroPadShortcut,
    check_choice,
    check_positive,
    count_units,
    create_classifier,
    create_linear,
    create_pool,
    fit_channels,
    he_initialize,
    luma_weights,
    make_shortcut,
)
from zoo.modules.network import ImageClassifier, PooledClassifier, parameter_levels

__all__ = [
    "DropPath",
    "FeatureInfo",
    "FeatureNet",
    "ImageClassifier",
    "PooledClassifier",
    "ResponseNorm",
    "ZeroPadShortcut",
    "check_choice",
    "check_positive",
    "count_units",
    "create_classifier",
    "create_linear",
    "create_pool",
    "fit_channels",
    "he_initialize",
    "luma_weights",
    "make_shortcut",
    "parameter_levels",
    "recompute",
]
