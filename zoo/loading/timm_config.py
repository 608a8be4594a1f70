"""What timm calls a network's ``pretrained_cfg``: where its weights come from and how its input is prepared."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.loading.network import ModelInfo
    from zoo.spec import Preprocess


def of_input(preprocess: "Preprocess") -> dict[str, Any]:
    """timm's fields for the preparation of images."""
    return {
        "input_size": preprocess.input_size,
        "interpolation": preprocess.interpolation,
        "crop_pct": preprocess.crop_pct,
        "crop_mode": preprocess.crop_mode,
        "mean": preprocess.mean,
        "std": preprocess.std,
    }


def of_network(info: "ModelInfo", num_classes: int) -> dict[str, Any]:
    """The configuration of the network that ``info`` describes."""
    model, weights = info.model, info.weights
    return {
        "architecture": model.name.rpartition("/")[2],
        "tag": weights.tag if weights else "",
        "custom_load": False,
        "fixed_input_size": False,
        **of_input(info.preprocess),
        "num_classes": num_classes,
        "pool_size": None,
        "first_conv": _one_or_all(model.stem),
        "classifier": _one_or_all(model.head),
        "license": weights.license.weights if weights else None,
        "paper_name": model.paper.title if model.paper else None,
        "origin_url": model.paper.url if model.paper else None,
    }


def _one_or_all(names: tuple[str, ...]) -> str | tuple[str, ...] | None:
    return names if len(names) > 1 else names[0] if names else None
