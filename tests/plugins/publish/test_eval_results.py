"""Scores as the Hub reads them: valid by its published formats, and the same values in both."""

from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

import zoo
from zoo import registry
from zoo.manifest import Score, Weights
from zoo_publish import card, publish

SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["dataset", "value"],
        "additionalProperties": False,
        "properties": {
            "dataset": {
                "type": "object",
                "required": ["id", "task_id"],
                "additionalProperties": False,
                "properties": {
                    "id": {"type": "string", "pattern": r"^[\w.-]+/[\w.-]+$"},
                    "task_id": {"type": "string", "minLength": 1},
                    "revision": {"type": "string"},
                },
            },
            "value": {"type": "number"},
            "verifyToken": {"type": "string"},
            "date": {"type": "string"},
            "source": {"type": "object", "required": ["url"]},
            "notes": {"type": "string"},
        },
    },
}
"""https://github.com/huggingface/hub-docs/blob/main/eval_results.yaml, as JSON Schema."""


def entry(**scores: Score) -> Weights:
    found = registry.current().find("resnet20.c10").weights
    return msgspec.structs.replace(found, scores={where.replace("__", "/"): one for where, one in scores.items()})


@pytest.fixture
def released() -> Weights:
    score = registry.current().find("resnet20.c10").weights.scores["cifar10/test"]
    digits = Score(n=360, source="a test", top1=99.0)
    return entry(cifar10__test=score, digits__test=digits, cifar10__train=Score(n=5, source="a test", top5=100.0))


def test_the_file_is_valid_by_the_published_format_and_read_by_the_hubs_client(released: Weights) -> None:
    rows = yaml.safe_load(card.render_eval_results(released))
    jsonschema.validate(rows, SCHEMA)
    [row] = parse_eval_result_entries(rows)
    assert (row.dataset_id, row.task_id, row.value) == ("uoft-cs/cifar10", "image-classification", 0.917335)
    score = released.scores["cifar10/test"]
    assert row.notes == (
        f"top-1 accuracy on test, 9,980 images, 95% interval 0.9118 to 0.9226, {score.fingerprint}, {score.command}"
    )


def test_the_card_states_the_same_values(released: Weights) -> None:
    model = registry.current().find("resnet20").model
    data = ModelCard(card.render(released, model, None, [], [])).data
    index = [(one.dataset_type, one.dataset_split, one.metric_name, one.metric_value) for one in data.eval_results]
    [top1] = parse_eval_result_entries(yaml.safe_load(card.render_eval_results(released)))
    assert index == [
        ("uoft-cs/cifar10", "test", "top-1 accuracy", top1.value),
        ("uoft-cs/cifar10", "test", "top-5 accuracy", 0.997996),
        ("digits", "test", "top-1 accuracy", 0.99),
        ("uoft-cs/cifar10", "train", "top-5 accuracy", 1.0),
    ]
    assert data.datasets == ["uoft-cs/cifar10"]


def test_the_file_is_published_beside_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(card._ON_HUB, "digits", "owner/digits")
    weights = registry.current().find("resnet20.digits").weights
    publish(zoo.fetch("resnet20.digits"), "resnet20.mine", str(tmp_path / "hub"), evaluate_on=(("digits", "test"),))
    folder = tmp_path / "hub" / "resnet20.mine"
    [row] = parse_eval_result_entries(yaml.safe_load((folder / ".eval_results" / "zoo.yaml").read_text()))
    assert (row.dataset_id, row.value) == ("owner/digits", round(weights.scores["digits/test"].top1 / 100, 6))
    text = (folder / "README.md").read_text()
    assert ModelCard(text).data.eval_results[0].metric_value == row.value
    assert "`.eval_results/zoo.yaml`" in text


def test_scores_on_data_sets_that_the_hub_does_not_have_give_no_file() -> None:
    assert card.render_eval_results(entry(digits__test=Score(n=360, source="a test", top1=99.0))) == b""
    assert card.hub_name("hf:owner/images:small") == "owner/images"
