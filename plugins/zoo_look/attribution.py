"""Attribution: which pixels of an image support a class.

Each method says what published checks found: Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018
(arXiv:1810.03292), replaced a network's weights by random ones, layer by layer from the top, and looked whether
its maps changed. A method whose maps do not change shows the image, not the network.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import MissingExtraError, SpecError, UnknownNameError, WeightsError
from zoo.loading.create import require_classes
from zoo_look.maps import show
from zoo_look.network import (
    Guided,
    Picture,
    Rectifiers,
    as_input,
    as_pixels,
    check_channel,
    downward,
    name_of,
    opened,
    submodule,
    titles_of,
)
from zoo_look.result import Look, new_figure
from zoo_look.top_patches import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# ---- Methods: from a network, inputs B C H W and targets B -----------------------------------------------------------


def gradient(network: nn.Module, inputs: Tensor, targets: Tensor, layer: str = "") -> Tensor:
    """Computes the gradient of each image's target logit by its input, B C H W."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = inputs.detach().clone().requires_grad_()
        logits = network(leaf.clone())  # the first layer may work in place
        return downward(logits, leaf, F.one_hot(targets, logits.shape[1]).to(logits), "")


def input_x_gradient(network: nn.Module, inputs: Tensor, targets: Tensor, layer: str = "") -> Tensor:
    return inputs * gradient(network, inputs, targets)


def guided_backprop(network: nn.Module, inputs: Tensor, targets: Tensor, layer: str = "") -> Tensor:
    """Raises :class:`WeightsError` for a network without a ReLU."""
    with Rectifiers(Guided) as seen:
        found = gradient(network, inputs, targets)
    if not seen.relus:
        raise WeightsError(f"{name_of(network)} has no ReLU, so guided backpropagation would equal the gradient.")
    return found


def grad_cam(network: nn.Module, inputs: Tensor, targets: Tensor, layer: str) -> Tensor:
    """Returns B h w: the positive part of the layer's maps, each weighed by its mean gradient."""
    with torch.inference_mode(False), torch.enable_grad(), _cut_off(network, layer) as kept:
        logits = network(inputs)
        if not kept or kept[-1].ndim != 4:
            raise WeightsError(f"{layer} does not output maps, which Grad-CAM needs.")
        maps = kept[-1]
        slope = downward(logits, maps, F.one_hot(targets, logits.shape[1]).to(logits), "")
        return (slope.mean((2, 3), keepdim=True) * maps.detach()).sum(1).relu()


def guided_grad_cam(network: nn.Module, inputs: Tensor, targets: Tensor, layer: str) -> Tensor:
    cam = enlarged(grad_cam(network, inputs, targets, layer), inputs.shape[2:])
    return guided_backprop(network, inputs, targets) * cam[:, None]


def occlusion(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    window: int | None = None,
    stride: int | None = None,
    fill: float = 0.0,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Tensor:
    """Returns B H W: for each pixel the mean, over the windows that hold it, of the logit's fall when the window is
    covered.
    """
    height, width = inputs.shape[2:]
    window = max(1, min(height, width) // 8) if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if not (1 <= stride <= window <= min(height, width)):
        raise SpecError(f"window = {window}, stride = {stride}: expected 1 <= stride <= window <= the image's side.")
    rows, columns = (range(0, side - window + stride, stride) for side in (height, width))
    places = [(slice(row, row + window), slice(column, column + window)) for row in rows for column in columns]
    total = torch.zeros(len(inputs), height, width, device=inputs.device)
    seen = torch.zeros(height, width, device=inputs.device)
    at_once = max(1, batch_size // len(inputs))
    with torch.no_grad():
        before = network(inputs).gather(1, targets[:, None])
        for first in range(0, len(places), at_once):
            windows = places[first : first + at_once]
            covered = inputs.repeat(len(windows), 1, 1, 1, 1)  # windows B C H W
            for images, (down, right) in zip(covered, windows, strict=True):
                images[:, :, down, right] = fill
            after = network(covered.flatten(0, 1)).gather(1, targets.repeat(len(windows))[:, None])
            for fall, (down, right) in zip(before - after.view(len(windows), -1, 1), windows, strict=True):
                total[:, down, right] += fall[:, :, None]
                seen[down, right] += 1
            if progress is not None:
                progress(min(first + at_once, len(places)), len(places))
    return total / seen


def enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Enlarges B h w to B H W, bilinearly."""
    return F.interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]


@contextmanager
def _cut_off(network: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    """Makes the outputs of ``layer`` the start of the graph: no gradient goes further down."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, _: object, output: object) -> object:
        if not isinstance(output, Tensor):
            raise WeightsError(f"{layer} outputs {type(output).__name__}, not maps.")
        kept.append(output.detach().clone().requires_grad_())
        return kept[-1].clone()  # what comes next may work in place

    handle = submodule(network, layer).register_forward_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


def integrated_gradients(
    network: nn.Module, inputs: Tensor, targets: Tensor, samples: int, noise: float, seed: int
) -> Tensor:
    with _captum() as attr, torch.enable_grad():
        found: Tensor = attr.IntegratedGradients(network).attribute(
            inputs, target=targets, n_steps=samples, internal_batch_size=64
        )
    return found.detach()


def smooth_grad(network: nn.Module, inputs: Tensor, targets: Tensor, samples: int, noise: float, seed: int) -> Tensor:
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    with _captum() as attr, torch.random.fork_rng(devices=devices), torch.enable_grad():
        torch.manual_seed(seed)
        tunnel = attr.NoiseTunnel(attr.Saliency(network))
        scores: Tensor = tunnel.attribute(
            inputs, nt_type="smoothgrad", nt_samples=samples, stdevs=noise, target=targets, abs=False
        )
    return scores.detach()


@contextmanager
def _captum() -> Iterator[Any]:
    import warnings

    try:
        from captum import attr
    except ImportError:
        raise MissingExtraError.of("This attribution", "captum", "zoo-vision[look]") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it asks inputs for gradients, which we want
        yield attr


BY_GRADIENT: dict[str, Callable[[nn.Module, Tensor, Tensor, str], Tensor]] = {
    "grad_cam": grad_cam,
    "gradient": gradient,
    "guided_backprop": guided_backprop,
    "guided_grad_cam": guided_grad_cam,
    "input_x_gradient": input_x_gradient,
}
BY_CAPTUM: dict[str, Callable[[nn.Module, Tensor, Tensor, int, float, int], Tensor]] = {
    "integrated_gradients": integrated_gradients,
    "smooth_grad": smooth_grad,
}


# ---- Attribution -----------------------------------------------------------------------------------------------------

_PASSES = "passes: its maps change when upper layers are random"
_FAILS = "fails: its maps hardly change when upper layers are random, so they show the image's edges, not the class"
_IMAGE = "mixed: its values change with random weights, but multiplying by the input keeps the image's outlines visible"
_AVERAGED = "not tested by itself; it averages gradients, which pass"
_UNTESTED = "not tested; it measures the network's outputs directly"

METHODS = {
    "grad_cam": _PASSES,
    "gradient": _PASSES,
    "guided_backprop": _FAILS,
    "guided_grad_cam": _FAILS,
    "input_x_gradient": _IMAGE,
    "integrated_gradients": _IMAGE,
    "occlusion": _UNTESTED,
    "smooth_grad": _AVERAGED,
}
"""The methods, and the result of Adebayo et al. 2018 for each."""


@dataclass(frozen=True, eq=False)
class Attribution(Look):
    """``scores`` of ``images`` float32 B C H W in [0, 1] for the classes ``targets``, by ``method``.

    Scores are float32 B C H W for methods that go back to the input, in units of logits; B h w of the layer's map for
    ``grad_cam``; B H W for ``occlusion``: by how much a pixel's windows, covered, lower the logit on average.
    ``verdict`` is that of Adebayo et al. 2018.
    """

    method: str
    verdict: str
    targets: tuple[int, ...]
    classes: tuple[str, ...]
    logits: Tensor
    scores: Tensor
    images: Tensor

    def heat(self) -> Tensor:
        """Returns B H W at the images' size, for the eye: the largest magnitude over channels; maps enlarged
        bilinearly."""
        if self.scores.ndim == 4:
            return self.scores.abs().amax(1)
        return enlarged(self.scores, self.images.shape[2:])

    def facts(self) -> dict[str, Any]:
        rows = zip(self.targets, self.classes, self.logits.tolist(), self.scores.flatten(1), strict=True)
        return {
            "method": self.method,
            "sanity check (Adebayo et al. 2018)": self.verdict,
            "shape": list(self.scores.shape[1:]),
            "images": [
                {"target": target, "class": name, "logit": logit, "min": float(row.min()), "max": float(row.max())}
                for target, name, logit, row in rows
            ],
        }

    def figure(self) -> "Figure":
        """Returns a row per image: the image, the scores, both."""
        figure = new_figure(5.4, 1.9 * len(self.images) + 0.6, f"{self.caption}\n{self.verdict}")
        axes = figure.subplots(len(self.images), 3, squeeze=False)
        for row, image, heat, name in zip(axes, self.images, self.heat(), self.classes, strict=True):
            show(row[0], image)
            row[0].set_title(name, fontsize=7, pad=2)
            top = float(heat.abs().max())
            if self.scores.ndim == 4:  # single pixels stand out so far that the others would be black
                top = float(heat.abs().quantile(0.995)) or top
            top = top or 1.0
            style = (
                {"cmap": "inferno", "vmin": 0, "vmax": top}
                if heat.min() >= 0
                else {"cmap": "RdBu", "vmin": -top, "vmax": top}
            )
            for axis in row[1:]:
                axis.set_axis_off()
            row[1].imshow(heat.numpy(), interpolation="nearest", **style)
            row[2].imshow(image.mean(0).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            row[2].imshow(heat.numpy(), alpha=0.6, interpolation="bilinear", **style)
        return figure


def attribute(
    model: str | nn.Module,
    image: Picture,
    method: str = "grad_cam",
    target: int | Sequence[int] | None = None,
    *,
    layer: str | None = None,
    window: int | None = None,
    stride: int | None = None,
    fill: float = 0.0,
    samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
    batch_size: int = 32,
    progress: Progress | None = None,
    **args: Any,
) -> Attribution:
    """Finds which pixels of an image support a class.

    The methods are ``occlusion`` (Zeiler and Fergus 2013), ``grad_cam`` (Selvaraju et al. 2016), ``gradient`` (Simonyan
    et al. 2013), ``input_x_gradient``, ``guided_backprop`` (Springenberg et al. 2014) and ``guided_grad_cam``; with
    captum also ``integrated_gradients`` (from the mean image) and ``smooth_grad``.

    Args:
        model: A name, for which trained weights are used, or a network that :func:`zoo.create` returned.
        image: A file, a Pillow image, or the network's input as a tensor, C H W or B C H W.
        method: The method.
        target: The class, or one for each image. By default the class with the largest logit.
        layer: The layer of Grad-CAM. By default the last default layer with maps.
        window: Side in pixels of the square that ``occlusion`` covers.
        stride: Pixels between two squares.
        fill: Value of the square in the normalised input; 0 is the mean image.
        samples: Steps of ``integrated_gradients``, or draws of ``smooth_grad``.
        noise: Standard deviation of the noise of ``smooth_grad``, in units of the normalised input.
        seed: Decides the noise.
        batch_size: Covered images per forward pass.
        progress: Called with (covered images done, in all).
        args: ``device``, and, if ``model`` is a name, ``weights`` and arguments of the family's build function.

    Returns:
        A score for each pixel, with a figure.

    Raises:
        UnknownNameError: There is no such method, layer or class.
        WeightsError: The network has no classes, no maps or no gradient.
        MissingExtraError: The method needs captum, which is not installed.

    Example:
        >>> import zoo
        >>> image = zoo.data.load("digits", "test").image(0)
        >>> zoo.look.attribute("resnet20.digits", image, "gradient").method
        'gradient'
    """
    if method not in METHODS:
        raise UnknownNameError.of("method", method, METHODS, hint=f"Available: {', '.join(METHODS)}.")
    with opened(model, **args) as network:
        require_classes(network)
        inputs = as_input(network, image)
        with torch.no_grad():
            logits = network(inputs)
        targets = _targets(logits, target)
        if method == "occlusion":
            scores = occlusion(network, inputs, targets, window, stride, fill, batch_size, progress)
        elif method in BY_CAPTUM:
            scores = BY_CAPTUM[method](network, inputs, targets, samples, noise, seed)
        else:
            layer = layer or (_map_layer(network, inputs) if "cam" in method else "")
            scores = BY_GRADIENT[method](network, inputs, targets, layer)
    titles = titles_of(network, "", logits.shape[1])
    return Attribution(
        f"{name_of(network)}: {method}" + (f" at {layer}" if layer else ""),
        method,
        METHODS[method],
        tuple(targets.tolist()),
        tuple(titles[i] if titles[i] != str(i) else f"class {i}" for i in targets.tolist()),
        logits.float().cpu().gather(1, targets.cpu()[:, None])[:, 0],
        scores.float().cpu(),
        as_pixels(network, inputs),
    )


def _map_layer(network: nn.Module, inputs: Tensor) -> str:
    """Returns the last default layer, or stage of a network without, whose output maps have more than one pixel."""
    stages = [] if getattr(network, "output_fmt", "") == "NHWC" else getattr(network, "feature_info", ())
    layers = getattr(network, "default_layers", ()) or [stage["module"] for stage in stages]
    sizes: dict[str, tuple[int, ...]] = {}
    handles = []
    try:
        for name in layers:

            def keep(module: nn.Module, _: object, output: object, name: str = name) -> None:
                sizes[name] = tuple(output.shape) if isinstance(output, Tensor) else ()

            handles.append(submodule(network, name).register_forward_hook(keep))
        with torch.no_grad():
            network(inputs[:1])
    finally:
        for handle in handles:
            handle.remove()
    names = [name for name, size in sizes.items() if len(size) == 4 and size[2] * size[3] > 1]
    if not names:
        raise WeightsError(
            f"No stage of {name_of(network)} outputs maps B C H W, which Grad-CAM needs.",
            hint="Choose another method, such as occlusion, or a layer (--layer): zoo look layers lists them.",
        )
    return names[-1]


def _targets(logits: Tensor, target: int | Sequence[int] | None) -> Tensor:
    if target is None:
        return logits.argmax(1)
    chosen = [target] * len(logits) if isinstance(target, int) else list(target)
    if len(chosen) != len(logits):
        raise SpecError(f"{len(chosen)} targets for {len(logits)} images.")
    return torch.tensor([check_channel(t, logits.shape[1], "the logits") for t in chosen], device=logits.device)
