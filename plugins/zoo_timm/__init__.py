"""timm: every model and every file of weights that timm knows, as ``timm/<name>``.

Ross Wightman and others, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models.

The networks are timm's own. The list of them is ``snapshot.json``, taken from an installed timm by
``python -m zoo_timm.snapshot``, so that asking imports neither timm nor torch. Files come through Zoo's
hubs and its cache, and every tensor of theirs is accounted for, where timm is at times content with less.

Weights here are not pinned unless ``weights_manifest/timm.toml`` pins them.
"""

from zoo.spec import Plugin, Requirement

TIMM = Requirement("timm", "zoo-vision[timm]")

plugin = Plugin(
    name="timm",
    api=2,
    collection="zoo_timm.collection:read",
    modules={"timm": "zoo_timm.namespace"},
    repositories="zoo_timm.repository:describe",
    weights=("weights_manifest:timm.toml",),
)
