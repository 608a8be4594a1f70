"""Files of outputs: every score again without the network, and the agreement of two networks."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.stats import binomtest
from support.command import told
from torch import nn

import zoo
from zoo import evaluation
from zoo.cli import cli
from zoo.data import Fingerprint, ImageSet
from zoo.errors import DataError, FileFormatError, PluginError, SpecError
from zoo.evaluation import Report, hook
from zoo.evaluation.outputs import Outputs, write_outputs
from zoo.loading import ModelInfo
from zoo.spec import Model, Preprocess

sklearn = pytest.importorskip("sklearn.metrics", reason="needs zoo-vision[data]")

PREPROCESS = Preprocess(input_size=(1, 4, 4), crop_pct=1.0, mean=(0.0,), std=(0.1,))
COUNT, CLASSES = 200, 8


def images(seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (COUNT, 1, 4, 4), dtype=torch.uint8, generator=generator)
    labels = torch.randint(CLASSES, (COUNT,), generator=generator)
    return ImageSet("noise", "test", tuple("abcdefgh"), labels, pixels)


def network(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES)).eval()
    row = Model("linear", build="nowhere:at_all")
    model.zoo_info = ModelInfo("linear", row, None, None, PREPROCESS, "", (), {})  # type: ignore[assignment]
    return model


def logits_of(model: nn.Module, data: ImageSet) -> torch.Tensor:
    assert data.pixels is not None
    with torch.no_grad():
        return model(data.pixels / 255 / 0.1)


class Stored(msgspec.Struct, frozen=True):
    file: Path
    report: Report
    data: ImageSet
    logits: torch.Tensor


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    data, model, file = images(), network(), tmp_path_factory.mktemp("outputs") / "outputs.safetensors"
    report = zoo.evaluate(model, data, outputs=file)
    return Stored(file, report, data, logits_of(model, data))


def test_the_counts_are_the_reports_and_those_of_scikit_learn(stored: Stored) -> None:
    found = evaluation.measure(stored.file)
    for name in ("n", "correct", "top1", "interval", "mean_class", "fingerprint", "dataset", "split"):
        assert getattr(found, name) == getattr(stored.report, name), name
    assert found.topk[4] == stored.report.top5
    labels, scores = stored.data.labels.numpy(), stored.logits.numpy()
    known = [100 * sklearn.top_k_accuracy_score(labels, scores, k=k, labels=range(CLASSES)) for k in range(1, 6)]
    assert found.topk == pytest.approx(known)
    predicted = stored.logits.argmax(1).numpy()
    assert found.confusion == sklearn.confusion_matrix(labels, predicted, labels=range(CLASSES)).tolist()
    precision, recall, _, n = sklearn.precision_recall_fscore_support(labels, predicted, zero_division=0)
    assert [one.n for one in found.classes] == n.tolist()
    assert [one.recall for one in found.classes] == pytest.approx(100 * recall)
    assert [one.precision or 0.0 for one in found.classes] == pytest.approx(100 * precision)
    assert found.mean_class == pytest.approx(100 * sklearn.balanced_accuracy_score(labels, predicted))


def test_probabilities_in_float16_change_the_scores_by_rounding_alone(stored: Stored) -> None:
    found = evaluation.measure(stored.file)
    probabilities = stored.logits.double().softmax(1).numpy()
    labels = stored.data.labels.numpy()
    assert found.nll == pytest.approx(stored.report.loss, rel=1e-4)
    assert found.nll == pytest.approx(sklearn.log_loss(labels, probabilities, labels=range(CLASSES)), rel=1e-4)
    brier = sklearn.brier_score_loss(labels, probabilities, labels=range(CLASSES), scale_by_half=False)
    assert found.brier == pytest.approx(brier, rel=1e-4)
    assert load_file(stored.file)["logits"].dtype == torch.float16
    assert evaluation.read_outputs(stored.file).about.report == stored.report


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1.0, 1e4, 1e30]))
def test_no_logits_are_too_large_or_too_close_to_be_ranked_again(
    tmp_path_factory: pytest.TempPathFactory, seed: int, scale: float
) -> None:
    """Ties in float16, and numbers that it cannot hold, change no count."""
    data = images().subset(range(20), "test")
    logits = scale * torch.randn(20, CLASSES, generator=torch.Generator().manual_seed(seed)) + scale
    file = tmp_path_factory.getbasetemp() / f"{seed}.safetensors"
    outputs = Outputs.of(logits)
    report = outputs.report(network(), data, 1.0, {})
    write_outputs(file, outputs, data, report, "")
    found = evaluation.measure(file)
    file.unlink()
    assert (found.correct, found.topk[4], found.mean_class) == (report.correct, report.top5, report.mean_class)
    assert found.confusion == outputs.mistakes(data).confusion.tolist()
    assert scale > 1e4 or found.nll == pytest.approx(report.loss, rel=1e-3)


def test_an_identity_is_the_fingerprint_of_the_image_alone(stored: Stored) -> None:
    identities = evaluation.read_outputs(stored.file).identities
    for number in (0, 7, COUNT - 1):
        alone = Fingerprint()
        assert stored.data.pixels is not None
        alone.add(stored.data.pixels[number : number + 1], stored.data.labels[number : number + 1])
        assert str(alone) == f"sha256:{bytes(identities[number].tolist()).hex()}"
    decoded = ImageSet("noise", "test", stored.data.classes, stored.data.labels, read=stored.data.image, channels=1)
    assert torch.equal(decoded.identities, identities)


def test_two_networks_are_compared_on_the_images_that_both_saw(stored: Stored, tmp_path: Path) -> None:
    part = stored.data.subset(torch.randperm(COUNT, generator=torch.Generator().manual_seed(3))[:150], "test")
    zoo.evaluate(network(2), part, outputs=tmp_path / "other.safetensors")
    found = evaluation.compare(stored.file, tmp_path / "other.safetensors")
    first, second = stored.logits.argmax(1), logits_of(network(2), stored.data).argmax(1)
    order = (part.identities[:, None] == stored.data.identities[None]).all(-1).int().argmax(1)  # all images differ
    first, second, labels = first[order], second[order], stored.data.labels[order]
    assert found.n == 150
    assert found.same == int((first == second).sum())
    table = [[int(((first == labels) == a).logical_and((second == labels) == b).sum()) for b in (1, 0)] for a in (1, 0)]
    assert [[found.both, found.only_first], [found.only_second, found.neither]] == table
    assert found.p == pytest.approx(binomtest(found.only_first, found.only_first + found.only_second).pvalue)


def test_images_that_are_equal_are_matched_as_often_as_both_have_them(tmp_path: Path) -> None:
    data = images()
    few, many = data.subset([0, 0, 1], "test"), data.subset([1, 0, 0, 0, 2], "test")
    for name, part in (("few", few), ("many", many)):
        zoo.evaluate(network(), part, outputs=tmp_path / name)
    assert evaluation.compare(tmp_path / "few", tmp_path / "many").n == 3


def test_other_images_cannot_be_compared(stored: Stored, tmp_path: Path) -> None:
    zoo.evaluate(network(), images(seed=5), outputs=tmp_path / "other")
    with pytest.raises(DataError, match="no image in common"):
        evaluation.compare(stored.file, tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.pop("ranked"), "'ranked' is missing"),
        (lambda tensors: tensors.update(labels=tensors["labels"][1:]), "labels has shape"),
        (lambda tensors: tensors.update(labels=tensors["labels"] + 50), "labels are not numbers of 8 classes"),
        (lambda tensors: tensors.update(ranked=-tensors["ranked"]), "ranked are not numbers of 8 classes"),
        (lambda tensors: tensors["logits"].fill_(float("nan")), "logits contain NaN"),
    ],
)
def test_a_file_that_contradicts_itself_is_an_error(stored: Stored, tmp_path: Path, change: Any, reason: str) -> None:
    from safetensors import safe_open

    with safe_open(stored.file, "pt") as opened:
        about = opened.metadata()
    tensors = load_file(stored.file)
    change(tensors)
    save_file(tensors, tmp_path / "x.safetensors", about)
    with pytest.raises(FileFormatError, match=reason) as caught:
        evaluation.measure(tmp_path / "x.safetensors")
    assert "zoo evaluate NAME" in caught.value.hint


def test_weights_are_no_file_of_outputs(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="not a file of outputs: 'outputs' is missing"):
        evaluation.measure(zoo.fetch("resnet20.digits"))


def answering(value: Any, monkeypatch: pytest.MonkeyPatch, api: int = 2) -> Model:
    """Returns a model whose evaluate hook returns ``value``."""
    monkeypatch.setattr("zoo.evaluation.forward.answers_of_a_test", lambda *_, **__: value, raising=False)
    return Model("own", build="nowhere:at_all", evaluate="zoo.evaluation.forward:answers_of_a_test", api=api)


def test_a_hook_that_returns_classes_is_stored_without_logits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data, found = images(), list[Outputs]()
    row = answering(data.labels.clone(), monkeypatch)
    report = hook.evaluate(row, network(), data, take=found.append)
    write_outputs(tmp_path / "x.safetensors", found[0], data, report, "")
    measured = evaluation.measure(tmp_path / "x.safetensors")
    assert (measured.correct, measured.nll, measured.ece, measured.topk) == (COUNT, None, None, [100.0])


def test_a_hook_that_returns_a_report_has_no_outputs(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError, match="returns only scores"):
        hook.evaluate(answering(stored.report, monkeypatch, api=1), network(), stored.data, take=print)


def test_a_data_loader_has_no_images_to_identify(tmp_path: Path) -> None:
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(torch.randn(4, 1, 4, 4), torch.zeros(4, dtype=torch.long)), batch_size=2)
    model = network()
    model.num_classes = CLASSES  # type: ignore[assignment]
    with pytest.raises(SpecError, match="expected images in one process, got a data loader"):
        zoo.evaluate(model, loader, outputs=tmp_path / "x")


def test_the_commands_write_and_read_outputs(tmp_path: Path) -> None:
    files = []
    for name in ("resnet20.digits", "resnet20.digits_robust"):
        files.append(tmp_path / f"{name}.safetensors")
        report = told("evaluate", name, "--data", "digits", "--outputs", files[-1])
        weights = zoo.registry.current().find(name).weights
        assert evaluation.read_outputs(files[-1]).about.sha256 == weights.sha256
    assert told("results", "metrics", files[-1])["correct"] == report["correct"]
    assert told("results", "compare", *files)["pairs"][0]["n"] == 360
    shown = CliRunner().invoke(cli, ["results", "compare", *map(str, files)]).stdout
    assert "McNemar's test   p = " in shown
    shown = CliRunner().invoke(cli, ["results", "metrics", str(files[0])]).stdout
    assert "class  images   recall" in shown
