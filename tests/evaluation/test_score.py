"""Scores: right counts, comparison with a claim."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from PIL import Image
from scipy.stats import fisher_exact
from support import pictures
from torch import Tensor, nn

import zoo
import zoo_look as look
from zoo.data import ImageSet
from zoo.errors import DataError, SpecError, WeightsError
from zoo.evaluation import claims, evaluate
from zoo.evaluation.claims import Comparison, check
from zoo.evaluation.score import Tally, rounding_of
from zoo.manifest import Score
from zoo.spec import Preprocess
from zoo_attack import robustness
from zoo_attack.patch_training import train_patch

PREPROCESS = Preprocess(input_size=(1, 4, 4), crop_pct=1.0, mean=(0.0,), std=(1.0,))
COUNT, CLASSES = 50, 10


def images(*, is_resident: bool = True) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (COUNT, 1, 4, 4), dtype=torch.uint8, generator=generator)
    labels = torch.randint(CLASSES, (COUNT,), generator=generator)
    names = tuple("abcdefghij")
    if is_resident:
        return ImageSet("noise", "test", names, labels, pixels)
    read = lambda index: Image.fromarray(pixels[index, 0].numpy())  # noqa: E731
    return ImageSet("noise", "test", names, labels, read=read, channels=1)


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, CLASSES))


def test_counts_and_loss_are_those_of_a_plain_computation() -> None:
    model, data = network(), images()
    assert data.pixels is not None
    with torch.no_grad():
        logits = model.eval()(data.pixels / 255)
    report = evaluate(model, data, preprocess=PREPROCESS, batch_size=7)
    order = logits.argsort(dim=1, descending=True)
    ranks = (order == data.labels[:, None]).nonzero()[:, 1]
    assert report.n == COUNT
    assert report.correct == int((ranks == 0).sum())
    assert report.top1 == pytest.approx(2 * report.correct)
    assert report.top5 == pytest.approx(2 * int((ranks < 5).sum()))
    assert report.loss == pytest.approx(nn.functional.cross_entropy(logits, data.labels).item(), rel=1e-6)
    assert report.fingerprint == data.fingerprint
    assert (report.dataset, report.split, report.dtype) == ("noise", "test", "float32")
    assert set(report.versions) == {"zoo", "torch", "python"}


def test_mean_class_is_the_balanced_accuracy_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="needs zoo-vision[data]")
    model, data = network(), images()
    assert data.pixels is not None
    uneven = data.subset((data.labels < 4).nonzero()[:, 0], "test")  # six classes have no image
    with torch.no_grad():
        predicted = model.eval()(uneven.pixels / 255).argmax(1)  # type: ignore[operator]  # resident
    report = evaluate(model, uneven, preprocess=PREPROCESS, batch_size=7)
    present = [metrics.recall_score(uneven.labels == label, predicted == label) for label in range(4)]
    assert report.mean_class == pytest.approx(100 * sum(present) / 4)
    assert report.mean_class != pytest.approx(report.top1)


def test_batch_size_and_decoding_on_demand_change_nothing() -> None:
    reports = [
        evaluate(network(), images(is_resident=is_resident), preprocess=PREPROCESS, batch_size=size)
        for is_resident in (True, False)
        for size in (1, 7, 50, 64)
    ]
    assert len({(report.correct, report.top5, report.fingerprint) for report in reports}) == 1
    assert [report.loss for report in reports] == pytest.approx([reports[0].loss] * 8, rel=1e-6)


def test_a_processor_computes_on_few_photographs_at_a_time() -> None:
    sizes = []

    class Mean(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            sizes.append(len(images))
            return images.mean(dim=(2, 3))

    pixels = torch.randint(256, (20, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    preprocess = Preprocess(input_size=(3, 224, 224), crop_pct=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    data = ImageSet("noise", "test", ("a", "b", "c"), torch.zeros(20, dtype=torch.int64), pixels)
    found = zoo.evaluation.logits(Mean(), data, preprocess=preprocess)
    assert sizes == [8, 8, 4]
    torch.testing.assert_close(found, (pixels / 255).mean(dim=(2, 3)))


def test_every_module_gets_its_own_mode_back() -> None:
    model = network().train()
    model[1].eval()  # type: ignore[index]
    before = [module.training for module in model.modules()]
    evaluate(model, images(), preprocess=PREPROCESS)
    assert [module.training for module in model.modules()] == before


def test_progress_is_told_of_every_batch() -> None:
    told: list[tuple[int, int]] = []
    evaluate(network(), images(), preprocess=PREPROCESS, batch_size=20, progress=lambda *done: told.append(done))
    assert told == [(20, 50), (40, 50), (50, 50)]


def test_a_report_names_model_and_weights_as_zoo_create_left_them() -> None:
    model = network()
    model.zoo_info = SimpleNamespace(  # type: ignore[assignment]
        name="net.tag", model=SimpleNamespace(name="net"), weights=SimpleNamespace(name="net.tag"), file=None
    )
    report = evaluate(model, images(), preprocess=PREPROCESS, command="zoo evaluate net.tag")
    assert (report.model, report.weights, report.command) == ("net", "net.tag", "zoo evaluate net.tag")
    assert msgspec.json.decode(msgspec.json.encode(report))["interval"] == list(report.interval)


class Constant(nn.Module):
    def __init__(self, row: list[float]) -> None:
        super().__init__()
        self.row = torch.tensor(row)

    def forward(self, x: Tensor) -> Tensor:
        return self.row.expand(len(x), *self.row.shape)


def test_outputs_that_are_not_numbers_are_not_scored() -> None:
    with pytest.raises(WeightsError, match="NaN or infinity"):
        evaluate(Constant([float("nan")] * CLASSES), images(), preprocess=PREPROCESS)


def test_labels_beyond_the_networks_classes_are_refused() -> None:
    with pytest.raises(DataError, match="labels up to 9, but the network has 3 classes"):
        evaluate(Constant([0.0, 1.0, 2.0]), images(), preprocess=PREPROCESS)
    with pytest.raises(DataError, match="labels up to 9, but the network has 9 classes"):
        evaluate(Constant([0.0] * 9), images(), preprocess=PREPROCESS)


def test_top5_of_five_classes_says_nothing() -> None:
    data = images()
    few = ImageSet("noise", "test", tuple("abcde"), data.labels % 5, data.pixels)
    assert evaluate(Constant([0.0] * 5), few, preprocess=PREPROCESS).top5 is None


def claim(**fields: Any) -> Score:
    return Score(**{"n": COUNT, "source": "the paper", **fields})


def test_a_claim_on_the_same_images_agrees_only_with_the_same_count() -> None:
    report = evaluate(network(), images(), preprocess=PREPROCESS)
    assert report.close == 0

    def compared(more: int) -> Comparison:
        correct = report.correct + more
        return check(report, claim(top1=100 * correct / COUNT, correct=correct, fingerprint=report.fingerprint))

    assert [compared(more).agrees for more in (-1, 0, 1, 3)] == [False, True, False, False]
    assert (
        "3 fewer on the same images, and for 0 of them the two best logits lie within rounding" in compared(3).message
    )
    near = msgspec.structs.replace(report, close=1)
    far, one = (claim(top1=2 * (6 + more), correct=6 + more, fingerprint=report.fingerprint) for more in (2, 1))
    assert (report.correct, check(near, one).agrees, check(near, far).agrees) == (6, True, False)


def test_another_training_on_the_same_images_is_another_sample() -> None:
    report = evaluate(network(), images(), preprocess=PREPROCESS)
    about = claim(top1=18.0, correct=9, fingerprint=report.fingerprint)
    again = check(report, about, is_another=True)
    assert (check(report, about).method, check(report, about).agrees) == ("counts", False)
    assert (again.method, again.agrees, again.p) == ("Fisher's exact test", True, pytest.approx(0.5766, abs=1e-4))
    elsewhere = msgspec.structs.replace(about, fingerprint="sha256:" + "0" * 64)
    assert not check(report, elsewhere, is_another=True).agrees, "other images confirm no training"
    assert not check(report, claim(), is_another=True).agrees, "there is no top-1"


def test_images_whose_two_best_logits_lie_within_rounding_are_counted() -> None:
    """Expects, by hand, a rounding of 1e-5 of the largest logit on each side."""
    tally = Tally(3)
    best = [[5.0, 5.0, 0.0], [100.0, 99.9981, 0.0], [100.0, 99.9979, 0.0], [-100.0, -1e-4, 0.0], [1.0, 0.0, 0.0]]
    tally.add_logits(torch.tensor(best), torch.zeros(5, dtype=torch.int64))
    assert tally.scores()["close"] == 3
    coarse = Tally(3, rounding_of("cpu", "bfloat16"))
    coarse.add_logits(torch.tensor([[100.0, 95.0, 0.0], [100.0, 93.0, 0.0]]), torch.zeros(2, dtype=torch.int64))
    assert coarse.scores()["close"] == 1
    alone = Tally(1)
    alone.add_logits(torch.ones(4, 1), torch.zeros(4, dtype=torch.int64))
    assert alone.scores()["close"] == 0


def test_a_claim_on_images_without_a_name_is_compared_as_another_sample() -> None:
    report = evaluate(network(), images(), preprocess=PREPROCESS)
    for correct in (0, 1, 6, 13, 14, 15, 30):
        compared = check(report, claim(top1=100 * correct / COUNT))
        p = fisher_exact([[report.correct, COUNT - report.correct], [correct, COUNT - correct]]).pvalue
        assert compared.p == pytest.approx(p, rel=1e-6)
        assert compared.agrees == (p >= 0.05)
    assert "the paper" in check(report, claim(top1=50.0)).message


def test_a_claim_that_leaves_out_images_is_of_those_that_it_names() -> None:
    whole = images()
    kept = [number for number in range(COUNT) if number not in (3, 17)]
    report = evaluate(network(), whole.subset(kept, "test"), preprocess=PREPROCESS)
    about = claim(n=COUNT - 2, top1=report.top1, fingerprint=report.fingerprint, without=(3, 17))
    numbers = claims.left_in(about, whole)
    assert numbers is not None
    assert numbers.tolist() == kept
    assert claims.left_in(about, whole.subset(kept, "test")) is None
    assert claims.left_in(claim(top1=1.0), whole) is None


def test_bounds_are_of_all_images_wrong_and_all_right() -> None:
    score = Score(n=8, source="x", top1=75.0, correct=6, without=(1, 9))
    assert (score.bounds, Score(n=8, source="x", top1=75.0).bounds) == ((60.0, 80.0), None)
    for fields in ({"without": (2, 2)}, {"without": (3, 1)}, {"top1": 80.0}, {"correct": 9}):
        with pytest.raises(ValueError, match=r"ascend|correct ="):
            msgspec.structs.replace(score, **fields)


def test_a_claim_without_top1_does_not_agree() -> None:
    report = evaluate(network(), images(), preprocess=PREPROCESS)
    assert not check(report, claim()).agrees


def test_a_claim_that_names_no_images_agrees_by_its_numbers_alone() -> None:
    report = evaluate(network(), images(), preprocess=PREPROCESS)
    compared = check(report, claim(top1=report.top1))
    assert (compared.agrees, "images (" in compared.message) == (True, False)


@pytest.mark.parametrize("about", [{"fingerprint": "sha256:" + "0" * 64}, {"n": COUNT + 1}])
def test_other_images_confirm_nothing_unless_they_are_said_to_do(about: dict[str, Any]) -> None:
    report = evaluate(network(), images(), preprocess=PREPROCESS)
    compared = check(report, claim(top1=report.top1, **about))
    assert not compared.agrees
    assert re.search("the claim is on .*, so it is neither confirmed nor refuted", compared.message)
    assert check(report, claim(top1=report.top1, **about), allow_other_images=True).agrees
    assert not check(report, claim(top1=50.0, **about), allow_other_images=True).agrees


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, "torch.bfloat16"])
def test_bfloat16_is_what_is_asked_for_however_it_is_said(dtype: Any) -> None:
    exact, rounded = (evaluate(network(), images(), preprocess=PREPROCESS, dtype=kind) for kind in (None, dtype))
    assert (exact.dtype, rounded.dtype) == ("float32", "bfloat16")
    assert exact.loss != rounded.loss
    assert exact.loss == pytest.approx(rounded.loss, rel=0.05)
    assert evaluate(network(), images(), preprocess=PREPROCESS, dtype=torch.float32).loss == exact.loss


@pytest.mark.parametrize("dtype", [torch.float16, "float64", "half"])
def test_another_type_is_refused(dtype: Any) -> None:
    with pytest.raises(SpecError, match="expected float32 or bfloat16"):
        evaluate(network(), images(), preprocess=PREPROCESS, dtype=dtype)


def others(classes: str) -> ImageSet:
    return ImageSet("others", "test", tuple(classes), torch.arange(10), torch.zeros(10, 1, 8, 8, dtype=torch.uint8))


def test_a_score_on_a_data_set_of_some_other_classes_comes_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    zoo.evaluate("resnet20.digits", others("0123456abc"))
    assert "resnet20.digits knows the classes of digits" in caplog.text
    caplog.clear()
    zoo.evaluate("resnet20.digits", others("0123456789"))
    assert not caplog.text


def test_images_of_other_classes_alone_are_not_measured_on() -> None:
    letters = others("abcdefghij")
    with pytest.raises(DataError, match=r"classes of digits \(0, 1, 2, ...\), none of which are in others"):
        zoo.evaluate("resnet20.digits", letters)
    with pytest.raises(DataError, match="none of which"):
        robustness.curve("resnet20.digits", letters, "fgsm", [0.0])
    with pytest.raises(DataError, match="none of which"):
        look.invariance(["resnet20.digits"], letters)
    with pytest.raises(DataError, match="none of which"):
        train_patch("resnet20.digits", letters, target=1, steps=1)


NAMES_OF_IMAGENET = {"n02123045": "tabby", "n02099601": "golden retriever", "n07920052": "espresso"}
"""The WordNet ids of the classes 281, 207 and 967, from the ILSVRC2012 development kit."""


@pytest.fixture(scope="module")
def imagenet() -> torch.nn.Module:
    """A network with the 1,000 classes of ImageNet that answers 207, whatever it sees."""
    network = zoo.create("resnet20", num_classes=1000).eval()
    network.get_classifier().weight.data.zero_()
    network.get_classifier().bias.data = torch.nn.functional.one_hot(torch.tensor(207), 1000).float()
    network.zoo_info = network.zoo_info._replace(classes="imagenet-1k")
    return network


@pytest.mark.parametrize(
    "folders",
    [("n02099601", "n02123045", "n07920052"), ("espresso", "golden retriever", "tabby"), ("Golden_Retriever", "tabby")],
    ids=" ".join,
)
def test_a_folder_of_some_of_the_classes_is_scored_by_their_names(
    folders: tuple[str, ...], imagenet: torch.nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = pictures.write(tmp_path / "photos", folders, {"test": 2})
    report = zoo.evaluate(imagenet, photos)
    assert report.n == 2 * len(folders)
    assert report.top1 == pytest.approx(100 / len(folders)), "the golden retrievers"
    assert f"photos has {len(folders)} of the 1,000 classes of" in caplog.text
    zoo.evaluate(imagenet, photos, mistakes=tmp_path / "out")
    assert "tabby,golden retriever," in (tmp_path / "out/mistakes.csv").read_text()
    rows = (tmp_path / "out/confusion.csv").read_text().splitlines()
    assert len(rows) == 1 + len(folders), "the other classes have neither images nor answers"
    assert rows[0].startswith("true,golden retriever,tabby")
    assert rows[1].startswith("golden retriever,2,0")


def test_a_folder_of_other_classes_than_the_networks_is_refused(imagenet: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="but not crow of photos"):
        zoo.evaluate(imagenet, pictures.write(tmp_path / "photos", ("crow", "tabby"), {"test": 1}))
    with pytest.raises(DataError, match="none of which are in birds") as caught:
        zoo.evaluate(imagenet, pictures.write(tmp_path / "birds", ("crow", "rook"), {"test": 1}))
    assert "zoo train --init" in caught.value.hint
    with pytest.raises(DataError, match="but not CARDIGAN"):  # the dog's name and the jacket's
        zoo.evaluate(imagenet, pictures.write(tmp_path / "dogs", ("CARDIGAN", "tabby"), {"test": 1}))


def test_a_test_folder_without_some_of_the_classes_is_numbered_as_the_training_was() -> None:
    network = zoo.create("resnet20", class_names=["ant", "bee", "cow"]).eval()
    some = ImageSet("mine", "test", ("bee", "cow"), torch.tensor([0, 1, 1]), torch.zeros(3, 3, 32, 32).byte())
    assert zoo.evaluation.check_classes(network, some).labels.tolist() == [1, 2, 2]
