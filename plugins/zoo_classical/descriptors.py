"""Local descriptors of an image, by the libraries that keep them.

Lowe 2004, "Distinctive Image Features from Scale-Invariant Keypoints" (OpenCV); Arandjelovic and Zisserman 2012,
"Three things everyone should know to improve object retrieval" (RootSIFT); Bay, Tuytelaars, Van Gool 2006, "SURF:
Speeded Up Robust Features" (mahotas); Dalal and Triggs 2005, "Histograms of Oriented Gradients for Human
Detection" (scikit-image).

Each function here takes uint8 H W (H W C for HOG) and gives :class:`Local`.
"""

import importlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from zoo.errors import DataError, MissingExtraError, SpecError, WeightsError
from zoo.modules import check_choice, luma_weights

Descriptor = Literal["sift", "surf", "hog"]
Sampling = Literal["grid", "keypoints"]

DIMENSIONS = {"sift": 128, "surf": 64, "hog": 36}
SIFT_BINS = 4
"""Along a side of SIFT's patch."""
SIFT_BIN = 1.5
"""Side of one of them over a keypoint's size in OpenCV, where a size is a diameter."""
SURF_SIDE = 20
"""The side of SURF's patch, in units of its scale."""
ORIENTATIONS, BLOCK = 9, 2
"""HOG's bins over half a turn, and cells along a side of a block."""


class Local(NamedTuple):
    """Descriptors of one image: ``vectors`` float32 N D and their ``places``, (y, x) in [0, 1], float32 N 2.

    In the order of a text where they lie on a grid.
    """

    places: Tensor
    vectors: Tensor


class Extractor(nn.Module):
    """Maps images B C H W in [0, 1] to a :class:`Local` for each, on their device.

    ``sides`` are those of the patches in pixels and ``step`` the grid's, for SIFT and SURF; ``keypoints`` are
    those of the library's detector, whatever their size, and may be none. HOG has blocks of 2x2 cells of ``step``
    pixels, at every cell. Nothing here is learnt, and no gradient passes.
    """

    def __init__(
        self, descriptor: Descriptor, *, sampling: Sampling, sides: Sequence[int], step: int, in_chans: int
    ) -> None:
        super().__init__()
        check_choice("descriptor", descriptor, DIMENSIONS)
        check_choice("sampling", sampling, get_args(Sampling))
        if step < 1 or not sides or min(sides) < 1:
            raise SpecError(f"step = {step}, sides = {list(sides)}: expected positive numbers of pixels.")
        if descriptor == "hog" and sampling == "keypoints":
            raise SpecError("HOG is taken on a grid: sampling = 'keypoints' means nothing for it.")
        self.descriptor, self.sampling, self.sides, self.step = descriptor, sampling, tuple(sides), step
        self.dimensions = DIMENSIONS[descriptor]
        self.luma: Tensor
        self.register_buffer("luma", luma_weights(in_chans), persistent=False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> list[Local]:
        if is_traced():  # the descriptors would become constants
            raise WeightsError(f"{self.descriptor} is computed outside torch: it cannot be traced or exported.")
        if self.descriptor != "hog":
            x = (x * self.luma).sum(dim=1, keepdim=True)
        pixels = (255 * x).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()  # B H W C
        return [Local(*(part.to(x.device) for part in self._describe(image))) for image in pixels]

    def _describe(self, image: Any) -> Local:
        if self.descriptor == "hog":
            return hog(image, self.step)
        image = np.ascontiguousarray(image[..., 0])
        describe = sift if self.descriptor == "sift" else surf
        if self.sampling == "keypoints":
            return describe(image)
        fitting = [side for side in self.sides if side <= min(image.shape)]
        if not fitting:
            raise DataError(
                f"An image of {image.shape[0]} x {image.shape[1]} pixels: the smallest patch is "
                f"{min(self.sides)} x {min(self.sides)}.",
                hint="Use a larger --set input_size=N, or smaller patches: --arg sides=[8].",
            )
        scales = [describe(image, side, self.step) for side in fitting]
        return Local(*map(torch.cat, zip(*scales, strict=True)))


def sift(image: Any, side: int = 0, step: int = 0) -> Local:
    """Builds RootSIFT: upright, of patches of ``side`` pixels every ``step``; without a side, at SIFT's own
    keypoints."""
    cv2 = _library("cv2", "opencv-python-headless")
    cv2.setNumThreads(torch.get_num_threads())
    extractor = cv2.SIFT_create()
    if side:
        size = side / (SIFT_BINS * SIFT_BIN)
        points = [cv2.KeyPoint(x, y, size, 0.0) for y, x in grid(image.shape, side, step)]
        points, vectors = extractor.compute(image, points)
    else:
        points, vectors = extractor.detectAndCompute(image, None)
    if not points or vectors is None:
        return _nothing("sift")
    vectors = torch.from_numpy(np.asarray(vectors, np.float32))
    root = (vectors / vectors.sum(dim=1, keepdim=True).clamp_min(1)).sqrt()  # of a flat patch, 0
    return Local(_places([(point.pt[1], point.pt[0]) for point in points], image), root)


def surf(image: Any, side: int = 0, step: int = 0) -> Local:
    """Builds SURF: of patches of ``side`` pixels every ``step``, with the direction that each has; else at its
    keypoints."""
    features = _library("mahotas.features.surf", "mahotas")
    if side:
        centres = grid(image.shape, side, step)
        points = np.array([(y, x, side / SURF_SIDE, 1.0, 1.0) for y, x in centres])
        described = features.descriptors(image, points, descriptor_only=False)
    else:
        described = features.surf(image)
    if not len(described):
        return _nothing("surf")
    return Local(_places(described[:, :2], image), torch.from_numpy(described[:, -64:].astype(np.float32)))


def hog(image: Any, cell: int) -> Local:
    """Builds HOG: blocks of 2x2 cells of ``cell`` pixels, nine unsigned orientations, clipped L2 norms (L2-Hys).

    Of colours, each pixel counts with the channel whose gradient is strongest.
    """
    skimage = _library("skimage.feature", "scikit-image")
    if min(image.shape[:2]) < BLOCK * cell:
        raise DataError(
            f"An image of {image.shape[0]} x {image.shape[1]} pixels: HOG needs {BLOCK} cells of {cell} pixels a side.",
            hint="Use a larger --set input_size=N, or smaller cells: --arg step=4.",
        )
    blocks = skimage.hog(
        image, ORIENTATIONS, (cell, cell), (BLOCK, BLOCK), "L2-Hys", channel_axis=-1, feature_vector=False
    )
    rows, columns = blocks.shape[:2]
    centres = [(cell * (y + 1), cell * (x + 1)) for y in range(rows) for x in range(columns)]
    return Local(_places(centres, image), torch.from_numpy(blocks.reshape(rows * columns, -1).astype(np.float32)))


def grid(shape: Sequence[int], side: int, step: int) -> list[tuple[float, float]]:
    """Centres (y, x) of patches that lie within an image of this ``shape``, every ``step`` pixels, in the middle."""
    axes = []
    for length in shape[:2]:
        count = (length - side) // step + 1
        first = (length - 1 - (count - 1) * step) / 2
        axes.append([first + step * index for index in range(count)])
    return [(y, x) for y in axes[0] for x in axes[1]]


def is_traced() -> bool:
    """Returns whether torch follows the operations, to trace, export or compile them."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]  # torch's
    return tracing or torch.compiler.is_compiling()


def _places(centres: Any, image: Any) -> Tensor:
    size = torch.tensor(image.shape[:2], dtype=torch.float32)
    return torch.as_tensor(np.asarray(centres), dtype=torch.float32) / size


def _nothing(descriptor: str) -> Local:
    return Local(torch.empty(0, 2), torch.empty(0, DIMENSIONS[descriptor]))


def _library(module: str, distribution: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError.of("This descriptor", distribution, "zoo-vision[classical]") from None
