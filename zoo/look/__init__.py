"""Shows what a network has learned, with one function for each question, for every network of the registry.

::

    from zoo import look

    look.layers("resnet20.c10")                                   # names and shapes
    look.filters("alexnet.tv_in1k").save("filters.png")
    look.features("resnet20.c10", "cat.png", "layer1").save("maps.png")

``model`` is a name, for which trained weights are taken, or a network that :func:`zoo.create` made; such a network
comes back as it was. Each function returns a :class:`zoo.look.result.Look`: tensors to work with, facts, a figure.
``zoo look`` does the same from the command line.
"""

from typing import TYPE_CHECKING

from zoo.system import lazy

if TYPE_CHECKING:
    from zoo.look.alignment import representations
    from zoo.look.attribution import attribute
    from zoo.look.deconvnet import deconv, project
    from zoo.look.diagnosis import diagnose
    from zoo.look.first_layer import filters
    from zoo.look.invariance_curves import invariance
    from zoo.look.maps import before_and_after, features
    from zoo.look.maximization import maximize
    from zoo.look.network import layers
    from zoo.look.receptive import receptive_field
    from zoo.look.top_patches import patches
    from zoo.look.whitened_images import whitening

_HOMES = {
    "attribute": "zoo.look.attribution",
    "before_and_after": "zoo.look.maps",
    "deconv": "zoo.look.deconvnet",
    "diagnose": "zoo.look.diagnosis",
    "features": "zoo.look.maps",
    "filters": "zoo.look.first_layer",
    "invariance": "zoo.look.invariance_curves",
    "layers": "zoo.look.network",
    "maximize": "zoo.look.maximization",
    "patches": "zoo.look.top_patches",
    "project": "zoo.look.deconvnet",
    "receptive_field": "zoo.look.receptive",
    "representations": "zoo.look.alignment",
    "whitening": "zoo.look.whitened_images",
}

__all__ = [
    "attribute",
    "before_and_after",
    "deconv",
    "diagnose",
    "features",
    "filters",
    "invariance",
    "layers",
    "maximize",
    "patches",
    "project",
    "receptive_field",
    "representations",
    "whitening",
]

__getattr__ = lazy.binder(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
