"""Arguments that change what a network computes and that no tensor shows: decided, or refused; heads; folding."""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import distributions
from support.command import ask_warm
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo import manifest
from zoo.errors import FileFormatError, TensorMismatchError, UnknownNameError, WeightsError
from zoo.loading import safetensors_file
from zoo.statistics import wilson
from zoo_convert import Stated, convert

NET = """
from typing import Literal
from torch import nn

class Net(nn.Module):
    def __init__(self, *, num_classes, in_chans, stride_on: Literal["first", "second"] = "first",
                 pool: Literal["max", "avg"] = "max", wide: bool = False, init: Literal["a", "b"] = "a",
                 slope: float = 0.0, hidden: Literal["on", "off"] = "on"):
        super().__init__()
        first, second = (2, 1) if stride_on == "first" else (1, 2)
        self.conv = nn.Conv2d(in_chans, 6, 3, first, padding=1)
        self.conv2 = nn.Conv2d(6, 8 if wide else 6, 3, second, padding=1)
        self.act = nn.LeakyReLU(slope)
        self.pool = nn.AdaptiveMaxPool2d(1) if pool == "max" else nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(8 if wide else 6, 4) if hidden == "on" else nn.Identity()
        self.fc = nn.Linear(4 if hidden == "on" else 8 if wide else 6, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x):
        return self.hidden(self.pool(self.act(self.conv2(self.act(self.conv(x))))).flatten(1))

    def forward(self, x):
        return self.fc(self.forward_features(x))

build = Net
"""
ROW = """head=("fc",), stem=("conv",), num_classes=5, preprocess=Preprocess(input_size=(3, 8, 8)), file_args={
    "stride_on": Argument(("first", "second")), "wide": Argument((True, False)), "init": Argument(("a", "b")),
    "slope": Argument(least=0.0, most=1.0), "hidden": Argument(("on", "off")),
}"""
MAP = 'KeyMap("old", rename=(("^net[.]", ""),), args={"stride_on": "second"})'


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str = "", key_maps: str = f"({MAP},)") -> None:
    text = distributions.plugin("open", "open_net", key_maps=key_maps)
    row = 'Model("open_net", build="open_model:build"'
    assert row in text
    text = text.replace(row, f"{more}{row}, {ROW}")
    files = {
        "open.py": text.replace("import Model", "import Argument, KeyMap, Preprocess, Model"),
        "open_model.py": NET,
    }
    distributions.bring(monkeypatch, tmp_path / "site", "zoo-open", {"open": "open:plugin"}, files)


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Installs a family whose arguments change what it computes; writes the file of a stranger's network."""
    install(tmp_path, monkeypatch)

    def write(prefix: str = "", *, more: dict[str, Tensor] | None = None, without: str = "-", **args: Any) -> Path:
        torch.manual_seed(0)
        state = {f"{prefix}{key}": tensor for key, tensor in zoo.create("open_net", **args).state_dict().items()}
        state = {key: tensor for key, tensor in state.items() if not key.startswith(without)}
        torch.save({**state, **(more or {})}, tmp_path / "theirs.pth")
        return tmp_path / "theirs.pth"

    return write


def written(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir() if path.is_file())


def test_a_function_that_no_tensor_shows_is_refused_with_every_alternative(
    theirs: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match="can be converted in 2 ways") as caught:
        convert(theirs(), "open_net", tmp_path / "out.safetensors")
    assert "--from as-is  ()" in caught.value.message
    assert "--from old  (stride_on='second')" in caught.value.message
    for shown in ("wide", "init", "hidden"):  # by tensors, or it changes nothing
        assert f"--arg {shown}" not in caught.value.message
    assert written(tmp_path) == ["theirs.pth"]


def test_what_a_key_map_says_of_an_argument_does_not_prove_it(theirs: Callable[..., Path], tmp_path: Path) -> None:
    """Its names may be those of another lineage."""
    with pytest.raises(WeightsError, match="can be converted in 2 ways") as caught:
        convert(theirs("net."), "open_net", tmp_path / "out.safetensors")
    assert "--from old" in caught.value.message
    assert "--arg stride_on=first" in caught.value.message


@pytest.mark.parametrize("stride_on", ["first", "second"])
def test_an_argument_that_the_caller_states_settles_it(
    stride_on: str, theirs: Callable[..., Path], tmp_path: Path
) -> None:
    stated = Stated(args={"stride_on": stride_on})
    report = convert(theirs(stride_on=stride_on), "open_net", tmp_path / "out.safetensors", stated=stated)
    assert manifest.parse(report.entry)[0].args == {"stride_on": stride_on}
    torch.manual_seed(0)
    oracle, images = zoo.create("open_net", stride_on=stride_on).eval(), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(zoo.create("open_net", weights=report.file).eval()(images), oracle(images))


def test_what_is_not_decided_is_assumed_in_the_report_and_the_written_file(
    theirs: Callable[..., Path], tmp_path: Path
) -> None:
    """A number of a range, and an argument that no file may set."""
    report = convert(theirs(), "open_net", tmp_path / "out.safetensors", key_map="as-is")
    [line] = [line for line in report.assumed if line.startswith("arguments")]
    assert line == "arguments (no tensor shows them): stride_on (its default), slope (its default), pool (its default)"
    origin = safetensors_file.metadata(Path(report.file))["origin"]
    assert "arguments stride_on (its default), slope (its default), pool (its default)" in origin


@pytest.mark.parametrize("stride_on", ["first", "second"])
def test_the_outputs_of_an_onnx_file_decide(stride_on: str, theirs: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs zoo-vision[convert]")
    theirs()
    torch.manual_seed(0)
    module = zoo.create("open_net", stride_on=stride_on).eval()
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.normal_(part.bias, 0, 0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is old
        torch.onnx.export(module, (torch.randn(1, 3, 8, 8),), str(tmp_path / "net.onnx"), dynamo=False)
    report = convert(tmp_path / "net.onnx", "open_net", tmp_path / "out.safetensors")
    args = manifest.parse(report.entry)[0].args
    assert args.get("stride_on", "first") == stride_on
    assert report.proof is not None
    assert not any(line.startswith("arguments") for line in report.assumed)


def test_the_score_decides(theirs: Callable[..., Path], tmp_path: Path) -> None:
    file = theirs(stride_on="second")
    images = torch.randn(300, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    with torch.inference_mode():
        labels = zoo.create("open_net", stride_on="second").eval()(images).argmax(1)

    def score(module: Any) -> Any:
        with torch.inference_mode():
            right = int((module(images).argmax(1) == labels).sum())
        interval = tuple(100 * part for part in wilson(right, 300))
        return SimpleNamespace(top1=right / 3, correct=right, n=300, interval=interval)

    report = convert(file, "open_net", tmp_path / "out.safetensors", score=score, at_least=0)
    assert manifest.parse(report.entry)[0].args == {"stride_on": "second"}


def test_an_argument_that_tensors_show_is_found(theirs: Callable[..., Path], tmp_path: Path) -> None:
    report = convert(
        theirs(wide=True), "open_net", tmp_path / "out.safetensors", stated=Stated(args={"stride_on": "first"})
    )
    assert manifest.parse(report.entry)[0].args == {"wide": True, "stride_on": "first"}


def test_an_argument_in_which_two_models_differ_is_stated_by_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f'Model("other_net", build="open_model:build", args={{"stride_on": "second"}}, {ROW}), '
    install(tmp_path, monkeypatch, other, "()")
    torch.save(zoo.create("open_net").state_dict(), tmp_path / "theirs.pth")
    assert convert(tmp_path / "theirs.pth", "open_net", tmp_path / "out.safetensors").key_map == "as-is"


def test_an_argument_that_the_model_does_not_have_is_refused(theirs: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="open_net has no argument 'stem'"):
        convert(theirs(), "open_net", tmp_path / "out.safetensors", stated=Stated(args={"stem": "small"}))


# ---- heads ----------------------------------------------------------------------------------------------

STRANGE = {"top.0.weight": torch.ones(7, 4), "top.0.bias": torch.ones(7), "top.2.weight": torch.ones(2, 7)}


@pytest.mark.parametrize("how", [{"without": "fc."}, {"without": "-"}])
def test_a_trunk_leaves_out_every_layer_behind_it(
    how: dict[str, Any], theirs: Callable[..., Path], tmp_path: Path
) -> None:
    stated = Stated(trunk=True, args={"stride_on": "first"})
    report = convert(theirs(more=STRANGE, **how), "open_net", tmp_path / "out.safetensors", stated=stated)
    kept = {"conv.weight", "conv.bias", "conv2.weight", "conv2.bias", "hidden.weight", "hidden.bias"}
    assert set(safetensors_file.read(Path(report.file))) == kept
    assert set(STRANGE) <= set(report.dropped)


@pytest.mark.parametrize("key", ["conv.attention.weight", "aside.weight"])
def test_a_tensor_that_is_not_behind_the_trunk_is_not_left_out(
    key: str, theirs: Callable[..., Path], tmp_path: Path
) -> None:
    file = theirs(without="fc.")
    state = torch.load(file)
    changed = {**({key: torch.ones(2, 2)} if key == "aside.weight" else {}), **state}
    changed |= {key: torch.ones(2, 2)}
    torch.save(changed, file)
    stated = Stated(trunk=True, args={"stride_on": "first"})
    with pytest.raises(TensorMismatchError, match=f"unexpected  {key}") as caught:
        convert(file, "open_net", tmp_path / "out.safetensors", stated=stated)
    assert f"--drop '{key.partition('.')[0]}*'" in caught.value.hint


class WithLayers(nn.Module):
    """A trunk with an output aside and two layers behind it."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk, self.aside = trunk, nn.Conv2d(6, 2, 1)
        self.top = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.top(self.trunk(x)), self.aside(self.trunk.conv(x))


def test_a_trunk_is_taken_from_an_onnx_file_with_several_layers_and_outputs(
    theirs: Callable[..., Path], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason="needs zoo-vision[convert]")
    theirs()
    torch.manual_seed(0)
    trunk = zoo.create("open_net", num_classes=0, stride_on="second").eval()
    for part in (module := WithLayers(trunk)).modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.normal_(part.bias, 0, 0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is old
        torch.onnx.export(module, (torch.randn(1, 3, 8, 8),), str(tmp_path / "net.onnx"), dynamo=False)
    report = convert(tmp_path / "net.onnx", "open_net", tmp_path / "out.safetensors", stated=Stated(trunk=True))
    assert report.proof is not None
    assert report.proof.compared == "features"
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        ours = zoo.create("open_net", weights=report.file).eval()(images)
        torch.testing.assert_close(ours, trunk(images), rtol=1e-4, atol=1e-5)


def test_drop_leaves_tensors_out_by_pattern(theirs: Callable[..., Path], tmp_path: Path) -> None:
    file = theirs(more={"side1.weight": torch.ones(1), "side2.weight": torch.ones(1)})
    words = ["-o", tmp_path / "out.safetensors", "--arg", "stride_on=first"]
    assert ask_warm("convert", file, "open_net", *words).exit_code == 1
    done = ask_warm("convert", file, "open_net", *words, "--drop", "side*")
    assert done.exit_code == 0, done.output
    assert "dropped side1.weight" in done.output


def test_a_pattern_that_matches_no_tensor_is_refused_with_one_of_the_file(
    theirs: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match=r"theirs\.pth has no tensor 'sid\*'") as caught:
        convert(theirs(), "open_net", tmp_path / "out.safetensors", stated=Stated(drop=("sid*",)))
    assert "conv.weight" in caught.value.hint


def test_an_error_names_tensors_as_the_file_does(theirs: Callable[..., Path], tmp_path: Path) -> None:
    file = theirs("net.", more={"net.extra.weight": torch.ones(1)})
    with pytest.raises(TensorMismatchError, match=r"unexpected  net\.extra\.weight"):
        convert(file, "open_net", tmp_path / "out.safetensors", key_map="old")


# ---- folding, by value ----------------------------------------------------------------------------------

FOLDED = """KeyMap(
    "folded",
    rename=(("^c[.]", "conv."), ("^n[.]", "norm."), ("^d[.]", "fc.")),
    drop=("^c[.]mask$",),
    fold_bias=((r"^conv[.]bias$", "norm.running_mean"),),
    norm_eps=(0.5, 1e-5),
    input_order="bgr",
    input_scale=255.0,
    preprocess={"mean": (0.4, 0.5, 0.6), "std": (1.0, 1.0, 1.0)},
)"""


def test_bias_epsilon_order_and_range_are_folded_with_their_signs(family: Callable[[str], str], tmp_path: Path) -> None:
    """The oracle is the function as its author wrote it: B, G, R in [0, 255] less a mean, a bias, an epsilon of 0.5."""
    name = family(FOLDED)
    draw = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(6, 3, 3, 3, generator=draw) / 100, torch.randn(6, generator=draw)
    scale, shift, mean = (torch.randn(6, generator=draw) for _ in range(3))
    variance = torch.rand(6, generator=draw) + 0.1
    dense, end = torch.randn(5, 384, generator=draw), torch.randn(5, generator=draw)
    state = {"c.weight": weight, "c.bias": bias, "n.weight": scale, "n.bias": shift, "n.running_mean": mean}
    state |= {"n.running_var": variance, "d.weight": dense, "d.bias": end, "c.mask": torch.ones(6)}
    torch.save(state, tmp_path / "theirs.pth")
    report = convert(tmp_path / "theirs.pth", name, tmp_path / "out.safetensors")

    pixels = torch.randint(0, 256, (2, 3, 8, 8), generator=draw).float()
    ours_mean = torch.tensor([0.4, 0.5, 0.6])[:, None, None]
    theirs = F.conv2d((pixels - 255 * ours_mean).flip(1), weight, bias, padding=1)
    theirs = F.batch_norm(theirs, mean, variance, scale, shift, eps=0.5).relu().flatten(1) @ dense.T + end
    network = zoo.create(name, weights=report.file).eval()
    assert network.zoo_info.preprocess.mean == (0.4, 0.5, 0.6)
    with torch.inference_mode():
        ours = network(pixels / 255 - ours_mean)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
    assert report.dropped == ["c.mask"]

    kept = safetensors_file.read(Path(report.file))
    torch.testing.assert_close(kept["norm.running_mean"], mean - bias)
    torch.testing.assert_close(kept["norm.running_var"], variance + 0.5 - 1e-5)
    torch.testing.assert_close(kept["conv.weight"], 255 * weight.flip(1))


# ---- files of other kinds -------------------------------------------------------------------------------


def test_a_file_that_is_no_checkpoint_gets_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "app.js").write_text("!function () { return 33 }\n")
    with pytest.raises(FileFormatError, match="not a checkpoint of torch, which is a zip archive or a pickle"):
        convert(tmp_path / "app.js", "resnet20", tmp_path / "out.safetensors")


@pytest.mark.slow
def test_a_densenet_with_a_normalization_behind_its_first_convolution(tmp_path: Path) -> None:
    """The tensors show that, but not whether a pool follows."""
    torch.save(zoo.create("densenet_bc_40_12", stem="small").state_dict(), tmp_path / "theirs.pth")
    with pytest.raises(WeightsError, match="2 ways") as caught:
        convert(tmp_path / "theirs.pth", "densenet_bc_40_12", tmp_path / "out.safetensors")
    assert "--arg stem=small " in caught.value.message
    assert "--arg stem=small_pool" in caught.value.message
    stated = Stated(args={"stem": "small"})
    report = convert(tmp_path / "theirs.pth", "densenet_bc_40_12", tmp_path / "out.safetensors", stated=stated)
    assert manifest.parse(report.entry)[0].args == {"stem": "small"}
