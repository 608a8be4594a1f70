"""A data set's images as a network's input."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import overload

import torch
from torch import Tensor

from zoo.data.decode import to_pixels
from zoo.data.fingerprint import Fingerprint
from zoo.data.image_set import Images, ImageSet
from zoo.data.preprocess import Transform


@overload
def batches(
    data: ImageSet,
    transform: Transform,
    batch_size: int,
    fingerprint: Fingerprint | None = None,
    images: range | None = None,
) -> Iterator[tuple[Tensor, Tensor]]: ...
@overload
def batches(
    data: Images, transform: Transform, batch_size: int, fingerprint: None = None, images: range | None = None
) -> Iterator[tuple[Tensor, None]]: ...
def batches(
    data: ImageSet | Images,
    transform: Transform,
    batch_size: int,
    fingerprint: Fingerprint | None = None,
    images: range | None = None,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Prepares a data set's images for a network, in order.

    Images that are not in memory are decoded in threads, one batch ahead.

    Args:
        data: The images.
        transform: How images are prepared.
        batch_size: Images in a batch. The last one may be smaller.
        fingerprint: Takes in pixels and labels of images that are decoded here, which saves decoding them again.
        images: The numbers of the images. By default all.

    Returns:
        An iterator over (images float32 B C H W, labels int64 B), or (images, None) if ``data`` has no labels.

    Raises:
        DataError: An image is damaged.

    Example:
        >>> import zoo
        >>> transform = zoo.preprocess(zoo.create("resnet20.digits"))
        >>> images, labels = next(zoo.evaluation.batches(zoo.data.load("digits"), transform, 32))
        >>> images.shape
        torch.Size([32, 1, 8, 8])
    """
    images = range(len(data)) if images is None else images
    parts = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    labels = None if isinstance(data, Images) else data.labels
    if data.pixels is not None:
        for part in parts:
            chosen = slice(part.start, part.stop)
            yield transform.batch(data.pixels[chosen]), None if labels is None else labels[chosen]
        return

    def prepare(index: int) -> tuple[Tensor, Tensor]:
        image = data.image(index)
        return transform(image), to_pixels(image)

    if not parts:
        return
    with ThreadPoolExecutor() as pool:
        coming = pool.map(prepare, parts[0])
        for part, following in zip(parts, [*parts[1:], range(0)], strict=True):
            current, coming = coming, pool.map(prepare, following)
            inputs = []
            for index, (image, pixels) in zip(part, current, strict=True):
                inputs.append(image)
                if fingerprint is not None and labels is not None:
                    fingerprint.add(pixels[None], labels[index : index + 1])
            yield torch.stack(inputs), None if labels is None else labels[part.start : part.stop]
