"""Plausible mistakes, on the command line and in Python, and what is answered to each.

No mistake ends in a traceback or in an error of another library. The answer names what was wrong, what was expected and
what to do; no hint repeats what was typed or names an option that the command lacks.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from support.command import ask_warm

import zoo
from zoo.cli import cli

DIGIT = Path(__file__).parents[1] / "examples" / "digit.png"

WORDS = r"""
# Commands and options
lsit                                             => No such command 'lsit'\. Did you mean 'zoo list'\?
ls                                               => Did you mean 'zoo list'\?
traim resnet20                                   => Did you mean 'zoo train'\?
models                                           => Did you mean 'zoo list'\?
download resnet20                                => Did you mean 'zoo fetch'\?
test resnet20                                    => Did you mean 'zoo evaluate'\?
eval resnet20                                    => Did you mean 'zoo evaluate'\?
pin resnet20                                     => Did you mean 'zoo manifest pin'\?
frobnicate                                       => No such command 'frobnicate'\. zoo -h lists them
--versoin                                        => Did you mean '--version'\?
cache nope                                       => No such command 'nope'\. zoo cache -h lists them
cache ls                                         => Did you mean 'zoo cache list'\?
plugins nope                                     => zoo plugins -h lists them
look nope                                        => zoo look -h lists them
look maps resnet20.digits x.png                  => No such command 'maps'
attack evaluate nope                             => No such command 'evaluate'
gallery nope                                     => zoo gallery -h lists them
course nope                                      => zoo course -h lists them
manifest nope                                    => zoo manifest -h lists them
bulk nope                                        => zoo bulk -h lists them
transfer                                         => No such command 'transfer'
# Names
info                                             => Missing argument 'NAME'
info resnet5o                                    => Unknown model 'resnet5o'(?s:.*)Did you mean resnet56 or resnet50
info ResNet50                                    => Did you mean resnet50\?
info resnet-50                                   => Did you mean resnet50\?
info resnet20.nope                               => Unknown weights 'resnet20\.nope'(?s:.*)Did you mean resnet20\.c10
info resnet20 resnet56                           => unexpected extra argument \(resnet56\)
info 'resnet*'                                   => is a pattern; this command takes one name\. zoo list 'resnet\*'
info --jsn resnet20                              => Did you mean '--json'\?
info timm/resnet5o                               => Unknown model 'timm/resnet5o'(?s:.*)Did you mean timm/resnet50
info convnext_tiny                               => Did you mean timm/convnext_tiny\?
info https://example.org/x.pth                   => is not a model name(?s:.*)Download the file\. Name the model
info x.pth                                       => 'x\.pth' is not a model name(?s:.*)There is no such file
info hf_hub:timm/resnet50.a1_in1k                => is hf-hub:timm/resnet50\.a1_in1k
info HF-HUB:timm/resnet50.a1_in1k                => is hf-hub:timm/resnet50\.a1_in1k
info hf-hub:resnet50                             => Expected hf-hub:OWNER/NAME
info local-dir:/x                                => A run is its folder(?s:.*)zoo\.timm\.create_model
info ./nope                                      => is not a model name(?s:.*)lower case, digits and _
info ''                                          => name = ''(?s:.*)expected the name of a model
recipes nope                                     => Unknown model 'nope'(?s:.*)zoo list
recipes resnet5o                                 => Did you mean resnet56
recipes --family nope                            => No such option '--family'
# Lists
list 'resnet*' --pretraind                       => Did you mean '--pretrained'\?
list --family resnett                            => Unknown family 'resnett'(?s:.*)Did you mean resnet
list --max-params many                           => such as 300000, 300k or 25M
list --license                                   => '--license' requires an argument
list a b                                         => unexpected extra argument \(b\)
# Weights
fetch                                            => Missing argument 'NAME
fetch resnet8                                    => resnet8 has no weights(?s:.*)plain20\.c10
fetch resnet5o                                   => Did you mean resnet56
fetch resnet20.nope                              => Did you mean resnet20\.c10
fetch resnet20.digits -o x                       => No such option '-o'
verify nope                                      => Unknown model 'nope'
verify resnet20.nope                             => Did you mean resnet20\.c10
lock                                             => zoo lock NAME
lock nope                                        => Unknown model 'nope'
lock resnet20.nope                               => Did you mean resnet20\.c10
cache list nope                                  => unexpected extra argument \(nope\)
cache prune --older-than many                    => such as 12h, 30d or 4w
# Predictions
predict                                          => Missing argument 'NAME'
predict resnet20.digits                          => Missing argument 'IMAGE
predict resnet20.digits nope.png                 => nope\.png: no such file
predict nope.png resnet20.digits                 => name of a model comes first, then images
predict DIGIT resnet20.digits                    => is not a model name
predict resnet5o DIGIT                           => Did you mean resnet56
predict resnet20.digits DIGIT --topk 3           => Did you mean '--top'\?
predict resnet20.digits DIGIT --top 0            => 0 is not in the range
predict resnet20.digits DIGIT --top many         => 'many' is not a valid integer
predict resnet20.digits DIGIT --device gpu       => 'gpu' cannot be used: Expected one of cpu, cuda
predict resnet20.digits DIGIT --weights nope.pth => 'nope\.pth' does not exist
predict resnet20.digits FILE                     => notes\.txt: not an image: expected one of PNG
predict resnet20.digits EMPTY                    => is a folder without images
predict runs/mine DIGIT                          => If a run was meant: there is no such folder
predict resnet20.digits http://127.0.0.1:9/x.png => cannot be reached
# Scores
evaluate                                         => Missing argument 'NAME'
evaluate resnet20.digits digits                  => extra argument \(digits\)\. Use --data digits
evaluate resnet20.digits --data nope             => Unknown data set 'nope'(?s:.*)Names are digits
evaluate resnet20.digits --data digit            => Did you mean digits or
evaluate resnet20.digits --data cifar-10         => Did you mean cifar10\?
evaluate resnet20.digits --data digits --split nope    => digits has no split 'nope'(?s:.*)train and test
evaluate resnet20.digits --dataset digits        => Did you mean .*'--data'
evaluate resnet20.digits --data digits --batch-size 0  => 0 is not in the range x>=1
evaluate resnet20.digits --data digits --batch-size x  => '--batch-size': 'x' is not a valid integer
evaluate resnet8 --data digits                   => resnet8 has no weights
evaluate resnet5o --data digits                  => Did you mean resnet56
evaluate resnet20.digits --data /nope            => /nope: no such file or folder
evaluate resnet20.digits --data FILE             => not a data set(?s:.*)a folder of images
evaluate 'resnet*' --data digits                 => is a pattern(?s:.*)zoo bulk evaluate
evaluate runs/nope --data digits                 => there is no such folder
bulk evaluate nope -o OUT                        => No weights match 'nope'(?s:.*)zoo list
benchmark                                        => Missing argument 'NAME
benchmark resnet5o                               => Did you mean resnet56
benchmark resnet20 --batch-size 0                => expected numbers such as 1,32
benchmark resnet20 --device gpu                  => 'gpu' cannot be used
# Training
train                                            => Missing option '-o' / '--output'
train -o OUT                                     => Missing argument 'MODEL'
train resnet20 -o OUT                            => Missing option '--data'
train resnet20 digits -o OUT                     => extra argument \(digits\)\. Use --data digits
train resnet20 --data digits                     => Missing option '-o' / '--output'
train resnet20 --data nope -o OUT                => Unknown data set 'nope'
train resnet5o --data digits -o OUT              => Did you mean resnet56
train resnet20.digits --data digits -o OUT       => --init resnet20\.digits(?s:.*)otherwise train resnet20
train 'resnet*' --data digits -o OUT             => is a pattern; this command takes one name
train resnet20 --data digits --recipe nope -o OUT        => Unknown recipe 'nope'(?s:.*)Recipes of resnet: default
train resnet20 --data digits --set epoch=3 -o OUT        => no field 'epoch'(?s:.*)Did you mean epochs\?
train resnet20 --data digits --set augment.nope=1 -o OUT => no field 'augment\.nope'(?s:.*)Did you mean augment
train resnet20 --data digits --set epochs -o OUT         => 'epochs' is not KEY=VALUE, such as lr=0\.05
train resnet20 --data digits --set epochs=many -o OUT    => epochs: Expected `int`, got `str`
train resnet20 --data digits --set epochs=0 -o OUT       => epochs: Expected `int` >= 1
train resnet20 --data digits --set lr=-1 -o OUT          => lr: Expected `float` >= 0
train resnet20 --data digits --set optimizer=nope -o OUT => 'nope'(?s:.*)list_optimizers
train resnet20 --data digits --arg nope=1 -o OUT         => no argument 'nope'(?s:.*)Arguments: depth
train resnet20 --data digits --arg num_classes=5 -o OUT  => num_classes is set by other options
train resnet20 --data digits --init nope.c10 -o OUT      => Unknown model 'nope'
train resnet20 --data digits --init nope.pth -o OUT      => There is no such file
train resnet20 --data digits --freeze nope -o OUT        => does not match any part(?s:.*)Available: backbone
train resnet20 --data digits --adversarial nope -o OUT   => is not one of 'fgsm'
train resnet20 --data digits --teacher resnet20.nope -o OUT => Did you mean resnet20\.c10
train resnet20 --data digits --device gpu -o OUT         => 'gpu' cannot be used
train resnet20 --data digits -o FILE                     => is a file
train resnet20 --data digits --outptu OUT                => Did you mean '--output'\?
train --resume -o OUT                                    => contains no run to resume(?s:.*)Remove --resume
train resnet20 --data digits --epochs 3 -o OUT           => No such option '--epochs'\. Use --set epochs=3\.
train resnet20 --data digits --epochs=3 -o OUT           => Use --set epochs=3\.
train resnet20 --data digits --epochs                    => Use --set epochs=VALUE\.
train resnet20 --data digits --lr 0.1 -o OUT             => Use --set lr=0\.1\.
train resnet20 --data digits --learning-rate 0.1 -o OUT  => Use --set lr=0\.1\.
train resnet20 --data digits --batch-size 32 -o OUT      => Use --set batch_size=32\.
train resnet20 --data digits --weight-decay 0.1 -o OUT   => Use --set weight_decay=0\.1\.
train resnet20 --data digits --wd 0.1 -o OUT             => Use --set weight_decay=0\.1\.
train resnet20 --data digits --optimizer adamw -o OUT    => Use --set optimizer=adamw\.
train resnet20 --data digits --seed 1 -o OUT             => Use --set seed=1\.
train resnet20 --data digits --pretrained -o OUT         => Use --init NAME\.TAG\.
train resnet20 --data digits --weights x -o OUT          => Use --init NAME\.TAG or --init FILE\.
train resnet20 --data digits --gpu -o OUT                => Use --device cuda\.
train resnet20 --dataset digits -o OUT                   => Use --data DATA\.
train --model resnet20 --data digits -o OUT              => Use MODEL, the first word\.
reproduce                                        => Missing argument 'NAME\.TAG
reproduce nope -o OUT                            => Unknown model 'nope'
reproduce runs/nope -o OUT                       => there is no such folder
# Tools
look filters                                     => Missing argument 'NAME'
look filters nope                                => Unknown model 'nope'
look features resnet20.digits a b                => unexpected extra arguments \(a b\)
attack image                                     => Missing argument 'NAME'
attack image resnet20.digits nope.png --epsilon 0.1    => 'nope\.png' does not exist
attack image resnet20.digits DIGIT --epsilon many      => such as 8/255 or 0\.03
export                                           => Missing argument 'NAME'
export resnet20.digits                           => No format(?s:.*)onnx, torch-export
export resnet20.digits -o x.xyz                  => names no format(?s:.*)\.onnx \(onnx\)
export nope -o x.onnx                            => Unknown model 'nope'
convert                                          => Missing argument 'FILE
convert nope.pth resnet20 -o x.safetensors       => nope\.pth: no such file
convert FILE resnet20 -o x.safetensors           => not a checkpoint of torch
features resnet20.digits                         => Missing option '--data'
features resnet20.digits --data nope -o x.safetensors => Unknown data set 'nope'
classify nope.safetensors                        => 'nope\.safetensors' does not exist
publish                                          => Missing argument 'RUN
publish nope                                     => 'nope' does not exist
publish FILE --to OUT                            => Missing option '--as'\. Name these weights: --as ARCH\.TAG
look attribute resnet20.digits DIGIT             => extra argument \((\S+)\)\. Use --image \1\.\n\Z
plugins show nope                                => Unknown family 'nope'(?s:.*)resnet
plugins enable nope                              => Unknown plugin 'nope'
plugins disable nope                             => Unknown plugin 'nope'
plugins new                                      => Missing argument 'NAME'
plugins new 5x                                   => beginning with a letter(?s:.*)my_net
plugins check nope                               => Unknown family 'nope'
"""


def rows(table: str) -> list[tuple[str, str]]:
    lines = [line for line in table.splitlines() if line and not line.startswith("#")]
    return [(typed.strip(), said.strip()) for line in lines for typed, _, said in [line.partition(" => ")]]


ROWS = rows(WORDS)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A folder for the output, a file that is no image, an empty folder."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "notes.txt").write_text("notes")
    (folder / "empty").mkdir()
    paths = {"OUT": folder / "out", "FILE": folder / "notes.txt", "EMPTY": folder / "empty", "DIGIT": DIGIT}
    return {name: str(path) for name, path in paths.items()}


def command_of(words: list[str]) -> click.Command:
    """Returns the innermost command that ``words`` name."""
    command: click.Command = cli
    for word in words:
        context = click.Context(command)
        below = command.get_command(context, word) if isinstance(command, click.Group) else None
        if below is None:
            break
        command = below
    return command


def assert_hints_can_be_typed(answer: str, words: list[str]) -> None:
    """Checks that each option in ``answer`` that was not typed is of the command, or of the one that it names."""
    for line in answer.splitlines():
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", line):
            before = line[: line.index(option)]
            named = re.findall(r"\bzoo ([a-z][a-z -]*)", before)
            command = command_of(shlex.split(named[-1]) if named else words)
            options = {name for parameter in command.params for name in parameter.opts + parameter.secondary_opts}
            typed = any(word.partition("=")[0] == option for word in words)
            assert option in {*options, "--help"} or (typed and not named), f"{option} of {command.name}: {line}"


def assert_nothing_typed_is_suggested(answer: str, typed: set[str]) -> None:
    for hint in re.findall(r"Did you mean (.*)\?", answer):
        suggested = {part.strip("'\"() ") for part in re.split(r" or |, ", hint)}
        assert not suggested & typed, hint


@pytest.mark.parametrize(("line", "said"), ROWS, ids=[line for line, _ in ROWS])
def test_a_mistaken_command_says_what_to_type(
    line: str, said: str, places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [places.get(word, word) for word in shlex.split(line)]
    done = ask_warm(*words)
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    assert done.exit_code in (1, 2)
    assert "Traceback" not in done.output
    assert not Path(places["OUT"]).exists()
    assert not any(tmp_path.iterdir())
    assert re.search(said, done.stderr), done.stderr
    assert_hints_can_be_typed(done.stderr, words)
    assert_nothing_typed_is_suggested(done.stderr, {*words, f"zoo {' '.join(words)}"})


def test_the_checks_of_hints_can_fail() -> None:
    with pytest.raises(AssertionError, match="--weights of info"):
        assert_hints_can_be_typed("hint: use --weights FILE", ["info", "x"])
    with pytest.raises(AssertionError, match="--nope of list"):
        assert_hints_can_be_typed("hint: zoo list --nope", ["train"])
    assert_hints_can_be_typed("hint: zoo predict NAME IMAGE --weights FILE", ["info", "x"])
    with pytest.raises(AssertionError, match="resnet20"):
        assert_nothing_typed_is_suggested("Did you mean resnet20?", {"resnet20"})


# ---- Python ----

CALLS = r"""
zoo.create_model("resnet50")                         => AttributeError: .*zoo\.create\(NAME\), or import zoo\.timm
zoo.list_pretrained()                                => AttributeError: .*list_models\(pretrained=True\)
zoo.is_model("resnet50")                             => AttributeError: .*zoo\.list_models\(\)
zoo.get_pretrained_cfg("resnet50")                   => AttributeError: .*zoo\.info\(NAME\)
zoo.register_model                                   => AttributeError: .*zoo\.model
zoo.get_model("resnet50")                            => AttributeError: .*zoo\.create\(NAME\)
zoo.models                                           => AttributeError: .*zoo\.list_models
zoo.lst_models()                                     => AttributeError: .*Did you mean zoo\.list_models\?
zoo.list_models(["resnet*"])                         => expected one pattern(?s:.*)zoo\.timm\.list_models
zoo.list_models(5)                                   => pattern = 5
zoo.list_models("resnet*", exclude_filters="*d")     => no argument 'exclude_filters'(?s:.*)zoo\.timm\.list_models
zoo.list_models(module="resnet")                     => no argument 'module'(?s:.*)Use family
zoo.list_models(filter="resnet*")                    => no argument 'filter'(?s:.*)Use pattern
zoo.list_models(pretraind=True)                      => Did you mean pretrained\?
zoo.create(5)                                        => name = 5 is invalid: expected the name of a model
zoo.create(None)                                     => name = None
zoo.create(["resnet20"])                             => name = \['resnet20'\]
zoo.create("")                                       => name = ''
zoo.create("ResNet20")                               => Did you mean resnet20\?
zoo.create("resnet 20")                              => Did you mean resnet20\?
zoo.create("x.pth")                                  => There is no such file
zoo.create("local-dir:/x")                           => zoo\.timm\.create_model
zoo.create("hf_hub:timm/resnet50.a1_in1k")           => is hf-hub:timm/resnet50\.a1_in1k
zoo.create("resnet50", checkpoint_path="x.pth")      => weights=FILE(?s:.*)zoo\.timm
zoo.create("resnet50", pretrained_cfg={})            => pretrained=TAG(?s:.*)zoo\.timm
zoo.create("resnet50", pretrained_cfg_overlay={})    => weights=FILE(?s:.*)zoo\.timm
zoo.create("timm/resnet50", checkpoint_path="x")     => weights=FILE(?s:.*)zoo\.timm
zoo.create("resnet50", cache_dir="x")                => ZOO_CACHE
zoo.create("resnet20", act_layer="gelu")             => zoo\.create\('timm/NAME', act_layer=
zoo.create("resnet20", exportable=True)              => zoo\.create\('timm/NAME', exportable=
zoo.create("resnet20", num_class=5)                  => Did you mean num_classes\?
zoo.create("resnet20", progress=False)               => no argument 'progress'(?s:.*)Arguments: depth
zoo.create("resnet20", global_pool="catavgmax")      => zoo\.create\('timm/NAME', global_pool='catavgmax'\)
zoo.create("resnet20", num_classes="5")              => num_classes = '5' is invalid: expected a whole number
zoo.create("resnet20", num_classes=2.5)              => num_classes = 2\.5 is invalid
zoo.create("resnet20", num_classes=True)             => num_classes = True is invalid
zoo.create("resnet20", in_chans="3")                 => in_chans = '3' is invalid
zoo.create("resnet20", pretrained=5)                 => expected True, False or a tag
zoo.create("resnet20", pretrained="nope")            => Did you mean resnet20\.c10
zoo.create("resnet20", weights=5)                    => weights = 5 is invalid: expected a file
zoo.create("resnet20", weights="nope.pth")           => nope\.pth: cannot be read
zoo.create("resnet20", drop_rate="a")                => drop_rate = 'a' must be a number in \[0, 1\]
zoo.create("resnet20", drop_path_rate="a")           => drop_path_rate = 'a' must be a number in \[0, 1\]
zoo.create("resnet20", device="gpu")                 => device = 'gpu' cannot be used
zoo.create("resnet20", dtype="float16")              => such as torch\.float16
zoo.create("resnet20", dtype=torch.int8)             => such as torch\.float16
zoo.create("resnet20", class_names=5)                => class_names = 5 is invalid
zoo.create("resnet20", features_only=True, out_indices="a") => expected stages of 4
zoo.create("resnet20", out_indices=(1,))             => Set features_only=True
net().prune_intermediate_layers(2)                   => features_only=True
net().reset_classifier(5, "catavgmax")               => 'avg', 'max', ''
zoo.preprocess("resnet20.digits")                    => zoo\.create\('resnet20\.digits'\)
zoo.preprocess(torch.nn.Linear(1, 1))                => zoo\.create\(NAME\)
zoo.preprocess(net())(5)                             => Got int, expected a Pillow image, a path
zoo.preprocess(net())("nope.png")                    => nope\.png: no such file
zoo.preprocess(net())(np.zeros((8, 8)))              => Got float64(?s:.*)expected a uint8 array
zoo.preprocess(net())(torch.zeros(3, 8, 8))          => Got torch\.float32(?s:.*)expected a uint8 tensor
zoo.transforms("nope")                               => Unknown model 'nope'
zoo.evaluate("resnet20.digits", "nope")              => Unknown data set 'nope'
zoo.evaluate(5, "digits")                            => zoo\.create\(NAME\)
zoo.evaluate("resnet20.digits", 5)                   => Got int, expected the name or path of a data set
zoo.predict("resnet20.digits", 5)                    => Got int, expected an image
zoo.predict("resnet20.digits", "nope.png")           => nope\.png: no such file
zoo.info(5)                                          => name = 5
zoo.fetch(5)                                         => name = 5
zoo.data.load("nope")                                => Unknown data set 'nope'
zoo.data.load(5)                                     => Got int, expected the name of a data set
zoo.data.load("digits", "nope")                      => train and test
"""
PYTHON = rows(CALLS)


def net() -> Any:
    return zoo.create("resnet20.digits")


@pytest.mark.parametrize(("call", "said"), PYTHON, ids=[call for call, _ in PYTHON])
def test_a_mistaken_call_says_what_to_write(
    call: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((zoo.ZooError, AttributeError)) as raised:
        eval(call, {"zoo": zoo, "torch": torch, "np": np, "net": net})
    answer = f"{raised.type.__name__}: {raised.value}"
    assert said.startswith("AttributeError") == isinstance(raised.value, AttributeError)
    assert re.search(said, answer), answer
    assert_nothing_typed_is_suggested(answer, set(re.findall(r'"([^"]*)"', call)))


def test_the_stages_of_a_network_are_described_as_by_timm() -> None:
    """timm's ``FeatureInfo`` of the same stages."""
    from timm.models import FeatureInfo

    ours = net().feature_info
    theirs = FeatureInfo([dict(stage) for stage in ours], out_indices=tuple(range(len(ours))))
    for args in ((["module"],), (["num_chs", "module"], [1, 2]), (["reduction"], 0)):
        assert ours.get_dicts(*args) == theirs.get_dicts(*args)
    assert ours.get_dicts() == list(ours)
