"""A snapshot of what one version of timm knows, as one JSON file: ``python -m zoo_timm.snapshot`` writes it anew.

It builds each architecture without memory for its tensors, to count them and to see which layers depend on
classes and channels: about five minutes. Reading the file needs neither timm nor torch.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec

from zoo.spec import Preprocess

FILE = Path(__file__).with_name("snapshot.json")


class File(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of weights.

    ``repo`` and ``file`` say where it lies on the Hugging Face Hub, ``url`` where it lies when it does not;
    an empty ``repo`` without ``url`` is ``timm/<arch>.<tag>``. ``input`` is an index of ``Snapshot.inputs``.
    ``params`` are those of its network, 0 where they are the architecture's.
    """

    input: int
    classes: int = 1000
    license: str = ""
    repo: str = ""
    file: str = "model.safetensors"
    url: str = ""
    params: int = 0


class Architecture(msgspec.Struct, frozen=True, omit_defaults=True):
    """One architecture as timm builds it by default: its weights by tag, timm's default first.

    ``head`` and ``stem`` are the layers that timm declares to depend on classes and channels; a stem that
    is not a convolution of the input's own channels cannot be adapted, and is left out.
    """

    params: int
    input: int
    classes: int = 1000
    head: tuple[str, ...] = ()
    stem: tuple[str, ...] = ()
    weights: dict[str, File] = {}


class Snapshot(msgspec.Struct, frozen=True):
    """All that one version of timm knows; ``without_file`` are tags for which it names no file."""

    timm: str
    inputs: tuple[Preprocess, ...]
    models: dict[str, Architecture]
    without_file: tuple[str, ...]


def read(file: Path = FILE) -> Snapshot:
    return msgspec.json.decode(file.read_bytes(), type=Snapshot)


class Inputs:
    """Every way to prepare an image, once, in the order in which they were met."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self.all: list[Preprocess] = []

    def place(self, cfg: Any) -> int:
        """Returns the index of what timm's ``PretrainedCfg`` says about the input."""
        preprocess = Preprocess(
            input_size=tuple(cfg.input_size),
            crop_pct=cfg.crop_pct,
            interpolation=cfg.interpolation,
            mean=tuple(cfg.mean),
            std=tuple(cfg.std),
            crop_mode=cfg.crop_mode,
        )
        if repr(preprocess) not in self._places:
            self._places[repr(preprocess)] = len(self.all)
            self.all.append(preprocess)
        return self._places[repr(preprocess)]


def take(names: list[str] | None = None) -> Snapshot:
    """Returns a snapshot of the installed timm; of the architectures ``names``, by default of all."""
    import timm

    inputs, models, without = Inputs(), {}, []
    names = names or timm.list_models()
    for done, arch in enumerate(names):
        files = files_of(arch, inputs)
        without += [f"{arch}.{tag}" for tag, file in files.items() if file is None]
        models[arch] = _architecture(arch, {tag: file for tag, file in files.items() if file}, inputs)
        if sys.stderr.isatty():
            print(f"\r{done + 1} of {len(names)}", end="", file=sys.stderr)
    return Snapshot(timm.__version__, tuple(inputs.all), models, tuple(without))


def files_of(arch: str, inputs: Inputs) -> dict[str, File | None]:
    """Returns the architecture's weights by tag, in timm's order; None for a tag for which timm names no file."""
    from timm.models import get_arch_pretrained_cfgs

    files: dict[str, File | None] = {}
    for name, cfg in get_arch_pretrained_cfgs(arch).items():
        tag = name.partition(".")[2]
        if not tag:
            continue  # of an architecture without weights
        about: dict[str, Any] = {
            "input": inputs.place(cfg),
            "classes": cfg.num_classes,
            "license": cfg.license or "",
        }
        if cfg.hf_hub_id:
            about["repo"] = "" if cfg.hf_hub_id == f"timm/{name}" else cfg.hf_hub_id
            files[tag] = File(**about, file=cfg.hf_hub_filename or "model.safetensors")
        elif cfg.url:
            files[tag] = File(**about, url=cfg.url)
        else:
            files[tag] = None
    return files


def _architecture(arch: str, weights: dict[str, File], inputs: Inputs) -> Architecture:
    import timm
    import torch

    with torch.device("meta"):
        module = timm.create_model(arch, pretrained=False)
    cfg = timm.get_pretrained_cfg(arch)
    params, place = _count(module), inputs.place(cfg)
    weights = {tag: _counted(arch, tag, file, cfg, params, inputs) for tag, file in weights.items()}
    state = module.state_dict()
    shapes = {name: state[f"{name}.weight"].shape for name in _names(cfg.first_conv)}
    return Architecture(
        params=params,
        input=place,
        classes=cfg.num_classes,
        head=_names(cfg.classifier),
        stem=tuple(name for name, shape in shapes.items() if len(shape) == 4 and shape[1] == cfg.input_size[0]),
        weights=weights,
    )


def _counted(arch: str, tag: str, file: File, default: Any, params: int, inputs: Inputs) -> File:
    """Returns ``file`` with the size of its network, if it has other classes or another input than the
    architecture's.
    """
    import torch

    from zoo_timm.model import build

    size = inputs.all[file.input].input_size
    if (file.classes, size) == (default.num_classes, tuple(default.input_size)):
        return file
    with torch.device("meta"):
        counted = _count(build(arch=arch, tag=tag, num_classes=file.classes, in_chans=size[0]))
    return file if counted == params else msgspec.structs.replace(file, params=counted)


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _names(names: str | list[str] | tuple[str, ...] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def main() -> None:
    import warnings

    warnings.simplefilter("ignore")
    snapshot = take()
    FILE.write_bytes(msgspec.json.encode(snapshot) + b"\n")
    files = [file for model in snapshot.models.values() for file in model.weights.values()]
    print(
        f"\n{FILE}: timm {snapshot.timm}, {len(snapshot.models)} models, {len(files)} weights, "
        f"{sum(bool(file.url) for file in files)} of them pickles; {len(snapshot.without_file)} tags name no file.",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
