"""Classifiers whose whole state is tensors; scikit-learn fits them, torch answers.

Each has ``weight``, one row per class, and ``held``, how many training images, support vectors or nodes it keeps.
``learn`` takes features N D and labels N, and returns another of its kind for as many as that needs.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.modules import check_choice
from zoo.training import classifiers
from zoo.training.one_pass import fit_linear_svm, set_rows

ClassifierName = Literal["linear_svm", "rbf_svm", "knn", "tree"]


class LinearSvm(nn.Linear):
    """One against the rest: margins B N."""

    held = 0

    def learn(self, features: Tensor, labels: Tensor, weight_decay: float) -> "LinearSvm":
        """Fits with C = 1 / (``weight_decay`` x images): ``weight_decay`` / 2 weighs the squared norm against the mean
        loss.

        Codes have norm 1 and are taken as they are: standardised, a rare word would weigh as much as a common one.
        """
        set_rows(self, *fit_linear_svm(features, labels, 1 / (weight_decay * len(features))))
        return self


class RbfSvm(nn.Module):
    """One against the rest with a Gaussian kernel: sum of ``weight`` exp(-``gamma`` |x - v|^2) over ``support`` v."""

    def __init__(self, num_features: int, num_classes: int, held: int) -> None:
        super().__init__()
        self.held = held
        self.weight = nn.Parameter(nn.init.normal_(torch.empty(num_classes, held)))
        self.bias = nn.Parameter(nn.init.zeros_(torch.empty(num_classes)))
        self.support: Tensor
        self.gamma: Tensor
        self.register_buffer("support", nn.init.normal_(torch.empty(held, num_features)))
        self.register_buffer("gamma", nn.init.constant_(torch.empty(()), 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Features B D to margins B N."""
        kernel = torch.exp(-self.gamma * torch.cdist(x, self.support).square())  # B held
        return kernel @ self.weight.T + self.bias

    def learn(self, features: Tensor, labels: Tensor, weight_decay: float) -> "RbfSvm":
        """Fits with C as in :class:`LinearSvm`; gamma is 1 / (D x the variance of all values)."""
        gamma = 1 / (features.shape[1] * float(features.double().var(correction=0)))
        chosen = classifiers.RbfSvm(C=1 / (weight_decay * len(features)), gamma=gamma, standardize=False)
        _, rest = classifiers.fit("rbf_svm", chosen, features.double(), labels)
        machines = rest.estimators_
        signs = [-1.0, 1.0] if len(machines) == 1 else [1.0] * len(machines)  # of two classes, the second's alone
        machines = machines * 2 if len(machines) == 1 else machines
        support = torch.tensor(sorted({index for machine in machines for index in machine.support_.tolist()}))
        head = RbfSvm(features.shape[1], len(self.weight), len(support))
        with torch.no_grad():
            head.support.copy_(features[support])
            head.gamma.fill_(gamma)
            head.weight.zero_()
            head.bias.fill_(-1)
            for sign, label, machine in zip(signs, rest.classes_, machines, strict=True):
                place = torch.searchsorted(support, torch.from_numpy(machine.support_).long())
                head.weight[label, place] = sign * torch.from_numpy(machine.dual_coef_[0]).to(head.weight)
                head.bias[label] = sign * float(machine.intercept_[0])
        return head.to(self.weight.device)


class Neighbours(nn.Module):
    """The classes of the ``count`` nearest training images, each with a vote of 1 / its distance.

    Logits are logarithms of shares, so that softmax gives shares.
    """

    def __init__(self, num_features: int, num_classes: int, held: int, count: int) -> None:
        super().__init__()
        self.held, self.count = held, count
        self.weight = nn.Parameter(nn.init.ones_(torch.empty(num_classes, held)))
        """1 where an image is of a class, else 0."""
        self.images: Tensor
        self.register_buffer("images", nn.init.normal_(torch.empty(held, num_features)))

    def forward(self, x: Tensor) -> Tensor:
        """Features B D to B N."""
        distances, nearest = torch.cdist(x, self.images).topk(min(self.count, self.held), dim=1, largest=False)
        votes = 1 / distances.clamp_min(1e-6)
        shares = votes / votes.sum(dim=1, keepdim=True)  # B k
        return log_shares((self.weight.T[nearest] * shares[:, :, None]).sum(dim=1) * shares.shape[1])

    def learn(self, features: Tensor, labels: Tensor, weight_decay: float) -> "Neighbours":
        """Keeps all; ``weight_decay`` has no effect."""
        head = Neighbours(features.shape[1], len(self.weight), len(features), self.count)
        with torch.no_grad():
            head.images.copy_(features)
            head.weight.zero_()
            head.weight[labels, torch.arange(len(labels))] = 1
        return head.to(self.weight.device)


class Tree(nn.Module):
    """A decision tree: a node asks whether ``features[node]`` is at most ``thresholds[node]``, and sends to one of
    two ``branches``; a leaf is its own child, and ``weight`` its training images of each class.

    Logits are logarithms of shares, so that softmax gives shares.
    """

    def __init__(self, num_classes: int, held: int, *, depth: int | None, leaf: int, seed: int = 0) -> None:
        super().__init__()
        self.held, self.depth, self.leaf, self.seed = held, depth, leaf, seed
        self.weight = nn.Parameter(nn.init.ones_(torch.empty(num_classes, held)))
        self.features: Tensor
        self.thresholds: Tensor
        self.branches: Tensor
        self.register_buffer("features", torch.zeros(held, dtype=torch.int64))
        self.register_buffer("thresholds", nn.init.zeros_(torch.empty(held)))
        self.register_buffer("branches", torch.zeros(2, held, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Features B D to B N."""
        return log_shares(self.weight.T[self.leaves(x)])

    def leaves(self, x: Tensor) -> Tensor:
        """Returns the leaf, int64 B, that each row of features B D comes to."""
        node = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
        for _ in range(self.held):  # at most: no path is longer
            value = x.gather(1, self.features[node][:, None])[:, 0]
            child = self.branches[(value > self.thresholds[node]).long(), node]
            if torch.equal(child, node):
                break
            node = child
        return node

    def learn(self, features: Tensor, labels: Tensor, weight_decay: float) -> "Tree":
        """Grows it until its leaves are pure, ``depth`` is reached or a leaf would have fewer than ``leaf`` images;
        ``weight_decay`` has no effect.
        """
        chosen = classifiers.Tree(max_depth=self.depth, min_samples_leaf=self.leaf, seed=self.seed)
        grown = classifiers.fit("tree", chosen, features, labels)
        tree = grown.tree_
        head = Tree(len(self.weight), tree.node_count, depth=self.depth, leaf=self.leaf, seed=self.seed)
        children = torch.stack([torch.from_numpy(tree.children_left), torch.from_numpy(tree.children_right)])
        thresholds = torch.from_numpy(tree.threshold)
        single = thresholds.float()
        rounded_up = single.double() > thresholds  # down instead, so that a float32 falls on the same side
        with torch.no_grad():
            head.thresholds.copy_(torch.where(rounded_up, single.nextafter(single.new_tensor(-torch.inf)), single))
            head.features.copy_(torch.from_numpy(tree.feature).clamp_min(0))  # a leaf has -2
            head.branches.copy_(torch.where(children < 0, torch.arange(tree.node_count), children))
            counts = tree.value[:, 0] * tree.weighted_n_node_samples[:, None]
            head.weight.zero_()
            head.weight[torch.from_numpy(grown.classes_)] = torch.from_numpy(counts.T).round().to(head.weight)
        return head.to(self.weight.device)


Head = LinearSvm | RbfSvm | Neighbours | Tree


def log_shares(votes: Tensor) -> Tensor:
    """Votes B N to logarithms of shares, with one vote more for each class: a share of 0 has no logarithm."""
    return ((votes + 1) / (votes + 1).sum(dim=1, keepdim=True)).log()


def build(
    classifier: ClassifierName, num_features: int, num_classes: int, held: int, options: Mapping[str, Any]
) -> Head:
    """Returns a new head; of ``options``, ``neighbours``, ``depth`` and ``leaf``. Raises :class:`SpecError`."""
    neighbours, depth, leaf = options["neighbours"], options["depth"], options["leaf"]
    if min(held, neighbours, leaf) < 1 or depth < 0:
        raise SpecError(
            f"held = {held}, neighbours = {neighbours}, leaf = {leaf}, depth = {depth}: expected positive numbers "
            "(depth = 0: as deep as it grows)."
        )
    check_choice("classifier", classifier, get_args(ClassifierName))
    match classifier:
        case "linear_svm":
            return LinearSvm(num_features, num_classes)
        case "rbf_svm":
            return RbfSvm(num_features, num_classes, held)
        case "knn":
            return Neighbours(num_features, num_classes, held, neighbours)
        case "tree":
            return Tree(num_classes, held, depth=depth or None, leaf=leaf)
