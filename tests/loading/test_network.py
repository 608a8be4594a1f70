"""From a file's tensors to a module: everything accounted for, nothing copied, nothing unpickled."""

import hashlib
import json
import pickle
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from torch import Tensor, nn

import zoo
from zoo import loading, registry
from zoo.errors import FileFormatError, TensorMismatchError, WeightsError
from zoo.loading import safetensors_file


class Tied(nn.Module):
    """An autoencoder whose two layers share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(4, 4, bias=False)
        self.decode = nn.Linear(4, 4)
        self.decode.weight = self.encode.weight


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    file = tmp_path / "net.safetensors"
    safetensors_file.write(network().state_dict(), file, {"model": "net"})
    return file


def test_missing_unexpected_mis_shaped_and_mis_typed_tensors_are_all_listed() -> None:
    state = network().state_dict()
    del state["0.bias"], state["1.running_var"]
    state["5.weight"] = torch.zeros(7)
    state["4.weight"] = torch.zeros(3, 16)
    state["4.bias"] = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(TensorMismatchError) as caught:
        loading.assign(network(), state, "some/file")
    text = str(caught.value)
    assert "some/file does not fit Sequential: 5 tensors differ" in text
    for line in (
        "missing     0.bias (4,)",
        "missing     1.running_var (4,)",
        "unexpected  5.weight (7,)",
        "mis-shaped  4.weight: expected (2, 16), got (3, 16)",
        "mis-typed   4.bias: expected torch.float32, got torch.int64",
    ):
        assert line in text
    assert "zoo convert" in caught.value.hint


def test_a_module_that_does_not_fit_is_left_as_it_was() -> None:
    module = network()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    with pytest.raises(TensorMismatchError):
        loading.assign(module, {key: tensor + 1 for key, tensor in before.items() if key != "0.bias"}, "")
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())


def test_tensors_are_adopted_without_a_copy(written: Path) -> None:
    module, tensors = network(), safetensors_file.read(written)
    loading.assign(module, tensors, written)
    for key, tensor in module.state_dict().items():
        assert tensor.data_ptr() == tensors[key].data_ptr()


def test_parameters_stay_trainable_and_a_step_leaves_the_file_as_it_was(written: Path) -> None:
    before = sha256(written)
    module = network()
    loading.assign(module, safetensors_file.read(written), written)
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in module.parameters())
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    module(torch.randn(2, 3, 4, 4)).square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.add_(1)
    changed = safetensors_file.read(written)
    assert all(not torch.equal(tensor, changed[key]) for key, tensor in module.state_dict().items())
    assert sha256(written) == before


def test_tied_weights_are_written_and_stay_tied(tmp_path: Path) -> None:
    one, other, file = Tied(), Tied(), tmp_path / "tied.safetensors"
    safetensors_file.write(one.state_dict(), file, {})
    loading.assign(other, safetensors_file.read(file), file)
    assert other.decode.weight is other.encode.weight
    assert torch.equal(other.encode.weight, one.encode.weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_are_cast_to_the_modules(dtype: torch.dtype, tmp_path: Path) -> None:
    module, file = network(), tmp_path / "net.safetensors"
    state = {
        key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in module.state_dict().items()
    }
    safetensors_file.write(state, file, {})
    loading.assign(module, safetensors_file.read(file), file)
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float32, torch.int64}
    assert torch.equal(module.get_parameter("0.weight"), state["0.weight"].float())


@pytest.mark.parametrize("in_chans", [1, 2, 4, 6, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_stem_is_adapted_as_timm_does(in_chans: int, dtype: torch.dtype) -> None:
    manipulate = pytest.importorskip("timm.models._manipulate", reason="needs timm")
    weight = torch.randn(8, 3, 5, 5).to(dtype)
    tensors = {"stem.weight": weight, "other.weight": weight}
    assert loading.adapt_stem(tensors, ("stem",), in_chans) == ["stem.weight"]
    torch.testing.assert_close(tensors["stem.weight"], manipulate.adapt_input_conv(in_chans, weight), rtol=0, atol=0)
    assert tensors["other.weight"] is weight


@pytest.mark.parametrize("before", [1, 2, 4])
def test_an_adapted_stem_keeps_the_sum_over_its_inputs(before: int) -> None:
    """So that a grey image, repeated over the channels, gives what it gave."""
    tensors = {"stem.weight": torch.randn(8, before, 3, 3)}
    expected = tensors["stem.weight"].mean(1)
    loading.adapt_stem(tensors, ("stem",), 2 * before)
    torch.testing.assert_close(tensors["stem.weight"].sum(1), before * expected)


def test_initialisation_is_skipped_in_this_thread_alone() -> None:
    def fill(into: list[Tensor]) -> None:
        into.append(nn.init.ones_(torch.zeros(3)))

    mine: list[Tensor] = []
    others: list[Tensor] = []
    with loading.skip_init():
        thread = threading.Thread(target=fill, args=(others,))
        thread.start()
        thread.join()
        fill(mine)
        with loading.skip_init():
            fill(mine)
        fill(mine)
    fill(mine)
    assert others[0].tolist() == [1, 1, 1]
    assert [tensor.tolist()[0] for tensor in mine] == [0, 0, 0, 1]


def test_initialisation_is_back_after_an_error() -> None:
    with pytest.raises(KeyError), loading.skip_init():
        raise KeyError
    assert nn.init.constant_(torch.zeros(1), 5).item() == 5


def test_every_initialiser_of_torch_can_be_skipped() -> None:
    with loading.skip_init():
        for name in ("kaiming_normal_", "xavier_uniform_", "trunc_normal_", "orthogonal_", "zeros_", "sparse_"):
            arguments: dict[str, Any] = {"sparsity": 0.5} if name == "sparse_" else {}
            assert getattr(nn.init, name)(torch.full((2, 2), 7.0), **arguments).tolist() == [[7, 7], [7, 7]]


def test_what_is_written_is_what_anybody_reads(written: Path) -> None:
    """Equal to the safetensors library's own reading, and described in one metadata entry."""
    with safetensors.safe_open(written, "pt") as stream:
        keys = sorted(stream.keys())
        assert json.loads(stream.metadata()["zoo"]) == {"model": "net"}
    assert keys == sorted(network().state_dict())
    assert safetensors_file.metadata(written) == {"model": "net"}


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    state = network().state_dict()
    about = {"b": 1, "a": {"d": 2, "c": 3}}
    again = {key: state[key] for key in reversed(list(state))}
    first = safetensors_file.write(state, tmp_path / "one", about)
    second = safetensors_file.write(again, tmp_path / "two", dict(reversed(about.items())))
    assert first == second == sha256(tmp_path / "one") == sha256(tmp_path / "two")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(written: Path) -> None:
    before = sha256(written)
    with pytest.raises(TypeError):
        safetensors_file.write({"a": torch.zeros(1)}, written, {"not JSON": object()})
    assert sha256(written) == before
    assert [path.name for path in written.parent.iterdir()] == [written.name]


def test_a_file_of_another_origin_has_no_description(tmp_path: Path) -> None:
    save_file({"a": np.zeros(1, dtype=np.float32)}, tmp_path / "a.safetensors", metadata={"format": "pt"})
    assert safetensors_file.metadata(tmp_path / "a.safetensors") == {}
    assert safetensors_file.read(tmp_path / "a.safetensors")["a"].tolist() == [0]


@settings(max_examples=60, deadline=None)
@example(640)
@example(896)
@example(1152)
@example(1408)
@example(0x10280)
@given(st.integers(80, 10_000))
def test_a_header_of_any_length_is_read(length: int) -> None:
    """Also where the length begins as a pickle does: 640 is written 80 02."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode().ljust(length)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "net.safetensors")
        file.write_bytes(length.to_bytes(8, "little") + header + np.float32([1, 2]).tobytes())
        assert safetensors_file.read(file)["a"].tolist() == [1, 2]
        assert safetensors_file.metadata(file) == {}


class Bomb:
    """Whoever unpickles it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("form", ["zip", "legacy", "protocol 2", "protocol 4", "protocol 5"])
def test_a_pickle_is_refused_unread_with_how_to_convert_it(form: str, tmp_path: Path) -> None:
    file, mark = tmp_path / "net.pth", tmp_path / "unpickled"
    if form in ("zip", "legacy"):
        torch.save({"a": Bomb(mark)}, file, _use_new_zipfile_serialization=form == "zip")
    else:
        file.write_bytes(pickle.dumps(Bomb(mark), protocol=int(form[-1])))
    for reader in (safetensors_file.read, safetensors_file.metadata):
        with pytest.raises(FileFormatError, match="this is a pickle") as caught:
            reader(file)
        assert f"zoo convert {file}" in caught.value.hint
    assert not mark.exists()


def test_a_file_that_is_not_there_or_is_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.safetensors: cannot be read: No such file"):
        safetensors_file.read(tmp_path / "absent.safetensors")
    with pytest.raises(WeightsError, match="cannot be read: Is a directory"):
        safetensors_file.read(tmp_path)


def test_a_header_larger_than_any_network_needs_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "huge.safetensors"
    with file.open("wb") as stream:
        stream.write((safetensors_file.MAX_HEADER + 1).to_bytes(8, "little"))
        stream.truncate(safetensors_file.MAX_HEADER * 2)
    with pytest.raises(FileFormatError, match="incomplete safetensors file"):
        safetensors_file.read(file)


def test_classes_that_no_manifest_names_are_those_of_the_file() -> None:
    assert zoo.create("orn8_align.mnist_rot").zoo_info.class_names == tuple("0123456789")
    assert zoo.create("hmax.caltech101").zoo_info.class_names[:2] == ("BACKGROUND_Google", "Faces")
    assert zoo.create("orn8_align.mnist_rot", num_classes=3).zoo_info.class_names == ()


@pytest.mark.parametrize("name", ["googlenet_small.c10", "resnet20.c10"])
@pytest.mark.parametrize("channels", [1, 6])
def test_a_trained_first_layer_takes_other_channels_and_answers_grey_as_colour(name: str, channels: int) -> None:
    """One channel is the sum over three, so that a grey image gives what it gives as colour."""
    color, other = zoo.create(name).eval(), zoo.create(name, in_chans=channels).eval()
    gray = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = other(gray.expand(-1, channels, -1, -1))
        torch.testing.assert_close(logits, color(gray.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-3)


UNADAPTABLE = {
    ("kmeans_svm", 1): "cannot be adapted to 1: it is no convolution",
    ("kmeans_svm", 6): "cannot be adapted to 6: it is no convolution",
    ("bn_inception_tf", 1): "eight filters for each of its 3 input channels",
}


def stems() -> list[Any]:
    """Returns the smallest network of every first layer that families build; large ones are slow."""
    rows = [registry.current().find(name).model for name in zoo.list_models()]
    smallest = {(row.build, row.stem): row.name for row in sorted(rows, key=lambda row: -row.params)}
    large = {row.name for row in rows if row.macs > 3e8 and (row.name, 1) not in UNADAPTABLE}
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in large)) for name in sorted(smallest.values())]


@pytest.mark.parametrize("name", stems())
def test_first_layers_of_all_families_take_other_channels_or_say_why_not(name: str, tmp_path: Path) -> None:
    """Twice as many channels, or one, of a grey image give what the network's own give."""
    network, file = zoo.create(name, pretrained=False).eval(), tmp_path / "own.safetensors"
    safetensors_file.write(network.state_dict(), file, {})
    usual, height, width = network.zoo_info.preprocess.input_size
    gray = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(0))
    for channels in {1, 2 * usual} - {usual}:
        if reason := UNADAPTABLE.get((name, channels)):
            with pytest.raises(zoo.WeightsError, match=reason) as caught:
                zoo.create(name, weights=file, in_chans=channels)
            assert "images are made to have 3 channels" in caught.value.hint
            continue
        other = zoo.create(name, weights=file, in_chans=channels).eval()
        with torch.inference_mode():
            expected = network(gray.expand(-1, usual, -1, -1))
            answer = other(gray.expand(-1, channels, -1, -1))
        assert (answer - expected).abs().max() <= 1e-3 * expected.abs().max()


def test_a_trained_normalization_of_coefficients_is_adapted_with_what_follows() -> None:
    """Six channels are twice three, exactly; one is nearly what a grey image gives, as statistics of colors differ."""
    color, six, one = (zoo.create("scatter_linear.c10", in_chans=channels).eval() for channels in (3, 6, 1))
    gray = torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = color(gray.expand(-1, 3, -1, -1))
        torch.testing.assert_close(six(gray.expand(-1, 6, -1, -1)), expected, rtol=1e-3, atol=1e-3)
        assert torch.corrcoef(torch.stack([one(gray).flatten(), expected.flatten()]))[0, 1] > 0.9
