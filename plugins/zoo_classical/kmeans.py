"""A single layer of features learnt by k-means, and a linear SVM.

Coates, Lee, Ng 2011, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning" (AISTATS), sections
3 and 4; what the paper leaves open is as in the authors' published program.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.data import ZCA
from zoo.errors import DataError
from zoo.modules import ImageClassifier, check_positive
from zoo.training.classifiers import require_sklearn
from zoo_classical.descriptors import is_traced

SIDE = 6
"""The side of a patch, in pixels."""
CONTRAST = 10.0
"""Added to the variance of a patch, in squares of 256 grey levels, before its root divides it."""
EPSILON = 0.1
"""Added to the eigenvalues of the patches' covariance in whitening."""
FLOOR = 0.01
"""Added to a feature's variance before its root divides it."""


class Triangle(nn.Module):
    """The lead of each centroid over the mean in nearness to each patch, summed over the four quadrants of the image.

    Patches 6x6 at every place are normalised and whitened; with z_k the distance of one to ``centroids`` k,
    f_k = max(0, mean of z - z_k). ``centroids`` K D are learnable: nothing here that a gradient could not pass.
    """

    def __init__(self, centroids: int, in_chans: int) -> None:
        super().__init__()
        self.shape = (in_chans, SIDE, SIDE)
        self.whitening = ZCA(self.shape)
        self.centroids = nn.Parameter(torch.empty(centroids, in_chans * SIDE * SIDE))
        nn.init.normal_(self.centroids)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images B C H W in [0, 1] to B K 2 2. Raises :class:`DataError` where there are not four patches."""
        is_symbolic = isinstance(x, torch.fx.Proxy)  # torch.fx traces any size
        if not is_symbolic and min(x.shape[-2:]) <= SIDE:
            raise DataError(
                f"An image of {x.shape[-2]} x {x.shape[-1]} pixels: expected at least {SIDE + 1} x {SIDE + 1}, "
                f"for a patch of {SIDE} x {SIDE} in every quadrant."
            )
        squares = self.centroids.square().sum(dim=1)
        if is_symbolic or is_traced():  # a loop would fix the number of images
            return self._quadrants(x, squares)
        # What one image takes fits into a processor's cache.
        return torch.cat([self._quadrants(image, squares) for image in torch.split(x, 1)])

    def _quadrants(self, x: Tensor, squares: Tensor) -> Tensor:
        """Maps B C H W to B K 2 2."""
        rows, columns = x.shape[-2] - SIDE + 1, x.shape[-1] - SIDE + 1
        dimensions, centroids = self.centroids.shape[1], self.centroids.shape[0]
        patches = self.whiten(F.unfold(x, SIDE).mT.reshape(-1, dimensions)).view(-1, rows, columns, dimensions)
        middle, centre = (rows + 1) // 2, (columns + 1) // 2
        sums = [
            self._nearness(part.reshape(-1, dimensions), squares)
            .view(-1, part.shape[1], part.shape[2], centroids)
            .sum((1, 2))
            for half in (patches[:, :middle], patches[:, middle:])
            for part in (half[:, :, :centre], half[:, :, centre:])
        ]
        return torch.stack(sums, dim=2).view(-1, centroids, 2, 2)

    def _nearness(self, patches: Tensor, squares: Tensor) -> Tensor:
        """Maps whitened patches P D to P K."""
        products = torch.addmm(squares, patches, self.centroids.T, alpha=-2)
        distances = (products + patches.square().sum(dim=1, keepdim=True)).clamp_min(1e-12).sqrt()
        return F.relu(distances.mean(dim=1, keepdim=True) - distances)

    def whiten(self, patches: Tensor) -> Tensor:
        """Patches P D of values in [0, 1] to P D, normalised and whitened."""
        whitened: Tensor = self.whitening(normalize(patches).view(-1, *self.shape)).flatten(1)
        return whitened


def normalize(patches: Tensor) -> Tensor:
    """Patches ... D of values in [0, 1], less their mean, over their deviation: (x - mean) / sqrt(var + 10)."""
    variance, mean = torch.var_mean(255 * patches, dim=-1, keepdim=True)
    return (255 * patches - mean) / (variance + CONTRAST).sqrt()


class KMeansNet(ImageClassifier):
    """``triangle``, whose sums over quadrants a linear layer ``fc`` reads.

    ``samples`` and ``passes`` are how many patches k-means learns from, and how often it sees them; the SVMs have at
    most ``steps`` iterations, in the authors' program 1,000.
    """

    def __init__(
        self,
        *,
        centroids: int = 1600,
        samples: int = 400_000,
        passes: int = 50,
        steps: int = 200,
        num_classes: int = 10,
        in_chans: int = 3,
    ) -> None:
        check_positive(centroids=centroids, samples=samples, passes=passes, steps=steps)
        super().__init__()
        self.triangle = Triangle(centroids, in_chans)
        self.samples, self.passes, self.steps = samples, passes, steps
        self.num_features = 4 * centroids
        self.note_stage("triangle", centroids, 16)
        self.reset_classifier(num_classes)

    @property
    def learned(self) -> dict[str, object]:
        """Build arguments that training decides on: none."""
        return {}

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images B C H W in [0, 1] to B 4K."""
        pooled: Tensor = self.triangle(x)
        return pooled.flatten(1)

    def sample(self, images: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Returns ``count`` patches of each image at random places, P D of values in [0, 1]."""
        patches = F.unfold(images, SIDE).transpose(1, 2)  # B places D
        places = torch.randint(patches.shape[1], (len(images), count), generator=generator).to(images.device)
        return torch.take_along_dim(patches, places[:, :, None], dim=1).flatten(0, 1)

    def learn_features(self, patches: Tensor, seed: int) -> None:
        """Learns whitening and centroids from ``patches`` P D; raises :class:`DataError` where they are too few."""
        require_sklearn("k-means")
        from sklearn.cluster import KMeans

        centroids = self.triangle.centroids
        if len(patches) < len(centroids):
            raise DataError(f"{len(patches)} patches cannot have {len(centroids)} centroids.", hint="Raise samples.")
        fitted = ZCA.fit(normalize(patches).view(-1, *self.triangle.shape), EPSILON)
        self.triangle.whitening.load_state_dict(fitted.state_dict())
        kmeans = KMeans(len(centroids), init="random", n_init=1, max_iter=self.passes, tol=0, random_state=seed)
        kmeans.fit(self.triangle.whiten(patches).cpu().numpy())
        with torch.no_grad():
            centroids.copy_(torch.from_numpy(kmeans.cluster_centers_))

    def learn_head(self, features: Tensor, labels: Tensor, weight_decay: float) -> None:
        """Fits ``fc``: one-vs-all linear SVMs of standardized ``features`` N 4K, by L-BFGS as in the authors' program.

        (x - mean) / std . w + b becomes x . (w / std) + (b - mean . w / std).
        """
        fc = self.get_classifier()
        assert isinstance(fc, nn.Linear)  # as built for classes
        variance, mean = torch.var_mean(features, dim=0)
        std = (variance + FLOOR).sqrt()
        standardized = (features - mean) / std
        weight, bias = squared_hinge_svm(standardized, labels, self.num_classes, weight_decay, steps=self.steps)
        with torch.no_grad():
            fc.weight.copy_(weight / std)
            fc.bias.copy_(bias - (weight / std) @ mean)


def squared_hinge_svm(
    x: Tensor, labels: Tensor, classes: int, weight_decay: float, *, steps: int
) -> tuple[Tensor, Tensor]:
    """Weights C D and biases C that minimise weight_decay / 2 |w|^2 + mean of sum over classes of hinge^2.

    hinge = max(0, 1 - y f) with y = 1 for an image's class and -1 for the others; ``x`` is N D. As in the
    authors' program the bias is a weight like the others, of a feature that is always 1.
    """
    signs = 2.0 * F.one_hot(labels, classes).to(x) - 1
    w = torch.zeros(classes, x.shape[1] + 1, dtype=x.dtype, device=x.device)
    best = torch.optim.LBFGS(
        [w], max_iter=steps, max_eval=2 * steps, tolerance_grad=1e-6, tolerance_change=1e-6, history_size=20,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    @torch.no_grad()
    def loss_and_gradient() -> Tensor:
        margins = (1 - signs * torch.addmm(w[:, -1], x, w[:, :-1].T)).clamp_min(0)  # N C
        pull = signs * margins * (-2 / len(x))
        slope = torch.cat([pull.T @ x, pull.sum(dim=0)[:, None]], dim=1)
        w.grad = weight_decay * w + slope
        return margins.square().sum() / len(x) + weight_decay / 2 * w.square().sum()

    best.step(loss_and_gradient)
    return w[:, :-1], w[:, -1]
