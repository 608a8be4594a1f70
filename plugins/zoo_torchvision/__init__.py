"""torchvision: its classification networks and their weights, as ``torchvision/<name>``.

TorchVision maintainers and contributors, "TorchVision: PyTorch's Computer Vision library",
https://github.com/pytorch/vision.

The networks are torchvision's own, with timm's model interface added. The list of them is ``snapshot.json``, which
``python -m zoo_torchvision.snapshot`` writes from an installed torchvision, so that listing imports neither torchvision
nor torch. Auxiliary classifiers are not built, as torchvision itself drops them by default.
"""

from zoo.spec import Plugin, Requirement

TORCHVISION = Requirement("torchvision", "zoo-vision[torchvision]")

plugin = Plugin(
    name="torchvision",
    api=2,
    collection="zoo_torchvision.collection:read",
    weights=("weights_manifest:torchvision.toml",),
)
