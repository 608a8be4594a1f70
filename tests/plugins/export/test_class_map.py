"""Class activation maps in exported files, compared with Grad-CAM by gradients and with the logits."""

from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo import exporting
from zoo.loading.create import info_of

for module in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(module, reason=f"needs {module}")


def exported(name: str, file: Path, **options: str) -> Path:
    exporting.export(name, file, input="uint8", **options)
    return file


def run(file: Path, pixels: torch.Tensor) -> tuple[np.ndarray, ...]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    assert [output.name for output in session.get_outputs()] == ["logits", "class_map"]
    return tuple(session.run(None, {"images": pixels.numpy()}))


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("float32", 1e-4), pytest.param("float16", 0.02, marks=pytest.mark.slow),
     pytest.param("int8", 0.3, marks=pytest.mark.slow)],
)  # fmt: skip
def test_it_is_grad_cam_of_the_pooled_maps_and_its_mean_makes_the_logit(
    tmp_path: Path, precision: str, tolerance: float
) -> None:
    file = exported("resnet20.digits", tmp_path / "r.onnx", precision=precision)
    assert exporting.add_class_map(file)
    images = zoo.data.load("digits", "test").pixels[:5]
    logits, maps = run(file, images)
    model = zoo.create("resnet20.digits").eval()
    best = logits.argmax(1)
    assert maps.mean((1, 2)) + model.fc.bias.detach().numpy()[best] == pytest.approx(logits.max(1), rel=tolerance)
    preprocess = info_of(model).preprocess
    mean, std = (torch.tensor(part)[:, None, None] for part in (preprocess.mean, preprocess.std))
    inputs = (images / 255 - mean) / std
    theirs = zoo.look.attribute(model, inputs, "grad_cam").scores
    ours = torch.from_numpy(maps).relu() / maps[0].size
    assert (ours - theirs).abs().max() < tolerance * theirs.max()


def test_a_file_with_it_opens_predicts_and_states_its_hash(tmp_path: Path) -> None:
    file = exported("resnet20.digits", tmp_path / "r.onnx")
    before = file.read_bytes()
    assert exporting.add_class_map(file)
    assert file.read_bytes() != before
    assert zoo.evaluate(str(file), "digits").correct == 360


def test_a_maximum_over_places_is_no_mean(tmp_path: Path) -> None:
    exporting.export(zoo.create("resnet8", global_pool="max"), tmp_path / "m.onnx")
    before = (tmp_path / "m.onnx").read_bytes()
    assert not exporting.add_class_map(tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == before


@pytest.mark.slow
def test_a_head_of_three_layers_has_none(tmp_path: Path) -> None:
    assert not exporting.add_class_map(exported("alexnet_small.c10", tmp_path / "a.onnx"))
