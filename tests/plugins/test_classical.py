"""The classical family against the libraries it stands on, closed forms, and what it claims of images."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.reference import photographs
from torch import Tensor, nn

import zoo
from zoo import data
from zoo.data import ImageSet
from zoo.errors import DataError, MissingExtraError, SpecError
from zoo.evaluation import evaluate
from zoo.loading.create import info_of
from zoo.testing import Check, conformance
from zoo.training import by_name, classifiers
from zoo.training.run import Silent
from zoo_classical import heads, plugin
from zoo_classical.codings import CODINGS, BagOfWords, FisherVector, Projection
from zoo_classical.descriptors import DIMENSIONS, Extractor, Local, grid, hog, sift, surf
from zoo_classical.kmeans import CONTRAST, EPSILON, KMeansNet, Triangle, normalize, squared_hinge_svm
from zoo_classical.model import classical

MODELS = {model.name: model for model in plugin.models}
OPTIONS: dict[str, Any] = {"components": 0, "pyramid": (1,), "power": 0.5}


@conformance("classical")
def test_conformance(check: Check) -> None:
    check()


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """uint8 140 140 3."""
    return ((photographs(1, 140)[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Smooth noise, float32 3 3 64 64 in [0, 1]."""
    noise = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(noise, size=64, mode="bicubic").clamp(0, 1)


def locals_of(vectors: Tensor, places: Tensor | None = None) -> list[Local]:
    return [Local(torch.full((len(vectors), 2), 0.5) if places is None else places, vectors)]


def clusters(count: int, dimensions: int, seed: int = 0) -> Tensor:
    """Rows about four centres."""
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(4, dimensions, generator=generator)
    return centres[torch.arange(count) % 4] + torch.randn(count, dimensions, generator=generator)


# ---- Descriptors ----


def test_sift_on_a_grid_is_opencvs_on_the_same_keypoints_as_roots_of_shares(photograph: np.ndarray) -> None:
    import cv2

    gray = np.ascontiguousarray(photograph[..., 1])
    keypoints = [cv2.KeyPoint(float(x), float(y), 16 / 6, 0.0) for y, x in grid(gray.shape, 16, 8)]
    _, expected = cv2.SIFT_create().compute(gray, keypoints)
    places, vectors = sift(gray, 16, 8)
    assert vectors.shape == (256, 128)
    torch.testing.assert_close(vectors, torch.from_numpy(np.sqrt(expected / expected.sum(axis=1, keepdims=True))))
    assert torch.allclose(vectors.square().sum(dim=1), torch.ones(256))  # Hellinger's: of norm 1
    assert torch.allclose(places * 140, torch.tensor([point.pt[::-1] for point in keypoints]))


def test_a_grid_lies_in_the_middle_and_patches_within_the_image() -> None:
    assert grid((32, 32), 16, 8) == [(y, x) for y in (7.5, 15.5, 23.5) for x in (7.5, 15.5, 23.5)]
    assert grid((16, 20), 16, 8) == [(7.5, 9.5)]
    for (height, width), side, step in (((33, 47), 16, 5), ((140, 200), 24, 8)):
        for y, x in grid((height, width), side, step):
            assert side / 2 <= y + 0.5 <= height - side / 2
            assert side / 2 <= x + 0.5 <= width - side / 2


def test_keypoints_are_the_librarys_own(photograph: np.ndarray) -> None:
    import cv2
    from mahotas.features import surf as mahotas_surf

    image = torch.from_numpy(photograph).permute(2, 0, 1)[None] / 255
    gray = (image[0] * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=0).mul(255).round().byte().numpy()
    options: dict[str, Any] = {"sampling": "keypoints", "sides": (16,), "step": 8, "in_chans": 3}
    (local,) = Extractor("sift", **options)(image)
    assert len(local.vectors) == len(cv2.SIFT_create().detect(gray, None)) > 20
    (local,) = Extractor("surf", **options)(image)
    expected = mahotas_surf.surf(gray)
    np.testing.assert_allclose(local.vectors.numpy(), expected[:, 6:], rtol=1e-6)
    np.testing.assert_allclose(local.places.numpy() * 140, expected[:, :2], rtol=1e-5)


def test_surf_on_a_grid_is_mahotas_dense_surf_of_that_scale(photograph: np.ndarray) -> None:
    from mahotas.features import surf as mahotas_surf

    gray = np.ascontiguousarray(photograph[:137, :137, 1])  # so that both grids hold 20, 28, ...
    expected = mahotas_surf.dense(gray, 8, scale=2.0, include_interest_point=True)
    theirs = {(y, x): row for (y, x), row in zip(expected[:, :2].tolist(), expected[:, -64:], strict=True)}
    local = surf(gray, 40, 8)
    assert len(local.vectors) >= 81  # mahotas leaves out those whose patch, turned, would reach over the border
    for (y, x), vector in zip((local.places * 137).round().tolist(), local.vectors.numpy(), strict=True):
        np.testing.assert_allclose(vector, theirs[y, x], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("side", "cell"), [(140, 14), (32, 8)])
def test_hog_is_scikit_images(photograph: np.ndarray, side: int, cell: int) -> None:
    from skimage.feature import hog as skimage_hog

    image = photograph[:side, :side]
    expected = skimage_hog(
        image, orientations=9, pixels_per_cell=(cell, cell), cells_per_block=(2, 2), block_norm="L2-Hys", channel_axis=2
    )
    network = classical(descriptor="hog", step=cell, coding="none", features=len(expected), num_classes=2)
    codes = network.forward_features(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    np.testing.assert_allclose(codes[0].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert len(expected) == ((side // cell - 1) * 6) ** 2
    assert hog(image, cell).vectors.shape == ((side // cell - 1) ** 2, 36)


@pytest.mark.parametrize("descriptor", ["sift", "surf"])
@pytest.mark.parametrize("coding", ["bovw", "vlad", "fisher"])
def test_an_image_without_keypoints_is_a_code_of_zeros(descriptor: str, coding: str) -> None:
    network = classical(descriptor=descriptor, sampling="keypoints", coding=coding, words=4, num_classes=3)
    blank = torch.full((2, 3, 40, 40), 0.5)
    assert [local.vectors.shape for local in network.descriptors(blank)] == [(0, DIMENSIONS[descriptor])] * 2
    codes = network.forward_features(blank)
    assert not codes.any()
    assert network(blank).isfinite().all()


@pytest.mark.parametrize("coding", ["bovw", "vlad", "fisher"])
def test_a_black_image_on_a_grid_has_finite_logits(coding: str) -> None:
    network = classical(coding=coding, words=4, num_classes=3)
    assert network(torch.zeros(1, 3, 40, 40)).isfinite().all()


def test_an_image_too_small_is_refused_with_what_would_fit() -> None:
    with pytest.raises(DataError, match="15 x 40 pixels: the smallest patch is 16 x 16"):
        classical(words=4)(torch.rand(1, 3, 15, 40))
    with pytest.raises(DataError, match="HOG needs 2 cells of 8 pixels a side"):
        classical(descriptor="hog", coding="none", features=36)(torch.rand(1, 3, 15, 40))
    with pytest.raises(DataError, match="6 x 9 pixels: expected at least 7 x 7"):
        KMeansNet(centroids=3)(torch.rand(1, 3, 6, 9))
    assert classical(sides=(16, 24), words=4)(torch.rand(1, 3, 20, 40)).shape == (1, 102)  # one side fits


def test_concatenated_descriptors_ask_for_the_size_they_were_made_for(images: Tensor) -> None:
    network = classical(descriptor="hog", coding="none", features=324, num_classes=2)
    assert network(images[:, :, :32, :32]).shape == (3, 2)
    with pytest.raises(DataError, match="have 1764 numbers, this network was made for 324"):
        network(images)


def test_without_a_library_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, descriptor in (("cv2", "sift"), ("mahotas.features.surf", "surf"), ("skimage.feature", "hog")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtraError, match=r"zoo-vision\[classical\]"):
            classical(descriptor=descriptor, words=2)(torch.rand(1, 3, 40, 40))


# ---- Codings ----


def test_a_bag_of_words_counts_nearest_words() -> None:
    bag = BagOfWords(2, 3, **OPTIONS)
    bag.centroids.copy_(torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]))
    (code,) = bag(locals_of(torch.tensor([[1.0, 1.0], [9.0, 1.0], [0.0, 1.0], [2.0, 0.0]])))
    assert torch.allclose(code, torch.tensor([3 / 4, 1 / 4, 0.0]).sqrt())  # shares, their roots: of norm 1


def test_a_pyramid_counts_the_whole_then_its_quadrants() -> None:
    bag = BagOfWords(1, 2, components=0, pyramid=(1, 2), power=1.0)
    bag.centroids.copy_(torch.tensor([[0.0], [1.0]]))
    places = torch.tensor([[0.1, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 1.0]])  # y, x; the border belongs to the last
    (code,) = bag(locals_of(torch.tensor([[0.0], [1.0], [1.0], [0.0]]), places))
    expected = torch.tensor([2.0, 2, 1, 0, 0, 1, 0, 1, 1, 0])
    assert torch.allclose(code, expected / expected.norm())


def test_vlad_sums_residuals_takes_signed_roots_and_norm_1() -> None:
    vlad = CODINGS["vlad"](2, 2, **OPTIONS)
    vlad.centroids.copy_(torch.tensor([[0.0, 0.0], [10.0, 0.0]]))
    (code,) = vlad(locals_of(torch.tensor([[1.0, -2.0], [3.0, -2.0], [9.0, 0.0]])))
    residuals = torch.tensor([4.0, -4.0, -1.0, 0.0])
    roots = residuals.sign() * residuals.abs().sqrt()
    assert torch.allclose(code, roots / roots.norm())


@pytest.mark.parametrize("words", [1, 8])
def test_fisher_vectors_are_scikit_images(words: int) -> None:
    """Whose variances' part has the other sign, and whose mixture weights' part the improved vector does without."""
    from skimage.feature import fisher_vector
    from sklearn.mixture import GaussianMixture

    fisher = FisherVector(6, words, components=0, pyramid=(1,), power=1.0)
    fisher.learn(clusters(400, 6), seed=0)
    mixture = GaussianMixture(words, covariance_type="diag")
    mixture.weights_, mixture.means_ = fisher.weights.double().numpy(), fisher.means.double().numpy()
    mixture.weights_ /= mixture.weights_.sum()
    mixture.covariances_ = fisher.variances.double().numpy()
    mixture.precisions_cholesky_ = 1 / np.sqrt(mixture.covariances_)
    x = clusters(30, 6, seed=1)
    expected = fisher_vector(x.double().numpy(), mixture)[words:]
    expected[words * 6 :] *= -1
    got = fisher.encode(x) / len(x)
    np.testing.assert_allclose(got.numpy(), expected, rtol=2e-3, atol=1e-5)
    (code,) = fisher(locals_of(x))
    np.testing.assert_allclose(code.numpy(), expected / np.linalg.norm(expected), rtol=2e-3, atol=1e-5)


def test_principal_components_are_uncorrelated_and_the_largest_first() -> None:
    sample = clusters(500, 5) @ torch.diag(torch.tensor([1.0, 5, 2, 1, 0.1])) + 3
    projection = Projection(5, 3)
    projection.learn(sample, seed=0)
    covariance = projection(sample).T.cov()
    values = torch.linalg.eigvalsh(sample.T.cov()).flip(0)[:3]
    torch.testing.assert_close(covariance, torch.diag(values), rtol=1e-3, atol=1e-2)


def test_codebooks_find_the_clusters_and_follow_the_seed() -> None:
    sample = clusters(400, 5)
    centres = torch.stack([sample[start::4].mean(dim=0) for start in range(4)])
    fisher = CODINGS["fisher"](5, 4, **OPTIONS)
    fisher.learn(sample, seed=0)
    assert torch.cdist(centres, fisher.means).amin(dim=1).max() < 0.2
    first, again, other = (BagOfWords(5, 12, **OPTIONS) for _ in range(3))
    for bag, seed in ((first, 0), (again, 0), (other, 1)):
        bag.learn(sample, seed)
    assert torch.equal(first.centroids, again.centroids)
    assert not torch.equal(first.centroids, other.centroids)
    with pytest.raises(DataError, match="3 descriptors were found, too few for 12 words"):
        first.learn(sample[:3], seed=0)


# ---- Classifiers ----


@pytest.fixture(params=[2, 3])
def labelled(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor, Tensor]:
    """Features and labels to learn from, features to answer for."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % request.param
    spread = torch.tensor([1, 10, 0.1, 1, 2.0])
    features = torch.randn(90, 5, generator=generator) * spread + labels[:, None] + 3
    return features, labels, torch.randn(200, 5, generator=generator) * spread + 4


@pytest.mark.parametrize(("name", "kind"), [("linear_svm", "LinearSvm"), ("rbf_svm", "RbfSvm")])
def test_margins_are_scikit_learns(labelled: tuple[Tensor, Tensor, Tensor], name: str, kind: str) -> None:
    features, labels, others = labelled
    weight_decay = 0.002
    machine = getattr(classifiers, kind)(C=1 / (weight_decay * len(features)), standardize=False)
    estimator = machine.build().fit(features.double().numpy(), labels.numpy())
    expected = torch.from_numpy(estimator.decision_function(others.double().numpy()))
    if expected.ndim == 1:  # of two classes, the second's
        expected = torch.stack([-expected, expected], dim=1)
    head = build(name, 5, int(labels.max()) + 1).learn(features, labels, weight_decay)
    torch.testing.assert_close(head(others).detach().double(), expected, rtol=2e-3, atol=2e-3)
    assert np.array_equal(head(others).argmax(dim=1), estimator.predict(others.double().numpy()))


def test_neighbours_are_scikit_learns(labelled: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, others = labelled
    estimator = classifiers.Neighbours(n_neighbors=7, weights="distance").build().fit(features.numpy(), labels.numpy())
    head = build("knn", 5, int(labels.max()) + 1, neighbours=7).learn(features, labels, 1)
    shares = 7 * torch.from_numpy(estimator.predict_proba(others.numpy())) + 1
    expected = (shares / shares.sum(dim=1, keepdim=True)).log()
    torch.testing.assert_close(head(others).detach().double(), expected, rtol=1e-3, atol=1e-3)
    assert np.array_equal(head(others).argmax(dim=1), estimator.predict(others.numpy()))


@pytest.mark.parametrize(("depth", "leaf"), [(0, 1), (3, 1), (0, 5)])
def test_a_tree_is_scikit_learns(labelled: tuple[Tensor, Tensor, Tensor], depth: int, leaf: int) -> None:
    features, labels, others = labelled
    grown = classifiers.Tree(max_depth=depth or None, min_samples_leaf=leaf).build().fit(features, labels)
    head = build("tree", 5, int(labels.max()) + 1, depth=depth, leaf=leaf).learn(features, labels, 1)
    assert isinstance(head, heads.Tree)
    assert torch.equal(head.leaves(others), torch.from_numpy(grown.apply(others.numpy())))
    assert head.held == grown.tree_.node_count
    if depth or leaf > 1:
        return  # of an impure leaf the first of equals is anyone's
    assert np.array_equal(head(others).argmax(dim=1), grown.predict(others.numpy()))


def test_a_tree_sends_what_equals_a_threshold_to_scikit_learns_side() -> None:
    """Its thresholds are double: rounded up, as this one to an even number, one would let the larger number pass."""
    features = torch.tensor([[4 + 2**-21], [4 + 2**-20]])  # neighbours among float32
    head = build("tree", 1, 2).learn(features, torch.tensor([0, 1]), 1)
    assert head(features).argmax(dim=1).tolist() == [0, 1]


@pytest.mark.parametrize("name", ["linear_svm", "rbf_svm", "knn", "tree"])
def test_a_class_without_images_is_never_answered(name: str) -> None:
    labels = torch.tensor([0, 2, 4])[torch.arange(60) % 3]
    features = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)) + 4 * torch.eye(5)[labels]
    head = build(name, 5, 6).learn(features, labels, 0.01)
    assert set(head(features).argmax(dim=1).tolist()) == {0, 2, 4}


@pytest.mark.parametrize("name", ["knn", "tree"])
def test_softmax_of_logits_is_the_share_of_votes_with_one_more_for_each_class(name: str) -> None:
    features, labels = torch.tensor([[0.0], [0.1], [5.0], [5.1], [5.2]]), torch.tensor([0, 0, 1, 1, 1])
    head = build(name, 1, 2, neighbours=2).learn(features, labels, 1)
    votes = {"knn": (2, 2), "tree": (2, 3)}[name]
    shares = head(torch.tensor([[0.05], [5.3]])).softmax(dim=1)
    expected = torch.tensor([[votes[0] + 1, 1], [1, votes[1] + 1]]) / (torch.tensor(votes)[:, None] + 2)
    torch.testing.assert_close(shares.detach(), expected)


def build(name: Any, features: int, classes: int, **changes: int) -> heads.Head:
    return heads.build(name, features, classes, 1, {"neighbours": 5, "depth": 0, "leaf": 1, **changes})


# ---- k-means features ----


def test_patches_are_normalised_as_the_authors_print_it() -> None:
    patch = torch.rand(4, 108)
    numbers = 255 * patch.double().numpy()
    expected = (numbers - numbers.mean(axis=1, keepdims=True)) / np.sqrt(numbers.var(axis=1, ddof=1)[:, None] + 10)
    np.testing.assert_allclose(normalize(patch).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert CONTRAST == 10
    assert not normalize(torch.full((1, 108), 0.3)).abs().max() > 1e-5


def test_whitened_patches_have_identity_covariance_up_to_epsilon(images: Tensor) -> None:
    """Of P = (C + eps)^(-1/2): P C P + eps P P is the identity."""
    network = KMeansNet(centroids=5, samples=2000, passes=2)
    patches = network.sample(images, 1000, torch.Generator().manual_seed(0))
    network.learn_features(patches, seed=0)
    covariance = network.triangle.whiten(patches).double().T.cov(correction=0)
    matrix = network.triangle.whitening.matrix.double()
    torch.testing.assert_close(
        covariance + EPSILON * matrix @ matrix, torch.eye(108, dtype=torch.float64), atol=2e-3, rtol=0
    )


def test_triangle_activation_is_the_closed_form_summed_over_quadrants(images: Tensor) -> None:
    triangle = Triangle(7, in_chans=3)
    image = images[:1, :, :11, :14]
    got = triangle(image).detach()
    assert got.shape == (1, 7, 2, 2)
    centroids = triangle.centroids.detach().double().numpy()
    expected = np.zeros((7, 2, 2))
    for row in range(6):
        for column in range(9):
            patch = 255 * image[0, :, row : row + 6, column : column + 6].double().numpy().flatten()
            patch = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 10)  # the whitening of a new network is none
            z = np.sqrt(((patch - centroids) ** 2).sum(axis=1))
            expected[:, int(row >= 3), int(column >= 5)] += np.maximum(0, z.mean() - z)
    np.testing.assert_allclose(got[0].numpy(), expected, rtol=2e-3, atol=1e-3)


def test_centroids_are_clusters_of_whitened_patches(images: Tensor) -> None:
    network = KMeansNet(centroids=6, samples=600, passes=20)
    patches = network.sample(images, 200, torch.Generator().manual_seed(0))
    windows = nn.functional.unfold(images, 6).transpose(1, 2).flatten(0, 1)
    assert torch.cdist(patches, windows).amin(dim=1).max() < 1e-2  # they are patches
    network.learn_features(patches, seed=0)
    white, centroids = network.triangle.whiten(patches), network.triangle.centroids.detach()
    nearest = torch.cdist(white, centroids).argmin(dim=1)
    means = torch.stack([white[nearest == word].mean(dim=0) for word in range(6)])
    assert (means - centroids).norm() < 0.1 * centroids.norm()
    with pytest.raises(DataError, match="5 patches cannot have 6 centroids"):
        network.learn_features(patches[:5], seed=0)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_svm_by_lbfgs_reaches_the_optimum_of_liblinear(classes: int) -> None:
    """With a bias that is a weight like the others, the two have the same objective."""
    from sklearn.svm import LinearSVC

    generator, labels = torch.Generator().manual_seed(0), torch.arange(120) % classes
    x = torch.randn(120, 6, generator=generator) + labels[:, None] * torch.rand(6, generator=generator)
    weight, bias = squared_hinge_svm(x.double(), labels, classes, 0.1, steps=200)
    for label in range(classes):
        exact = LinearSVC(C=1 / (0.1 * 120), tol=1e-10, max_iter=100_000, dual=True).fit(x.double(), labels == label)
        np.testing.assert_allclose(weight[label].numpy(), exact.coef_[0], rtol=2e-2, atol=2e-3)
        np.testing.assert_allclose(float(bias[label]), exact.intercept_[0], rtol=2e-2, atol=2e-3)


def test_standardisation_is_folded_into_the_linear_layer() -> None:
    network, labels = KMeansNet(centroids=2, num_classes=3), torch.arange(60) % 3
    features = torch.randn(60, 8) * torch.tensor([1, 10, 0.1, 1, 2, 5, 1, 1.0]) + labels[:, None] + 3
    network.learn_head(features, labels, weight_decay=0.1)
    standard = (features - features.mean(dim=0)) / (features.var(dim=0) + 0.01).sqrt()
    weight, bias = squared_hinge_svm(standard, labels, 3, 0.1, steps=200)
    torch.testing.assert_close(network.fc(features).detach(), standard @ weight.T + bias, rtol=1e-3, atol=1e-3)


def test_the_svms_have_as_many_iterations_as_the_network_says() -> None:
    features, labels = torch.randn(300, 80, generator=torch.Generator().manual_seed(0)), torch.arange(300) % 3
    errors = []
    for steps in (1, 5, 50):
        network = KMeansNet(centroids=20, num_classes=3, steps=steps)
        network.learn_head(features, labels, weight_decay=0.001)
        signs = 2.0 * nn.functional.one_hot(labels, 3) - 1
        errors.append(float((1 - signs * network.fc(features).detach()).clamp_min(0).square().sum()))
    assert errors[0] > 1.05 * errors[1] > errors[2]


# ---- Training ----

SMALL: dict[str, dict[str, Any]] = {
    "sift_bovw_svm": {"words": 20},
    "sift_bovw_rbf": {"words": 20},
    "sift_bovw_knn": {"words": 20},
    "sift_bovw_tree": {"words": 20},
    "sift_spm_svm": {"words": 8, "pyramid": [1, 2]},
    "sift_vlad_svm": {"words": 4},
    "sift_fisher_svm": {"words": 4, "components": 8},
    "surf_bovw_svm": {"words": 8, "sampling": "grid", "sides": [16]},
    "hog_svm": {},
    "hog_rbf": {},
    "kmeans_svm": {"centroids": 20, "samples": 2000, "passes": 3},
}


def learn(name: str, images: ImageSet, output: Path, **options: Any) -> nn.Module:
    options.setdefault("args", {"samples": 1000, **SMALL[name]})
    settings = {"seed": 3, "input_size": 64 if "surf" in name else 32, **options.pop("settings", {})}
    return by_name.train(name, images, settings=settings, output=output, device="cpu", display=Silent(), **options)


QUICK = ("sift_bovw_knn", "hog_svm", "kmeans_svm")
"""A histogram of words with neighbours, HOG and k-means; the other combinations are slow."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in SMALL]
)
def test_digits_are_learnt_by_every_combination_and_its_file_fits(name: str, tmp_path: Path) -> None:
    digits = data.load("digits", "train")
    trained = learn(name, digits.subset(torch.arange(200), "train"), tmp_path / "run")
    few = data.load("digits", "test").subset(torch.arange(100), "test")
    network = zoo.create(name, weights=tmp_path / "run" / "model.safetensors").eval()
    report = evaluate(network, few, preprocess=info_of(network).preprocess)
    assert report.top1 > {"sift_bovw_tree": 30, "sift_bovw_knn": 50, "surf_bovw_svm": 30}.get(name, 60)  # chance is 10
    for (key, before), after in zip(trained.state_dict().items(), network.state_dict().values(), strict=True):
        assert torch.equal(before, after), key
    assert json.loads((tmp_path / "run" / "log.jsonl").read_text())["train_top1"] > report.top1 - 10


@pytest.mark.slow
def test_the_file_says_how_large_the_classifier_became(tmp_path: Path) -> None:
    digits = data.load("digits", "train").subset(torch.arange(150), "train")
    learn("hog_rbf", digits, tmp_path / "run", settings={"validation": 30})
    network = zoo.create("hog_rbf", weights=tmp_path / "run" / "model.safetensors")
    args = info_of(network).args
    assert args["features"] == network.num_features == 324
    assert 30 < args["held"] <= 120
    log = json.loads((tmp_path / "run" / "log.jsonl").read_text())
    assert log["val_top1"] > 50
    assert json.loads((tmp_path / "run" / "config.json").read_text())["args"].get("held") == 1530  # as asked for


def test_a_codebook_of_other_images_is_kept_where_training_starts_from_it(tmp_path: Path) -> None:
    digits = data.load("digits", "train")
    before = learn("sift_bovw_svm", digits.subset(torch.arange(40), "train"), tmp_path / "a")
    start = tmp_path / "a" / "model.safetensors"
    after = learn("sift_bovw_svm", digits.subset(torch.arange(40, 100), "train"), tmp_path / "b", args={}, init=start)
    assert torch.equal(before.state_dict()["coding.centroids"], after.state_dict()["coding.centroids"])
    assert not torch.equal(before.state_dict()["head.weight"], after.state_dict()["head.weight"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"descriptor": "orb"}, "descriptor = 'orb'"),
        ({"coding": "llc"}, "coding = 'llc'"),
        ({"classifier": "forest"}, "classifier = 'forest'"),
        ({"sampling": "random"}, "sampling = 'random'"),
        ({"descriptor": "hog", "sampling": "keypoints"}, "HOG is taken on a grid"),
        ({"coding": "none", "sampling": "keypoints"}, "of keypoints there are more or fewer"),
        ({"coding": "none"}, "features = 0"),
        ({"words": 0}, "words = 0"),
        ({"components": 200}, "0 to 128 components"),
        ({"sides": []}, r"sides = \[\]"),
        ({"classifier": "knn", "neighbours": 0}, "neighbours = 0"),
    ],
)
def test_an_argument_that_makes_no_network_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        classical(**arguments)
    with pytest.raises(SpecError, match="centroids = 0"):
        KMeansNet(centroids=0)
