"""Learning from a teacher: the loss of Hinton et al. 2015, what the teacher sees, and what the record says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.command import ask
from support.small_training import rows
from torch import Tensor
from torch.nn import functional as F

import zoo
from zoo.data import ImageSet
from zoo.errors import RecipeError, TrainingError, WeightsError
from zoo.spec import Preprocess
from zoo.training.pretrained import blend, find_teacher
from zoo.training.recipe import Distill

pytest.importorskip("timm", reason="needs zoo-vision[train]")
pytest.importorskip("sklearn", reason="needs zoo-vision[data]")

TEACHER = "resnet20.digits"
SETTINGS = {"epochs": 2, "batch_size": 32, "precision": "float32", "lr": 0.02}


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return zoo.data.load("digits").subset(range(96), "train")


@pytest.fixture(scope="module")
def folder(digits: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as files, which a run finds again by their path."""
    folder = tmp_path_factory.mktemp("data") / "folder"
    for index in range(len(digits)):
        file = folder / "train" / digits.classes[int(digits.labels[index])] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        digits.image(index).save(file)
    return folder


def train(
    output: Path, data: ImageSet | Path, settings: dict[str, Any] | None = None, **options: Any
) -> dict[str, Tensor]:
    settings = {**SETTINGS, **(settings or {})}
    made = zoo.train("resnet8", data, recipe="default", settings=settings, output=output, device="cpu", **options)
    return {key: value.clone() for key, value in made.state_dict().items()}


def is_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize(("alpha", "temperature"), [(0.5, 4.0), (0.9, 1.0), (1.0, 20.0), (0.0, 3.0)])
def test_the_loss_is_that_of_hinton_et_al(alpha: float, temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, taught = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    loss = F.cross_entropy(logits, torch.tensor([0, 1, 2, 3, 0, 1]))
    p, q = ((values / temperature).softmax(1) for values in (taught, logits))
    divergence = (p * (p.log() - q.log())).sum(1).mean()
    expected = (1 - alpha) * loss + alpha * temperature**2 * divergence
    torch.testing.assert_close(blend(Distill(alpha, temperature), loss, logits, taught), expected)


def test_at_a_high_temperature_the_gradient_is_that_of_matching_logits() -> None:
    """Section 2.1: (z - v) / N, of logits with zero mean; times T^2 over the batch here."""
    generator = torch.Generator().manual_seed(1)
    logits, taught = torch.randn(2, 5, 10, generator=generator, dtype=torch.float64)
    logits, taught = (values - values.mean(1, keepdim=True) for values in (logits, taught))
    logits.requires_grad_()
    blend(Distill(1.0, 1e4), torch.zeros(()), logits, taught).backward()
    torch.testing.assert_close(logits.grad, (logits.detach() - taught) / 10 / 5, rtol=1e-3, atol=1e-6)


def test_the_teacher_sees_the_students_images_as_it_expects_them(digits: ImageSet) -> None:
    teacher = find_teacher(TEACHER)
    assert digits.pixels is not None
    expected = teacher.network(zoo.preprocess(teacher.network).batch(digits.pixels[:8]))
    unlike = Preprocess(input_size=(1, 8, 8), crop_pct=1.0, mean=(0.7,), std=(0.1,))
    images = (digits.pixels[:8] / 255 - 0.7) / 0.1
    torch.testing.assert_close(teacher.logits(images, unlike), expected, rtol=1e-4, atol=1e-4)
    resize = pytest.importorskip("torchvision.transforms.v2.functional").resize
    larger = torch.randn(4, 1, 13, 19, generator=torch.Generator().manual_seed(0))
    expected = teacher.logits(resize(larger, [8, 8], antialias=True), unlike)
    torch.testing.assert_close(teacher.logits(larger, unlike), expected, rtol=1e-4, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())


def test_a_teacher_of_colour_sees_grey_images_as_grey_colours() -> None:
    teacher = find_teacher("resnet20.c10")
    pixels = torch.randint(256, (4, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = teacher.network(zoo.preprocess(teacher.network).batch(pixels.expand(-1, 3, -1, -1)))
    gray = Preprocess(input_size=(1, 32, 32), crop_pct=1.0, mean=(0.0,), std=(1.0,))
    torch.testing.assert_close(teacher.logits(pixels / 255, gray), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", ["neocognitron_1980", "hmax"])
def test_a_family_that_learns_without_gradients_rejects_a_teacher(tmp_path: Path, digits: ImageSet, model: str) -> None:
    with pytest.raises(RecipeError, match=r"distill.* ha(s|ve) no effect"):
        zoo.train(model, digits, recipe="default", teacher=TEACHER, output=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_with_alpha_0_a_teacher_changes_nothing(tmp_path: Path, digits: ImageSet) -> None:
    alone = train(tmp_path / "alone", digits)
    taught = train(tmp_path / "taught", digits, {"distill.alpha": 0}, teacher=TEACHER)
    assert is_same(alone, taught)


@pytest.mark.slow
def test_a_student_agrees_with_its_teacher_without_a_right_label(tmp_path: Path, digits: ImageSet) -> None:
    """With alpha 1 the labels are not used."""
    wrong = ImageSet("digits", "train", digits.classes, (digits.labels + 1) % 10, digits.pixels)
    settings = {"distill.alpha": 1, "epochs": 8, "batch_size": 16, "lr": 0.1}
    first = train(tmp_path / "right", digits, settings, teacher=TEACHER)
    assert is_same(train(tmp_path / "wrong", wrong, settings, teacher=TEACHER), first)
    assert rows(tmp_path / "right")[-1]["train_top1"] > 25
    assert rows(tmp_path / "wrong")[-1]["train_top1"] < 20


@pytest.mark.slow
def test_a_run_is_recorded_resumed_and_repeated_with_its_teacher(tmp_path: Path, folder: Path) -> None:
    settings = {**SETTINGS, "augment.mixup": 0.2, "augment.flip": True}
    options: dict[str, Any] = {"recipe": "default", "device": "cpu", "settings": settings, "teacher": TEACHER}
    zoo.train("resnet8", folder, output=tmp_path / "whole", **options)
    zoo.train("resnet8", folder, output=tmp_path / "parts", stop_after=1, **options)
    zoo.train(output=tmp_path / "parts", resume=True)
    assert is_same(*(load_file(tmp_path / run / "model.safetensors") for run in ("whole", "parts")))
    record, other = (json.loads((tmp_path / run / "config.json").read_text()) for run in ("whole", "parts"))
    assert {**record, "command": ""} == {**other, "command": ""}
    published = next(entry for entry in zoo.info(TEACHER)["weights"] if entry["tag"] == "digits")
    assert record["teacher"] == {"weights": TEACHER, "sha256": published["sha256"]}
    assert record["recipe"]["distill"] == {"alpha": 0.5, "temperature": 4.0}
    assert zoo.reproduce(tmp_path / "whole", data=folder, output=tmp_path / "again").outcome == "file"


def test_a_run_without_a_teacher_has_the_record_that_it_had(tmp_path: Path, digits: ImageSet) -> None:
    train(tmp_path / "run", digits)
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert "teacher" not in record
    assert "distill" not in record["recipe"]


@pytest.mark.slow
def test_another_teacher_cannot_resume_or_repeat_a_run(tmp_path: Path, digits: ImageSet, folder: Path) -> None:
    train(tmp_path / "other", digits)
    other = tmp_path / "other" / "model.safetensors"
    train(tmp_path / "run", folder, teacher=TEACHER, stop_after=1)
    with pytest.raises(TrainingError, match=r"teacher\.sha256: the run has"):
        train(tmp_path / "run", folder, teacher=other, resume=True)
    train(tmp_path / "run", folder, teacher=TEACHER, resume=True)
    with pytest.raises(TrainingError, match=rf"with the teacher {TEACHER} with sha256(?s:.)*--teacher FILE"):
        zoo.reproduce(tmp_path / "run", data=folder, output=tmp_path / "again", teacher=other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("resnet20.c10", "resnet20.c10 has 10 classes of cifar10, but digits has 10: expected the same classes"),
        ("resnet20.fmnist", "of fashion_mnist, but digits has 10"),
    ],
)
def test_a_teacher_of_other_classes_is_an_error(tmp_path: Path, digits: ImageSet, teacher: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        train(tmp_path / "run", digits, teacher=teacher)
    assert not (tmp_path / "run").exists()


def test_distill_needs_a_teacher(tmp_path: Path, digits: ImageSet) -> None:
    with pytest.raises(RecipeError, match="has distill, but there is no teacher"):
        train(tmp_path / "run", digits, {"distill.alpha": 0.3})
    assert not (tmp_path / "run").exists()


def test_the_command_line_names_the_teacher(tmp_path: Path, folder: Path) -> None:
    words = ["train", "resnet8", "--data", folder, "--recipe", "default", "--teacher", TEACHER, "--set", "epochs=1"]
    answer = ask(*words, "--set", "distill.temperature=2", "-o", tmp_path / "run", "--device", "cpu")
    assert answer.exit_code == 0, answer.stderr
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["recipe"]["distill"] == {"alpha": 0.5, "temperature": 2.0}
    again = ask(
        "reproduce", tmp_path / "run", "--data", folder, "--teacher", TEACHER, "-o", tmp_path / "again", "--json"
    )
    assert json.loads(again.stdout)["outcome"] == "file"
