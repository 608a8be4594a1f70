"""``config.json`` for timm, if timm can load the weights."""

from typing import TYPE_CHECKING, Any

import msgspec

from zoo.loading.network import timm_input_config
from zoo.manifest import Weights

if TYPE_CHECKING:
    from torch import nn

    from zoo.spec import Model, Preprocess


def describe(module: "nn.Module", model: "Model", entry: Weights, preprocess: "Preprocess") -> dict[str, Any] | str:
    """Returns timm's configuration of ``module``, or the reason why there is none.

    timm must have an architecture of that name whose network loads every tensor and computes the same outputs.
    """
    try:
        import timm
    except ImportError:
        return "timm is not installed, so this was not checked"
    import torch

    from zoo.verify import probe

    name = model.name.rpartition("/")[2]
    if not timm.is_model(name):
        return f"timm has no architecture {name!r}"
    classes, channels = entry.num_classes or 0, preprocess.input_size[0]
    try:
        theirs = timm.create_model(name, num_classes=classes, in_chans=channels)
        theirs.load_state_dict(module.state_dict())
    except Exception as error:  # any of its thousand networks may raise anything
        return f"timm's {name} cannot load these tensors ({str(error).splitlines()[0]})"
    images = probe.picture_input(preprocess)
    with torch.inference_mode():
        ours, got = module.eval()(images), theirs.eval()(images)
    if got.shape != ours.shape or not torch.allclose(got, ours, rtol=1e-4, atol=1e-4 * float(ours.abs().max())):
        return f"timm's {name} computes different outputs with these tensors"
    default = theirs.pretrained_cfg or {}
    if preprocess.whitening != "none":
        return "timm does not whiten its input"
    return {
        "architecture": name,
        "num_classes": classes,
        "num_features": theirs.num_features,
        "pretrained_cfg": {
            "tag": entry.tag,
            "custom_load": False,
            **timm_input_config(preprocess),
            "fixed_input_size": bool(default.get("fixed_input_size", False)),
            "num_classes": classes,
            "pool_size": default.get("pool_size"),
            "first_conv": default.get("first_conv"),
            "classifier": default.get("classifier"),
            "license": entry.license.weights,
        },
        **({"model_args": {"in_chans": channels}} if channels != 3 else {}),
    }


def class_names(about: dict[str, Any]) -> dict[str, Any]:
    """Returns ``label_names`` as in timm's configuration."""
    names = msgspec.convert(about.get("class_names") or [], list[str])
    return {"label_names": names} if names else {}
