"""Codings: of an image's local descriptors, however many, as one vector.

Csurka et al. 2004, "Visual Categorization with Bags of Keypoints"; Jegou et al. 2010, "Aggregating local descriptors
into a compact image representation"; Perronnin, Sanchez, Mensink 2010, "Improving the Fisher Kernel for Large-Scale
Image Classification"; Lazebnik, Schmid, Ponce 2006, "Beyond Bags of Features".
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import DataError, SpecError
from zoo.training.classifiers import require_sklearn
from zoo_classical.descriptors import Local

PASSES = 100
"""Steps of k-means and of expectation maximisation, at most."""


class Projection(nn.Module):
    """Principal components: ``(x - mean) @ matrix``, D to ``components``. Buffers: no gradient reaches them."""

    def __init__(self, dimensions: int, components: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.matrix: Tensor
        self.register_buffer("mean", nn.init.zeros_(torch.empty(dimensions)))
        self.register_buffer("matrix", nn.init.eye_(torch.empty(dimensions, components)))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) @ self.matrix

    def learn(self, sample: Tensor, seed: int) -> None:
        from sklearn.decomposition import PCA

        pca = PCA(self.matrix.shape[1], svd_solver="covariance_eigh", random_state=seed).fit(sample.cpu().numpy())
        self.mean.copy_(torch.from_numpy(pca.mean_))
        self.matrix.copy_(torch.from_numpy(pca.components_.T))


class Coding(nn.Module):
    """A :class:`Local` an image to a vector an image, B ``num_features``.

    ``pyramid`` (1, 2) takes the whole image and its four quadrants, one after the other, in the order of a text.
    What comes out has its signed power ``power`` taken and norm 1; an image, or a region, without descriptors is 0.
    With ``components``, descriptors are projected first.
    """

    def __init__(self, dimensions: int, words: int, *, components: int, pyramid: Sequence[int], power: float) -> None:
        super().__init__()
        if words < 1 or not 0 <= components <= dimensions or not pyramid or min(pyramid) < 1 or not 0 < power <= 1:
            raise SpecError(
                f"words = {words}, components = {components}, pyramid = {list(pyramid)}, power = {power}: expected "
                f"at least one word, 0 to {dimensions} components, levels from 1 on, a power in (0, 1]."
            )
        self.words, self.pyramid, self.power = words, tuple(pyramid), power
        self.dimensions = components or dimensions
        self.projection: nn.Module = Projection(dimensions, components) if components else nn.Identity()
        self.declare()

    def declare(self) -> None:
        """Makes the codebook's buffers, of noise."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Values a region."""
        raise NotImplementedError

    @property
    def num_features(self) -> int:
        return self.size * sum(level**2 for level in self.pyramid)

    def forward(self, descriptors: Sequence[Local]) -> Tensor:
        return torch.stack([self._code(*local) for local in descriptors])

    def _code(self, places: Tensor, vectors: Tensor) -> Tensor:
        vectors = self.projection(vectors)
        regions = []
        for level in self.pyramid:
            y, x = (places * level).long().clamp(0, level - 1).unbind(1)
            regions += [self.encode(vectors[y * level + x == index]) for index in range(level**2)]
        shares = torch.cat(regions) / max(1, len(vectors))
        return F.normalize(shares.sign() * shares.abs() ** self.power, dim=0)

    def encode(self, x: Tensor) -> Tensor:
        """Returns the sum over descriptors N D of what each says, ``size``."""
        raise NotImplementedError

    def learn(self, sample: Tensor, seed: int) -> None:
        """Learns the codebook from descriptors N D; raises :class:`DataError` where they are too few."""
        require_sklearn("A codebook")
        if len(sample) < max(self.words, self.dimensions):
            raise DataError(
                f"{len(sample)} descriptors were found, too few for {self.words} words of {self.dimensions} numbers.",
                hint="Raise samples, or take fewer words and components.",
            )
        if isinstance(self.projection, Projection):
            self.projection.learn(sample, seed)
        self.learn_words(self.projection(sample), seed)

    def learn_words(self, sample: Tensor, seed: int) -> None:
        raise NotImplementedError


class _Words(Coding):
    """``centroids`` K D of k-means."""

    centroids: Tensor

    def declare(self) -> None:
        self.register_buffer("centroids", nn.init.normal_(torch.empty(self.words, self.dimensions)))

    def nearest(self, x: Tensor) -> Tensor:
        """Returns the word, int64 N, of each descriptor N D."""
        return torch.addmm(self.centroids.square().sum(dim=1), x, self.centroids.T, alpha=-2).argmin(dim=1)

    def learn_words(self, sample: Tensor, seed: int) -> None:
        from sklearn.cluster import KMeans

        kmeans = KMeans(self.words, init="random", n_init=1, max_iter=PASSES, random_state=seed)
        self.centroids.copy_(torch.from_numpy(kmeans.fit(sample.cpu().numpy()).cluster_centers_))


class BagOfWords(_Words):
    """The number of descriptors nearest to each word: K a region."""

    @property
    def size(self) -> int:
        return self.words

    def encode(self, x: Tensor) -> Tensor:
        return torch.bincount(self.nearest(x), minlength=self.words).to(x.dtype)


class VLAD(_Words):
    """The sum of what lies between a word and the descriptors that are nearest to it: K D a region."""

    @property
    def size(self) -> int:
        return self.words * self.dimensions

    def encode(self, x: Tensor) -> Tensor:
        word = self.nearest(x)
        return torch.zeros_like(self.centroids).index_add_(0, word, x - self.centroids[word]).flatten()


class FisherVector(Coding):
    """The slope of a Gaussian mixture's log-likelihood at its means and variances, K D each, a region.

    With posteriors g of a descriptor x and mixture weights w: g (x - mean) / (sigma sqrt(w)), then
    g ((x - mean)^2 / sigma^2 - 1) / sqrt(2 w).
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    def declare(self) -> None:
        shape = self.words, self.dimensions
        self.register_buffer("weights", nn.init.constant_(torch.empty(self.words), 1 / self.words))
        self.register_buffer("means", nn.init.normal_(torch.empty(shape)))
        self.register_buffer("variances", nn.init.ones_(torch.empty(shape)))

    @property
    def size(self) -> int:
        return 2 * self.words * self.dimensions

    def posteriors(self, x: Tensor) -> Tensor:
        """Returns how likely each component, N K, is to have given each descriptor N D."""
        precisions = 1 / self.variances
        constant = self.weights.log() - 0.5 * (self.variances.log() + self.means.square() * precisions).sum(dim=1)
        logs = constant + x @ (self.means * precisions).T - 0.5 * x.square() @ precisions.T
        return logs.softmax(dim=1)

    def encode(self, x: Tensor) -> Tensor:
        g = self.posteriors(x)
        count, first, second = g.sum(dim=0)[:, None], g.T @ x, g.T @ x.square()  # K 1, K D, K D
        about_mean = first - count * self.means
        spread = second - 2 * first * self.means + count * (self.means.square() - self.variances)
        root = self.weights.sqrt()[:, None]
        slopes = about_mean / (root * self.variances.sqrt()), spread / (math.sqrt(2) * root * self.variances)
        return torch.stack(slopes).flatten()

    def learn_words(self, sample: Tensor, seed: int) -> None:
        from sklearn.mixture import GaussianMixture

        mixture = GaussianMixture(
            self.words, covariance_type="diag", reg_covar=1e-5, max_iter=PASSES, init_params="k-means++",
            random_state=seed,
        ).fit(sample.cpu().double().numpy())  # fmt: skip
        self.weights.copy_(torch.from_numpy(mixture.weights_))
        self.means.copy_(torch.from_numpy(mixture.means_))
        self.variances.copy_(torch.from_numpy(mixture.covariances_))


class Concatenation(nn.Module):
    """All descriptors one after the other, B ``num_features``: for grids, on images of one size."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        if num_features < 1:
            raise SpecError(f"features = {num_features}: expected how many numbers an image's descriptors have.")
        self.num_features = num_features

    def forward(self, descriptors: Sequence[Local]) -> Tensor:
        rows = [vectors.flatten() for _, vectors in descriptors]
        if {len(row) for row in rows} != {self.num_features}:
            raise DataError(
                f"The images' descriptors have {len(rows[0])} numbers, this network was made for {self.num_features}.",
                hint="It takes images of one size: that of its preprocessing.",
            )
        return torch.stack(rows)


CodingName = Literal["bovw", "vlad", "fisher", "none"]
CODINGS: dict[str, type[Coding]] = {"bovw": BagOfWords, "vlad": VLAD, "fisher": FisherVector}
