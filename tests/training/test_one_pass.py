"""Training without gradients: which fields of a recipe count, and a linear layer that is an SVM."""

from typing import Any

import pytest
import torch
from torch import nn

from zoo.errors import RecipeError
from zoo.training.one_pass import check, fit_linear_svm, set_rows
from zoo.training.recipe import Recipe

SETTINGS = {"epochs": 1, "weight_decay": 0.1, "batch_size": 32}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": 30}, "epochs"),
        ({"lr": 0.5, "ema": 0.9}, "ema, lr"),
        ({"normalize": "standardize"}, "normalize"),
        ({"weight_decay": 0.0}, "weight_decay = 0"),
    ],
)
def test_a_field_that_has_no_effect_is_refused(settings: dict[str, Any], said: str) -> None:
    check(Recipe(**SETTINGS))
    with pytest.raises(RecipeError, match=said):
        check(Recipe(**{**SETTINGS, **settings}))


@pytest.mark.parametrize("classes", [(0, 1), (0, 2, 4)])
def test_the_layer_is_the_svm_and_a_class_without_images_answers_as_after_no_positive(classes: tuple[int, ...]) -> None:
    svm = pytest.importorskip("sklearn.svm", reason="needs zoo-vision[data]").LinearSVC(C=0.05, random_state=0)
    kinds = torch.arange(60) % len(classes)
    labels = torch.tensor(classes)[kinds]
    features = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)) + 3 * torch.eye(4)[kinds]
    layer = nn.Linear(4, 5)
    set_rows(layer, *fit_linear_svm(features, labels, C=0.05))
    expected = torch.from_numpy(svm.fit(features.double().numpy(), labels.numpy()).decision_function(features))
    if len(classes) == 2:
        expected = torch.stack([-expected, expected], dim=1)
    got = layer(features)
    torch.testing.assert_close(got[:, list(classes)].double(), expected, rtol=1e-4, atol=1e-4)
    unseen = [label for label in range(5) if label not in classes]
    assert torch.equal(got[:, unseen], torch.full((60, len(unseen)), -1.0))
