"""Adversarial attacks: on images, by patches, and robust accuracy.

::

    import zoo

    model = zoo.create("resnet20.c10")
    fooled = zoo.attack.pgd(model, images, labels, epsilon=8 / 255)  # images float32 B C H W in [0, 1]
    zoo.attack.curve(model, "cifar10", "pgd", [0, 1 / 255, 2 / 255], limit=500).points

Attacks change images as pixels in [0, 1] at the network's input size; mean and std are part of the model that is
attacked. Names are bound on first use, so that torch-free code can read ``zoo_attack.method``.
"""

from zoo.spec import Plugin
from zoo.system import lazy

plugin = Plugin(
    "attack",
    api=2,
    commands={"attack": "zoo_attack.cli:attack"},
    modules={"attack": "zoo_attack"},
    checks=("zoo_attack.checks:attack",),
)

__getattr__, __dir__, __all__ = lazy.exports(__name__)
