"""Other classifiers on a network's features: SVMs, nearest neighbours, trees.

scikit-learn does the fitting. A setting that a classifier lacks suggests the nearest; none is ever
chosen by looking at test images.
"""

import logging
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Literal

import msgspec
from torch import Tensor

from zoo.errors import MissingExtraError, RecipeError, UnknownNameError

log = logging.getLogger("zoo")

Positive = Annotated[int, msgspec.Meta(ge=1)]
Strength = Annotated[float, msgspec.Meta(gt=0, le=1e12)]


class LinearSvm(msgspec.Struct, frozen=True):
    """One against the rest, squared hinge loss (Fan et al. 2008, LIBLINEAR)."""

    C: Strength = 1.0
    """Weight of the loss against the squared norm."""
    max_iter: Positive = 1000
    standardize: bool = True
    """Whether each feature gets mean 0 and variance 1 first."""

    def build(self) -> Any:
        from sklearn.svm import LinearSVC

        return _scaled(LinearSVC(C=self.C, max_iter=self.max_iter, random_state=0), self.standardize)


class RbfSvm(msgspec.Struct, frozen=True):
    """One against the rest, hinge loss, a Gaussian kernel (Chang and Lin 2011, LIBSVM)."""

    C: Strength = 1.0
    """Weight of the loss against the squared norm."""
    gamma: Strength | None = None
    """Gamma of exp(-gamma |x - y|^2); by default 1 / (dimensions x the variance of all features' values)."""
    standardize: bool = True
    """Whether each feature gets mean 0 and variance 1 first."""

    def build(self) -> Any:
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.svm import SVC

        return _scaled(OneVsRestClassifier(SVC(C=self.C, gamma=self.gamma or "scale")), self.standardize)


class Logistic(msgspec.Struct, frozen=True):
    """Softmax regression on standardised features: the optimum of a linear probe."""

    C: Strength = 1.0
    """Weight of the loss, summed over images, against half the squared norm."""
    max_iter: Positive = 1000

    def build(self) -> Any:
        from sklearn.linear_model import LogisticRegression

        return _scaled(LogisticRegression(C=self.C, max_iter=self.max_iter))


class Neighbours(msgspec.Struct, frozen=True):
    """Majority vote of the nearest training images."""

    n_neighbors: Positive = 5
    weights: Literal["uniform", "distance"] = "uniform"
    metric: Literal["cosine", "euclidean", "manhattan"] = "euclidean"

    def build(self) -> Any:
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(self.n_neighbors, weights=self.weights, metric=self.metric)


class Tree(msgspec.Struct, frozen=True):
    """A decision tree (CART), grown until its leaves are pure unless a setting stops it."""

    criterion: Literal["entropy", "gini"] = "gini"
    max_depth: Positive | None = None
    min_samples_leaf: Positive = 1
    seed: int = 0
    """Seed that decides between equally good splits."""

    def build(self) -> Any:
        from sklearn.tree import DecisionTreeClassifier

        return DecisionTreeClassifier(
            criterion=self.criterion,
            max_depth=self.max_depth,
            min_samples_leaf=self.min_samples_leaf,
            random_state=self.seed,
        )


Classifier = LinearSvm | RbfSvm | Logistic | Neighbours | Tree
CLASSIFIERS: dict[str, type[Classifier]] = {
    "linear_svm": LinearSvm,
    "rbf_svm": RbfSvm,
    "logistic": Logistic,
    "knn": Neighbours,
    "tree": Tree,
}


def configure(name: str, settings: Mapping[str, Any] | None = None) -> Classifier:
    """Returns the classifier ``name`` with ``settings``, as values or as text.

    Raises :class:`UnknownNameError` for an unknown name or setting, with the nearest, and
    :class:`RecipeError` for a value that is not valid.
    """
    kind = CLASSIFIERS.get(name)
    if kind is None:
        raise UnknownNameError.of("classifier", name, CLASSIFIERS, hint=f"Available: {', '.join(CLASSIFIERS)}.")
    fields = kind.__struct_fields__
    for key in settings or {}:
        if key not in fields:
            raise UnknownNameError.of(f"setting of {name}", key, fields, hint=f"Available: {', '.join(fields)}.")
    try:
        return msgspec.convert(dict(settings or {}), kind, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise RecipeError(f"{name}: {path.rstrip('`')}: {message}.") from None


def fit(name: str, classifier: Classifier, features: Tensor, labels: Tensor) -> Any:
    """Fits scikit-learn's estimator of ``classifier``, called ``name``, to ``features`` N D and ``labels`` N.

    Raises :class:`MissingExtraError` without scikit-learn and :class:`RecipeError` if it cannot be fitted.
    """
    require_sklearn(f"Classifier {name}")
    from sklearn.exceptions import ConvergenceWarning

    estimator = classifier.build()
    with warnings.catch_warnings(record=True, category=ConvergenceWarning) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        try:
            estimator.fit(features.numpy(), labels.numpy())
        except ValueError as error:
            raise RecipeError(f"{name} cannot be fitted to {len(features)} images: {error}") from None
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        limit = getattr(classifier, "max_iter", None)  # not every classifier has one
        log.warning("%s has not converged within max_iter = %s", name, limit)
    return estimator


def require_sklearn(what: str) -> None:
    """Raises :class:`MissingExtraError` for ``what`` if scikit-learn is not installed."""
    if find_spec("sklearn") is None:
        raise MissingExtraError.of(what, "scikit-learn", "zoo-vision[data]")


def _scaled(estimator: Any, standardize: bool = True) -> Any:
    """Puts a StandardScaler before ``estimator``, which has no effect unless ``standardize``."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(with_mean=standardize, with_std=standardize), estimator)
