"""The conformance kit lets a good plugin pass, and each broken promise fails the check that is named for it."""

import hashlib
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from support import specimen

from zoo.testing import Check, CheckError, checks_of, conformance, subject
from zoo.testing.checks import advice, every


def check_called(name: str, plugin: str = "specimen") -> Check:
    return next(check for check in checks_of(plugin) if check.name == name)


@pytest.mark.slow
def test_a_plugin_that_keeps_its_promises_passes_every_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specimen.install(tmp_path, monkeypatch)
    checks = checks_of("specimen")
    assert {"plugin-usable", "plugin-torch_free_import", "net-gradients", "net.remote-weights"} <= {
        check.name for check in checks
    }
    for check in checks:
        check()


def test_a_network_without_learnable_parameters_passes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is fitted, not trained along a gradient: its tensors are buffers."""
    fixed = """from torch import nn

def fixed(module):
    for name, value in list(module.named_parameters()):
        delattr(module, name)
        module.register_buffer(name, value.detach())
    return module
"""
    changes = [
        ("from torch import nn\n", fixed),
        ("nn.Conv2d(in_chans, 4, 3, padding=1, bias=False)", "fixed(nn.Conv2d(in_chans, 4, 3, padding=1, bias=False))"),
        ("nn.BatchNorm2d(4)", "fixed(nn.BatchNorm2d(4))"),
        ("nn.Linear(4, num_classes) if", "fixed(nn.Linear(4, num_classes)) if"),
        ("params=4 * 3 * 9 + 8 + 4 * 5 + 5", 'params=0, fitted=True, train="PACKAGE.model:train"'),
        ("def load(", "def train(model, data, recipe, run, *, preprocess, device):\n    return model\n\n\ndef load("),
        ("params = 151", "params = 0"),
    ]
    specimen.install(tmp_path, monkeypatch, *changes)
    checks = checks_of("specimen")
    fitted = {check.name for check in checks if check() == "net is fitted, without gradients"}
    assert fitted == {"net-gradients", "net-checkpointing"}


BROKEN = {
    "a newer contract": ("plugin-usable", "api=2", "api=99", "needs plugin contract 99"),
    "an import that fails": ("plugin-usable", "from zoo.spec", "import absent\nfrom zoo.spec", "No module named"),
    "torch at import": ("plugin-torch_free_import", "from zoo.spec", "import torch\nfrom zoo.spec", "imports torch"),
    "torch at import, hidden": (
        "plugin-torch_free_import",
        "from zoo.spec",
        "try:\n    import torch.nn\nexcept Exception:\n    pass\nfrom zoo.spec",
        "imports torch",
    ),
    "output at import": (
        "plugin-torch_free_import",
        "from zoo.spec",
        "import os\nos.write(1, b'loading')\nfrom zoo.spec",
        "writes to standard output: 'loading'",
    ),
    "a manifest with a wrong key": ("plugin-manifests", "pinned = false", "pined = false", "pined"),
    "a manifest of another model": ("plugin-manifests", "[net.remote]", "[other.remote]", "no model 'other'"),
    "a recipe with a wrong key": ("plugin-recipes", "epochs", "epoch", "no field 'epoch'"),
    "a recipe for no model": ("plugin-recipes", 'models = ["net"]', 'models = ["nett*"]', "nett"),
    "a hook that claims every repository": (
        "plugin-repositories",
        "datasets=(",
        'repositories="builtins:dict", datasets=(',
        "not of its form",
    ),
    "a data set without loader": ("plugin-extensions", "model:load", "model:absent", "absent"),
    "a converter that takes no model": (
        "plugin-extensions",
        "datasets=(",
        'converters={".npz": "builtins:hex"}, datasets=(',
        r"'\.npz': .* takes no argument 'found'",
    ),
    "an opener that is not there": (
        "plugin-extensions",
        "datasets=(",
        'openers={".toy": "PACKAGE.model:absent"}, datasets=(',
        "absent",
    ),
    "a build hook that is not there": ("net-row", "model:build", "model:absent", "absent"),
    "a train hook that is not there": ("net-row", "num_classes=5,", 'num_classes=5, train="absent:train",', "absent"),
    "nothing to learn": (
        "net-gradients",
        "return Net(num_classes, in_chans)",
        "return Net(num_classes, in_chans).requires_grad_(False)",
        "no learnable parameters: set fitted=True",
    ),
    "a head that is not there": ("net-row", '("fc",)', '("classifier",)', "head names 'classifier'"),
    "a stem without parameters": ("net-row", 'stem=("conv",)', 'stem=("act",)', "stem names 'act'"),
    "a stage that is not there": ("net-row", 'stages=("act",)', 'stages=("layer1",)', "stages names 'layer1'"),
    "no default_layers": ("net-interface", "self.default_layers", "self.layers", "no default_layers"),
    "default_layers that are not there": ("net-interface", '= ("act",)', '= ("relu",)', "'relu'"),
    "wrong num_features": ("net-interface", "num_features = 4", "num_features = 8", "num_features says 8"),
    "no pre_logits": ("net-interface", "x if pre_logits else self.fc(x)", "self.fc(x)", r"expected \(2, 4\)"),
    "wrong num_classes": ("net-interface", "self.num_classes = num_classes", "self.num_classes = 6", "declares 5"),
    "a parameter too many": ("net-parameters", "+ 5,", "+ 6,", "params = 142 is declared, the network has 141"),
    "multiply-adds miscounted": ("net-macs", "* 64", "* 63", "macs"),
    "a functional convolution not counted": (
        "net-macs",
        "self.norm(self.conv(x))",
        "F.conv2d(self.norm(self.conv(x)), torch.eye(4)[:, :, None, None])",
        "macs",
    ),
    "a network that a forward changes": (
        "net-attack",
        "self.norm(self.conv(x))",
        "self.norm(self.conv(x)) + self.norm.running_mean.data.add_(1)[:, None, None]",
        "an attack changes norm.running_mean",
    ),
    "num_classes ignored": ("net-num_classes", "Net(num_classes,", "Net(5,", r"expected \(2, 8\)"),
    "num_classes elsewhere than in the head": (
        "net-num_classes",
        "self.act = nn.ReLU()",
        'self.act = nn.ReLU(); self.register_buffer("prior", torch.zeros(num_classes))',
        "changes prior",
    ),
    "a head that is not declared": ("net-num_classes", 'head=("fc",)', "head=()", "changes fc.bias, fc.weight"),
    "a stem that is not declared": ("net-in_chans", 'stem=("conv",)', "stem=()", "changes conv.weight"),
    "a stem that names more than its convolution": (
        "net-in_chans",
        "self.conv = nn.Conv2d(in_chans, 4, 3, padding=1, bias=False)",
        "self.conv = nn.Sequential(nn.Conv2d(in_chans, 4, 3, padding=1, bias=False))",
        "should name the convolution itself",
    ),
    "in_chans beyond the stem": (
        "net-in_chans",
        "self.act = nn.ReLU()",
        'self.act = nn.ReLU(); self.register_buffer("mean", torch.zeros(in_chans))',
        "changes mean",
    ),
    "a classifier that stays": ("net-reset_classifier", "self.fc = nn.Linear", "self.kept = nn.Linear", "fc"),
    "a classifier that cannot be left out": (
        "net-reset_classifier",
        "nn.Linear(4, num_classes) if num_classes else nn.Identity()",
        "nn.Linear(4, num_classes or 1)",
        r"reset_classifier\(0\)",
    ),
    "a stage that takes no part": (
        "net-features",
        "self.act(self.norm",
        "torch.relu(self.norm",
        "'act' gives NoneType",
    ),
    "no intermediates": (
        "net-methods",
        "    forward_intermediates = Base.forward_intermediates\n",
        "",
        "no forward_intermediates. Derive it from zoo.modules.ImageClassifier",
    ),
    "parameters without a group": (
        "net-groups",
        "group_matcher = Base.group_matcher",
        'group_matcher = lambda self, coarse=False: {"conv.weight": 0}.__getitem__',
        r"no group for norm\.weight, norm\.bias, fc\.weight, fc\.bias",
    ),
    "intermediates of other channels": ("net-intermediates", '"num_chs": 4', '"num_chs": 5', r"says \[5\]"),
    "feature maps of other channels": ("net-features_only", '"num_chs": 4', '"num_chs": 5', r"says \[5, 5\]"),
    "checkpointing that changes the function": (
        "net-checkpointing",
        "set_grad_checkpointing = Base.set_grad_checkpointing",
        'set_grad_checkpointing = lambda self, enable: setattr(self, "act", nn.Tanh())',
        "with checkpointing, the output",
    ),
    "a copy that is not one": (
        "net-copies",
        "    def reset_classifier",
        "    def __deepcopy__(self, memo):\n        return self\n\n    def reset_classifier",
        r"a copy shares conv\.weight",
    ),
    "a function of the layout": (
        "net-layouts",
        "x = x.mean((2, 3))",
        "x = x.mean((2, 3)) * x.stride(1)",
        "in channels_last, the output",
    ),
    "wrong channels": ("net-features", '"num_chs": 4', '"num_chs": 5', "num_chs 5"),
    "a wrong reduction": ("net-features", '"reduction": 1', '"reduction": 2', "reduction 2"),
    "a number of images that is fixed": (
        "net-traced",
        "x = x.mean((2, 3))",
        "x = x.reshape(len(x), 4, 64).mean(2)",
        "traced with 2 images, it does not take 3",
    ),
    "a number of images that an export fixes": (
        "net-exported",
        "x = x.mean((2, 3))",
        "x = torch.stack([image.mean((1, 2)) for image in x])",
        "the number of images is fixed",
    ),
    "logits that are not finite": (
        "net-forward",
        "x = x.mean((2, 3))",
        "x = x.mean((2, 3)).sub(99).sqrt()",
        "not finite",
    ),
    "another shape": ("net-forward", "x if pre_logits else self.fc(x)", "self.fc(x)[None]", "expected"),
    "dropout that never ends": (
        "net-determinism",
        "x = x.mean((2, 3))",
        "x = F.dropout(x.mean((2, 3)), training=True)",
        "differ",
    ),
    "a forward with more than its halves": (
        "net-determinism",
        "return self.forward_head(",
        "return 1 + self.forward_head(",
        "forward_head",
    ),
    "statistics of the batch in evaluation": (
        "net-batches",
        "nn.BatchNorm2d(4)",
        "nn.BatchNorm2d(4, track_running_stats=False)",
        "of 64 images, the logits of one",
    ),
    "an initialisation that no seed decides": (
        "net-training",
        "return Net(num_classes, in_chans)",
        "import os\n    net = Net(num_classes, in_chans)\n"
        "    net.conv.weight.data.add_(int.from_bytes(os.urandom(6)) / 2**50)\n    return net",
        "trained twice with seed 1, it differs in conv.weight",
    ),
    "statistics that move in evaluation": (
        "net-determinism",
        "x = x.mean((2, 3))",
        "self.norm.running_mean.add_(1e-30)\n        self.norm.num_batches_tracked.add_(1)\n        x = x.mean((2, 3))",
        "changes norm.num_batches_tracked",
    ),
    "a value derived from initial weights": (
        "net-skipped_initialisation",
        "self.reset_classifier(num_classes)",
        "self.reset_classifier(num_classes)\n"
        "        scale = self.conv.weight.detach().norm()\n"
        "        self.act.register_forward_hook(lambda _m, _i, output: output * scale)",
        "without initialisation",
    ),
    "a state that loading changes": (
        "net-round_trip",
        "self.reset_classifier(num_classes)",
        "self.reset_classifier(num_classes)\n"
        "        self.register_load_state_dict_post_hook(lambda m, _: [m.fc.bias.data.add_(1)] and None)",
        "fc.bias",
    ),
    "a graph that is cut": (
        "net-gradients",
        "self.norm(self.conv(x))",
        "self.norm(self.conv(x).detach())",
        "conv.weight",
    ),
    "a gradient that is not finite": (
        "net-look",
        "x = x.mean((2, 3))",
        "x = x.mean((2, 3)) + (0 * x.mean((2, 3))).sqrt()",
        "gradient returns NaN or infinity",
    ),
    "looking that leaves traces": (
        "net-look",
        "return self.act(",
        "self.act.register_forward_hook(lambda *_: None)\n        return self.act(",
        "leaves hooks behind",
    ),
    "weights of another size than they state": (
        "net.remote-weights",
        "params = 151",
        "",
        "the listing has 141 params, the network 151: set params = 151",
    ),
    "weights with unknown arguments": ("net.remote-weights", "num_classes = 7", "args = {depth = 3}", "depth"),
}


@pytest.mark.first(2)
@pytest.mark.parametrize(("name", "old", "new", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_promise_fails_its_check(
    name: str, old: str, new: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specimen.install(tmp_path, monkeypatch, (old, new))
    check = check_called(name)
    with pytest.raises(Exception, match=reason):
        check()


HOOKS = {
    "a training that no seed decides": (
        "net-training",
        "train",
        "torch.nn.init.zeros_(model.fc.weight)\n    for part in model.parameters():\n        part.data.zero_()\n"
        "    return model",
        "trained with seed 1 and with seed 2, it is the same",
    ),
    "a train hook that fails": ("net-training", "train", "return data.absent", "failed for net: AttributeError"),
    "a train hook that returns nothing": ("net-training", "train", "pass", "returned NoneType"),
    "answers of other images": (
        "net-answers",
        "evaluate",
        "return torch.zeros(len(data) - 1, 5)",
        r"returned torch\.float32 of shape \(31, 5\) for 32 images",
    ),
    "answers that nobody can repeat": (
        "net-answers",
        "evaluate",
        "return torch.rand(len(data), 5)",
        "answers otherwise if the labels are shuffled",
    ),
    "answers that are the labels": ("net-answers", "evaluate", "return data.labels", "Images have no 'labels'"),
    "scores in place of answers": (
        "net-answers",
        "evaluate",
        "import zoo\n    return zoo.evaluation.evaluate(model, data, preprocess=preprocess)",
        "noise/train has no labels here",
    ),
}


@pytest.mark.first(2)
@pytest.mark.parametrize(("name", "hook", "body", "reason"), HOOKS.values(), ids=HOOKS)
def test_a_hook_that_breaks_a_promise_fails_its_check(
    name: str, hook: str, body: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"train": "model, data, recipe, run, *, preprocess, device", "evaluate": "model, data, *, preprocess"}
    changes = [
        ("num_classes=5,", f'num_classes=5, {hook}="PACKAGE.model:{hook}",'),
        ("def load(", f"def {hook}({arguments[hook]}):\n    {body}\n\n\ndef load("),
    ]
    specimen.install(tmp_path, monkeypatch, *changes)
    with pytest.raises(CheckError, match=reason):
        check_called(name)()


def test_a_network_without_feature_maps_has_no_promises_about_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = ('[{"num_chs": 4, "reduction": 1, "module": "act"}]', "[]")
    specimen.install(tmp_path, monkeypatch, maps, ('= ("act",)', "= ()"))
    for name in ("intermediates", "features_only", "look"):
        assert check_called(f"net-{name}").verify() == "it has no feature maps"
    check_called("net-interface").verify()
    check_called("net-features").verify()


def test_a_plugin_that_is_not_installed_fails_with_those_that_are() -> None:
    checks = checks_of("absent")
    assert [check.name for check in checks] == ["plugin-usable"]
    with pytest.raises(AssertionError, match="no plugin 'absent' is installed, only "):
        checks[0]()


def test_two_plugins_of_one_name_fail_with_their_distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = specimen.install(tmp_path, monkeypatch)
    second = specimen.install(tmp_path, monkeypatch)
    with pytest.raises(AssertionError, match="2 plugins are called 'specimen'") as caught:
        check_called("plugin-usable")()
    assert first in str(caught.value)
    assert second in str(caught.value)


def test_a_missing_extra_skips_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change = ("num_classes=5,", 'num_classes=5, requires=(Requirement("absent", "zoo-specimen[extra]"),),')
    specimen.install(tmp_path, monkeypatch, change)
    with pytest.raises(pytest.skip.Exception, match=r"pip install 'zoo-specimen\[extra\]'"):
        check_called("net-forward")()


EMBEDDED = """
[net.embedded]
hub = "embedded:PACKAGE"
file = "net.safetensors"
sha256 = "SHA256"
"""
PROBE = "probe = {tolerance = {float32 = 0.1}, logits = [[99.0, 0.0]]}"


@pytest.mark.parametrize(
    ("sha256", "probe", "field"),
    [("", "", ""), ("0" * 64, "", "sha256"), ("", PROBE, "probe")],
    ids=["right", "another hash", "another probe"],
)
def test_embedded_weights_are_loaded_and_probed(
    sha256: str, probe: str, field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {
        "conv.weight": torch.randn(4, 3, 3, 3),
        "norm.weight": torch.ones(4),
        "norm.bias": torch.zeros(4),
        "norm.running_mean": torch.zeros(4),
        "norm.running_var": torch.ones(4),
        "norm.num_batches_tracked": torch.tensor(0),
        "fc.weight": torch.randn(5, 4),
        "fc.bias": torch.zeros(5),
    }
    data = save(state)
    table = EMBEDDED.replace("SHA256", sha256 or hashlib.sha256(data).hexdigest()) + probe
    specimen.install(tmp_path, monkeypatch, ("[net.remote]", f"{table}\n[net.remote]"), more={"net.safetensors": data})
    check = check_called("net.embedded-weights")
    if not field:
        check()
    else:
        with pytest.raises(CheckError, match=r"net\.embedded: ") as caught:
            check()
        assert (caught.value.of, caught.value.field) == ("net.embedded", field)


def test_an_attack_is_checked_where_softmax_is_saturated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At logits of thousands the gradient for the class that the network says is exactly 0."""
    sure = "x if pre_logits else self.fc(x) + torch.tensor([1e4, 0, 0, 0, 0])"
    specimen.install(tmp_path, monkeypatch, ("x if pre_logits else self.fc(x)", sure))
    check_called("net-attack")()


def test_a_giant_keeps_its_promises_without_arithmetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "GIANT_PARAMS", 0)
    specimen.install(tmp_path, monkeypatch)
    slow = {check.name.removeprefix("net-") for check in checks_of("specimen") if check.is_slow}
    assert slow == {
        "net.remote-fetched",
        "forward",
        "determinism",
        "batches",
        "training",
        "answers",
        "skipped_initialisation",
        "round_trip",
        "gradients",
        "look",
        "attack",
        "traced",
        "exported",
        "checkpointing",
        "copies",
        "layouts",
        "resized",
        "compiled",
    }
    for check in checks_of("specimen"):
        check()


def test_what_a_row_declares_is_checked_of_each_model_and_its_code_of_the_smallest_of_a_hook() -> None:
    """resnet20 and plain20 are the smallest of their hook, and as large."""
    slow = {check.name for check in checks_of("resnet") if check.is_slow}
    code = {"num_classes", "in_chans", "reset_classifier", "features", "forward", "intermediates"}
    code |= {"features_only", "determinism", "batches", "skipped_initialisation", "round_trip", "gradients"}
    code |= {"checkpointing", "copies", "layouts"}
    of_each = {"row", "interface", "parameters", "macs", "methods", "groups"}
    assert {f"resnet32-{name}" for name in code} <= slow
    for name in code:
        assert len(slow & {f"resnet20-{name}", f"plain20-{name}"}) == 1
    assert not slow & {f"{model}-{name}" for model in ("resnet32", "resnet1202", "resnet152") for name in of_each}


def test_a_giant_that_needs_real_numbers_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "GIANT_PARAMS", 0)
    specimen.install(tmp_path, monkeypatch, ("x = x.mean((2, 3))", "x = x.mean((2, 3)) + 0 * x.sum().item()"))
    check_called("net-num_classes")()
    check_called("net-features")()


def test_a_wrong_channel_count_of_a_giant_is_found_without_arithmetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "GIANT_PARAMS", 0)
    specimen.install(tmp_path, monkeypatch, ('"num_chs": 4', '"num_chs": 5'))
    with pytest.raises(AssertionError, match="num_chs 5"):
        check_called("net-features")()


def test_the_decorator_makes_one_named_test_a_check_and_marks_the_slow_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "GIANT_PARAMS", 0)
    specimen.install(tmp_path, monkeypatch)
    argument, parameters = conformance("specimen").args
    assert argument == "check"
    assert [parameter.id for parameter in parameters] == [check.name for check in checks_of("specimen")]
    slow = {parameter.id for parameter in parameters if parameter.marks}
    assert "net-gradients" in slow
    assert "net-num_classes" not in slow


def test_every_check_says_what_it_promises_and_what_to_do() -> None:
    names = [check.__name__ for check in every()]
    assert len(names) == len(set(names)) > 30
    for check in every():
        assert re.fullmatch(r"[^\n]+\.", (check.__doc__ or "").partition("\n")[0]), check
        assert re.fullmatch(r"Fix: [^A-Z].*\.", advice(check)), check
