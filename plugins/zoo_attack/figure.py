"""Figures of attacks, drawn with matplotlib; the same data gives the same SVG."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.errors import MissingExtraError, SpecError
from zoo_attack.patch import Patch
from zoo_attack.pictures import Picture
from zoo_attack.robustness import Curve

SUFFIXES = (".svg", ".png", ".webp", ".pdf")
COLORS = ("#12355b", "#c05746", "#3a7d44", "#8a5a9e", "#b8860b", "#5b6770")
STYLES = {"random_sign": ":", "fgsm": "--", "pgd": "-", "pgd_l2": "-", "autoattack": "-."}
LABELS = {
    "random_sign": "random signs",
    "fgsm": "FGSM",
    "pgd": "PGD",
    "pgd_l2": "PGD in L2",
    "autoattack": "AutoAttack",
}


def draw_curves(curves: Sequence[Curve], file: Path) -> None:
    """Draws robust accuracy over epsilon: one colour per network, one line style per attack, bars of 95% intervals."""
    units = 1 if any(curve.method.norm == "l2" for curve in curves) else 255
    with _figure(file, (7, 4.6)) as figure:
        panel = figure.subplots()
        names = list(dict.fromkeys(curve.weights or curve.model for curve in curves))
        for curve in curves:
            name, method = curve.weights or curve.model, curve.method.name
            heights = [point.accuracy for point in curve.points]
            # Rounding may put an end of the interval past the value itself, which matplotlib refuses.
            below = [max(0.0, point.accuracy - point.interval[0]) for point in curve.points]
            above = [max(0.0, point.interval[1] - point.accuracy) for point in curve.points]
            panel.errorbar(
                [units * point.epsilon for point in curve.points],
                heights,
                yerr=[below, above],
                color=COLORS[names.index(name) % len(COLORS)],
                linestyle=STYLES[method],
                marker="o",
                ms=3,
                lw=1.4,
                elinewidth=0.8,
                capsize=2,
                label=f"{name}, {LABELS.get(method, method)}{_steps(curve)}",
            )
        unit = "L2 norm, pixels in [0, 1]" if units == 1 else "of 255"
        panel.set(xlabel=f"epsilon ({unit})", ylabel="right, %", ylim=(0, 100))
        panel.grid(color="#eeeeee")
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=8)
        figure.supxlabel(_caption(curves), fontsize=7, color="#555555")


def draw_picture(picture: Picture, file: Path, *, caption: str = "") -> None:
    """Draws the image, what was added to it, and their sum, each with the network's prediction."""
    with _figure(file, (8, 3.2)) as figure:
        panels = figure.subplots(1, 3)
        added = f"{LABELS.get(picture.method.name, picture.method.name)}, {255 * picture.epsilon:.3g}/255 (scaled)"
        titles = (str(picture.before), added, str(picture.after))
        pixels = (picture.image, picture.change, picture.attacked)
        for panel, title, image in zip(panels, titles, pixels, strict=True):
            _show(panel, image, title)
        figure.supxlabel(caption, fontsize=7, color="#555555")


def draw_patch(patch: Patch, images: Tensor, titles: Sequence[str], file: Path, *, caption: str = "") -> None:
    """Draws the patch, and ``images`` B C H W with it, each with the network's prediction."""
    with _figure(file, (1.2 * (len(images) + 1), 2.0)) as figure:
        panels = figure.subplots(1, len(images) + 1)
        shown = patch.pixels * patch.mask + (1 - patch.mask)  # on white
        for panel, image, title in zip(panels, [shown, *images], ["the patch", *titles], strict=True):
            _show(panel, image, title)
        figure.supxlabel(caption, fontsize=7, color="#555555")


def check_suffix(file: Path) -> None:
    """Raises :class:`SpecError` for a file type that cannot be drawn."""
    if file.suffix not in SUFFIXES:
        raise SpecError(f"{file} is not a valid figure file: expected the suffix {', '.join(SUFFIXES)}.")


def require_matplotlib() -> None:
    """Raises :class:`MissingExtraError` if matplotlib is missing, before the work and not after it."""
    try:
        import matplotlib  # noqa: F401  # only whether it is there
    except ImportError:
        raise MissingExtraError.of("Drawing", "matplotlib", "zoo-vision[look]") from None


@contextmanager
def _figure(file: Path, size: tuple[float, float]) -> Iterator[Any]:
    """Yields a figure that is written to ``file`` atomically at the end."""
    import io

    from zoo.system import storage

    check_suffix(file)
    require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    yield figure
    written = io.BytesIO()
    # By default, an SVG contains random names and the time.
    with matplotlib.rc_context({"svg.hashsalt": "zoo"}):
        settings: dict[str, dict[str, Any]] = {
            ".png": {},
            ".webp": {"dpi": 110, "pil_kwargs": {"quality": 35}},  # small, for a page
            ".svg": {"metadata": {"Date": None}},
            ".pdf": {"metadata": {"CreationDate": None}},
        }
        figure.savefig(written, format=file.suffix[1:], **{"dpi": 150, **settings[file.suffix]})
    storage.replace(file, written.getvalue())


def _caption(curves: Sequence[Curve]) -> str:
    """Returns the images, their number, and the version of Zoo."""
    sets = dict.fromkeys(f"{curve.n:,} images of {curve.dataset}/{curve.split}" for curve in curves)
    prints = dict.fromkeys(curve.fingerprint[:19] for curve in curves)
    by = dict.fromkeys(f"zoo {curve.versions['zoo']}, torch {curve.versions['torch']}" for curve in curves)
    return f"{'; '.join(sets)} ({', '.join(prints)}); bars: 95%; {'; '.join(by)}"


def _steps(curve: Curve) -> str:
    return f"-{curve.method.steps}" if curve.method.name.startswith("pgd") else ""


def _show(panel: Any, image: Tensor, title: str) -> None:
    panel.imshow(_as_array(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    panel.set_title(title, fontsize=8)
    panel.axis("off")


def _as_array(image: Tensor) -> Any:
    """Returns H W C, or H W of a grey image, for matplotlib."""
    array = image.detach().cpu().permute(1, 2, 0).numpy()
    return array[..., 0] if array.shape[2] == 1 else array
