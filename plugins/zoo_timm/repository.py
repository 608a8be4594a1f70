"""Repositories in timm's form, by their ``config.json``: which model of the collection their weights are of."""

import re
from typing import Annotated, Any

import msgspec

from zoo.errors import WeightsError
from zoo.spec import Described, Preprocess
from zoo_timm import snapshot
from zoo_timm.collection import SPDX

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,100}\Z")]
Path = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_./-]{0,200}\Z")]


class Pretrained(msgspec.Struct, frozen=True):
    """The fields of timm's ``PretrainedCfg`` that matter here; those that are not given have timm's defaults."""

    input_size: tuple[int, int, int] = (3, 224, 224)
    crop_pct: float = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    num_classes: int | None = None
    fixed_input_size: bool = False
    global_pool: str | None = None
    tag: str | None = None
    license: str | None = None
    hf_hub_filename: Path | None = None
    label_names: list[str] | None = None
    label_descriptions: dict[str, str] | None = None


class Config(msgspec.Struct, frozen=True):
    """timm's ``config.json``."""

    architecture: Name
    pretrained_cfg: Pretrained
    num_classes: int | None = None
    model_args: dict[str, Any] = {}
    label_names: list[str] | None = None
    label_descriptions: dict[str, str] | None = None


def describe(config: dict[str, Any]) -> Described | None:
    """Returns what timm would make of ``config``; None if it is not of timm's form.

    Raises :class:`WeightsError` for values that timm's form does not have, :class:`SpecError` for impossible ones.
    """
    if "architecture" not in config:
        return None
    if "pretrained_cfg" not in config:  # timm's older form
        config = {**config, "pretrained_cfg": config, "label_names": config.get("label_names", config.get("labels"))}
    try:
        stated = msgspec.convert(_stated(config | {"pretrained_cfg": _stated(config["pretrained_cfg"])}), Config)
    except msgspec.ValidationError as error:
        raise WeightsError(f"not as timm writes it: {str(error).replace('`', '')}") from None
    cfg, args = stated.pretrained_cfg, dict(stated.model_args)
    num_classes = cfg.num_classes if stated.num_classes is None else stated.num_classes
    num_classes = args.pop("num_classes", num_classes)
    channels, *size = cfg.input_size
    channels = args.pop("in_chans", channels)
    is_fixed = cfg.fixed_input_size and not args.get("dynamic_img_size") and args.get("strict_img_size") is not False
    if is_fixed:
        image_size = args.setdefault("img_size", size)
        size = [image_size, image_size] if isinstance(image_size, int) else image_size
    if cfg.global_pool:
        args.setdefault("global_pool", cfg.global_pool)
    params = 0
    if about := snapshot.read().models.get(stated.architecture):
        file = about.weights.get(cfg.tag or "")
        if num_classes == (file or about).classes and args.keys() <= {"global_pool"}:
            params = (file and file.params) or about.params
        if file is not None:
            args["tag"] = cfg.tag
    names = stated.label_names or cfg.label_names or []
    descriptions = stated.label_descriptions or cfg.label_descriptions or {}
    return Described(
        model=f"timm/{stated.architecture}",
        args=args,
        preprocess=Preprocess(
            input_size=(channels, *size),
            crop_pct=cfg.crop_pct,
            interpolation=cfg.interpolation,  # type: ignore[arg-type]  # checked by Preprocess
            mean=cfg.mean,
            std=cfg.std,
            crop_mode=cfg.crop_mode,  # type: ignore[arg-type]  # checked by Preprocess
        ),
        params=params,
        num_classes=num_classes,
        classes="imagenet-1k" if num_classes == 1000 and _is_of_imagenet_1k(cfg.tag or "") else "",
        class_names=tuple(descriptions.get(name, name) for name in names),
        file=cfg.hf_hub_filename or "",
        license=SPDX.get(cfg.license or "", cfg.license or ""),
    )


def _stated(table: Any) -> Any:
    """Returns ``table`` without the keys whose value is null: for timm, they are not given."""
    return {key: value for key, value in table.items() if value is not None} if isinstance(table, dict) else table


def _is_of_imagenet_1k(tag: str) -> bool:
    """Returns whether the last data set that ``tag`` names is ImageNet-1k: ``fb_in22k_ft_in1k``."""
    return re.findall(r"(?:^|_)(in\d+k)(?=_|$)", tag)[-1:] == ["in1k"]
