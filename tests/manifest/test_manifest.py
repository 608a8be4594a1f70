"""Weights manifests: the built-in ones against the plugins, the reader against hostile ones."""

import contextlib
import math
import os
import re
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.toml_text import ENTRY

from zoo import registry
from zoo.errors import ManifestError
from zoo.manifest import History, Score, Weights, parse, read, render, writing
from zoo.spec import Plugin
from zoo.trust import pinning

PLUGINS: tuple[Plugin, ...] = tuple(
    entry.load()
    for entry in entry_points(group="zoo.plugins")
    if entry.dist is not None and entry.dist.name == "zoo-vision"
)
ROWS = {row.name: row for row in registry.current().plugins if row.is_builtin}
MODELS = {name: model for row in ROWS.values() for name, model in row.models.items()}


def manifest_of(resource: str) -> Path:
    package, _, name = resource.partition(":")
    return Path(str(files(package) / name))


ENTRIES = [entry for plugin in PLUGINS for resource in plugin.weights for entry in read(manifest_of(resource))]
IMAGENET = [entry for entry in ENTRIES if entry.classes == "imagenet-1k"]


# ---- The built-in manifests ----


def test_every_manifest_in_the_package_belongs_to_a_plugin() -> None:
    named = {manifest_of(resource).name for plugin in PLUGINS for resource in plugin.weights}
    assert named == {file.name for file in files("weights_manifest").iterdir() if file.name.endswith(".toml")}


def test_no_name_is_given_twice() -> None:
    names = [entry.name for entry in ENTRIES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_entry_says_where_it_comes_from_and_under_which_terms(entry: Weights) -> None:
    assert entry.origin
    assert entry.classes
    assert entry.num_classes > 0
    assert entry.preprocess is not None
    assert entry.preprocess.input_size[0] in (1, 3)  # of the images, whatever the row declares
    assert entry.license.data != "unknown"


@pytest.mark.parametrize("entry", IMAGENET, ids=lambda entry: entry.name)
def test_every_imagenet_score_is_a_claim_over_the_whole_validation_set(entry: Weights) -> None:
    if entry.tag == "tv_pth_features_in1k" or entry.file.endswith(".onnx"):
        assert not entry.scores  # its classifier is not trained, or nobody ran the converted network
        return
    score = entry.scores["imagenet-1k/validation"]
    assert score.n == 50_000
    if entry.arch.startswith("efficientnet_lite"):  # their authors publish one digit, and no top-5
        assert score.source.startswith("tensorflow/tpu")
        return
    assert score.source
    assert score.top1 is not None
    assert score.top5 is not None
    for percent in (score.top1, score.top5):  # a whole number of images, to the published three digits
        assert math.isclose(percent * 500, round(percent * 500), abs_tol=1e-6)
    assert 50 < score.top1 < score.top5 < 100


@pytest.mark.parametrize("entry", [e for e in IMAGENET if e.hub == "hf"], ids=lambda entry: entry.name)
def test_a_timm_score_is_claimed_at_the_input_that_the_entry_prepares(entry: Weights) -> None:
    assert entry.repo == f"timm/{entry.name.removeprefix('timm/')}"
    assert entry.file == "model.safetensors"
    assert entry.preprocess is not None
    said = re.search(r"img_size (\d+), crop_pct ([\d.]+), (\w+)", entry.scores["imagenet-1k/validation"].source)
    assert said is not None
    size, crop_pct, interpolation = said.groups()
    assert entry.preprocess.input_size == (3, int(size), int(size))
    assert entry.preprocess.interpolation == interpolation
    # The results' three digits are cut off, not rounded.
    assert math.floor(entry.preprocess.crop_pct * 1000 + 1e-9) / 1000 == float(crop_pct)


@pytest.mark.parametrize("entry", [e for e in IMAGENET if e.hub == "hf"], ids=lambda entry: entry.name)
def test_a_timm_entry_prepares_its_input_as_timm_says(entry: Weights) -> None:
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(entry.name.removeprefix("timm/"))
    assert config is not None
    assert entry.preprocess is not None
    for field in ("input_size", "crop_pct", "interpolation", "mean", "std"):
        assert getattr(entry.preprocess, field) == getattr(config, field)
    assert entry.license.weights.lower() == config.license


TORCHVISION = {
    "tv_pth_in1k": "IMAGENET1K_V1",
    "tv2_pth_in1k": "IMAGENET1K_V2",
    "tv_pth_features_in1k": "IMAGENET1K_FEATURES",
}
"""Tags of the files that torchvision serves, with its own names of them."""
THEIR_NAMES = {"alexnet_owt": "alexnet", "googlenet_tv": "googlenet"}
MOVED = {"googlenet_tv", "inception_v3"}
"""Networks of torchvision's that turn its normalised images into values in [-1, 1] themselves."""


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.tag in TORCHVISION], ids=lambda entry: entry.name)
def test_a_torchvision_entry_says_what_torchvisions_metadata_say(entry: Weights) -> None:
    from torchvision.models import get_model_weights

    version = TORCHVISION[entry.tag]
    theirs = get_model_weights(THEIR_NAMES.get(entry.arch, entry.arch))[version]
    assert f"{entry.hub}/{entry.path}" == theirs.url
    stated = entry.sha256 or entry.sha256_prefix
    assert stated[:8] == re.findall(r"-([0-9a-f]{8})\.pth", theirs.url)[0]
    if entry.scores:
        score = entry.scores["imagenet-1k/validation"]
        metrics = theirs.meta["_metrics"]["ImageNet-1K"]
        assert (score.top1, score.top5) == (metrics["acc@1"], metrics["acc@5"])
    transform, preprocess = theirs.transforms(), entry.preprocess
    assert preprocess is not None
    assert [preprocess.input_size[1]] == transform.crop_size
    assert [math.floor(preprocess.input_size[1] / preprocess.crop_pct)] == transform.resize_size
    assert preprocess.interpolation == transform.interpolation.value
    is_moved = entry.arch in MOVED
    assert list(preprocess.mean) == ([0.5, 0.5, 0.5] if is_moved else transform.mean)
    assert list(preprocess.std) == ([0.5, 0.5, 0.5] if is_moved else transform.std)


BUILT_IN = {entry.name for entry in ENTRIES}
ARCHS = {entry.arch for entry in ENTRIES} | set(MODELS)


def test_every_weight_that_torchvision_publishes_of_our_networks_is_an_entry() -> None:
    import torchvision.models
    from torchvision.models import get_model_weights, list_models

    ours = {theirs: ours for ours, theirs in THEIR_NAMES.items()}
    files = {entry.file for entry in ENTRIES}
    for theirs in list_models(module=torchvision.models):
        if ours.get(theirs, theirs) in ARCHS:
            for weights in get_model_weights(theirs):
                assert weights.url.rpartition("/")[2] in files, weights


def test_every_imagenet_weight_that_timm_publishes_of_our_networks_is_an_entry() -> None:
    from timm import list_pretrained
    from timm.models import get_pretrained_cfg

    for name in list_pretrained():
        if name.startswith("efficientnet_lite"):  # timm's own, padded otherwise: ours are its tf_efficientnet_lite
            continue
        if name.partition(".")[0] in ARCHS and name != "resnet50.bamboo":  # another data set's 115,217 classes
            assert get_pretrained_cfg(name).num_classes == 1000
            assert name in BUILT_IN


MORE = {"imagenet-real/validation": 46_837, "imagenet-v2-matched-frequency/test": 10_000}
"""Images of each: Beyer et al. 2020 leave out 3,163 of 50,000 that have no label; Recht et al. 2019."""


def test_further_scores_are_whole_numbers_of_images() -> None:
    for data, n in MORE.items():
        scores = [entry.scores[data] for entry in ENTRIES if data in entry.scores]
        assert len(scores) == 66 + 9  # the families' entries of timm, and those that the collection pins
        assert {score.n for score in scores} == {n}
        exact = [
            score for score in scores if f"{100 * round((score.top1 or 0) * n / 100) / n:.3f}" == f"{score.top1:.3f}"
        ]
        assert len(exact) >= 63  # published digits are cut or rounded; by chance half of ReaL's would fit
    for entry in ENTRIES:
        assert not MORE.keys() & entry.scores.keys() or MORE.keys() < entry.scores.keys()


@pytest.mark.parametrize(
    ("tag", "paper"), [("a1_in1k", "2110.00476"), ("gluon_in1k", "1812.01187"), ("fb_swsl_ig1b_ft_in1k", "1905.00546")]
)
def test_weights_cite_the_paper_of_their_training(tag: str, paper: str) -> None:
    """Wightman et al. 2021, He et al. 2018, Yalniz et al. 2019."""
    for entry in ENTRIES:
        if entry.tag == tag and entry.arch.startswith("resnet"):
            assert f"https://arxiv.org/abs/{paper}" in entry.papers


# ---- The reader ----


def test_an_entry_is_named_by_its_table() -> None:
    (entry,) = parse(ENTRY)
    assert (entry.arch, entry.tag, entry.name) == ("resnet18", "tag", "resnet18.tag")
    assert entry.path == "timm/resnet18.tag/model.safetensors"
    assert entry.scores["imagenet-1k/validation"].top1 == 70.1
    assert entry.license.weights == "MIT"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('file = "model.safetensors"', "file = 3", 3, "file"),
        ("size = 4", "size = -4", 6, "size"),
        ("size = 4", "sise = 4", 6, "sise"),
        ("size = 4", 'sha256 = "abc"', 6, "sha256"),
        ("size = 4", 'revision = "main"', 6, "revision"),
        ('{ weights = "MIT" }', "{ weights = 1 }", 7, "license.weights"),
        ('{ weights = "MIT" }', '{ weight = "MIT" }', 7, "license.weight"),
        ("n = 50000", "n = 0.5", 10, "scores.imagenet-1k/validation.n"),
        ("top1 = 70.1", "top1 = 170.1", 11, "top1"),
        ("top1 = 70.1", "top_1 = 70.1", 11, "top_1"),
        ("size = 4", "preprocess = { std = [0.0, 1.0, 1.0] }", 6, "preprocess"),
        ("size = 4", 'preprocess = { interpolation = "lanczos" }', 6, "interpolation"),
        ("size = 4", "preprocess = { crop = 1.0 }", 6, "preprocess.crop: Object contains unknown field"),
        ("size = 4", 'papers = ["a paper"]', 6, "papers"),
        ("size = 4", 'sha256_prefix = "abc\\n"', 6, "sha256_prefix"),
        ("pinned = false", "pinned = true", 2, "sha256"),
        ('file = "model.safetensors"', 'file = "../model.safetensors"', 2, "inside the hub"),
        ('"timm/resnet18.tag"', '"/etc"', 2, "inside the hub"),
        ("[resnet18.tag]", "[resnet18.TAG]", 2, "lower case"),
    ],
)
def test_an_error_names_the_file_the_line_and_the_key(old: str, new: str, line: int, says: str) -> None:
    assert ENTRY.count(old) == 1
    with pytest.raises(ManifestError) as caught:
        parse(ENTRY.replace(old, new), "zoo.toml")
    assert str(caught.value).startswith(f"zoo.toml:{line}: ")
    assert says in str(caught.value)


def test_the_line_is_the_offending_entrys_not_an_earlier_ones() -> None:
    second = ENTRY.replace("resnet18.tag", "resnet34.tag").replace("size = 4", "size = true")
    with pytest.raises(ManifestError, match=r"zoo\.toml:18: \[resnet34\.tag\] size"):
        parse(ENTRY + second, "zoo.toml")


@pytest.mark.parametrize("text", ["x = ", "resnet18 = 3", "[resnet18]\ntag = 3", "[a]\n[a]", "[[resnet18.tag]]"])
def test_what_is_not_tables_of_tables_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match=r"zoo\.toml"):
        parse(text, "zoo.toml")


def test_a_manifest_beyond_all_reason_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "huge.toml"
    with file.open("wb") as stream:
        stream.truncate(400_000_000)
    with pytest.raises(ManifestError, match=r"huge\.toml: cannot be read: 400,000,000 bytes, expected at most"):
        read(file)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(ManifestError, match=r"pipe\.toml: cannot be read: not a regular file"):
        read(tmp_path / "pipe.toml")


def test_a_path_with_a_backslash_is_refused() -> None:
    """On Windows it would leave the hub."""
    with pytest.raises(ManifestError, match="must stay inside the hub"):
        parse(ENTRY.replace('"model.safetensors"', "'..\\\\model.safetensors'"))


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        ("logits = [[1.0], [2.0]]\nnorms = [nan, 1.0]", "must be finite"),
        ("logits = [[1.0], [2.0]]\nnorms = [inf, 1.0]", "must be finite"),
        ("logits = [[nan], [2.0]]", "must be finite"),
        ("logits = [[1.0], [2.0]]\nimage = { logits = [1.0], norm = nan }", "must be finite"),
        ("logits = [[1.0], [2.0]]\nnorms = [1.0]", "1 norms for 2 images"),
        ("logits = [[1.0], [2.0]]\nnorms = [1.0, 2.0, 3.0]", "3 norms for 2 images"),
    ],
)
def test_a_probe_that_compares_with_nothing_is_refused(probe: str, said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        parse(f"{ENTRY}[resnet18.tag.probe]\n{probe}\n")


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)


@given(origin=TEXT, keys=st.lists(TEXT, max_size=3), value=TEXT | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9))
def test_what_is_rendered_is_read_back_as_it_was(origin: str, keys: list[str], value: Any) -> None:
    scores = {key: Score(n=4, source=origin) for key in keys}
    args = dict.fromkeys(keys, value)
    entry = Weights(file="f", arch="net", tag="c10", pinned=False, origin=origin, args=args, scores=scores)
    assert parse(render(entry)) == (entry,)


def test_a_history_is_read_back_and_has_as_many_values_as_epochs() -> None:
    history = History(epoch=(1, 30), loss=(2.3, 0.01), train_top1=(11.5, 100.0))
    entry = Weights(file="f", arch="net", tag="c10", pinned=False, history=history)
    assert parse(render(entry)) == (entry,)
    with pytest.raises(ManifestError, match="2 epochs, but 2, 1 values"):
        parse(render(entry).replace("[11.5, 100.0]", "[11.5]"))
    with pytest.raises(ManifestError, match="loss must be finite"):
        parse(render(entry).replace("0.01", "inf"))


def test_keys_and_values_beyond_ascii_are_read_back() -> None:
    args = {"é\U0001f600": [1, "\U0001f600"]}
    entry = Weights(file="f", arch="net", tag="c10", pinned=False, origin="Ü\U0001f600\x7f", args=args)
    assert parse(render(entry)) == (entry,)


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"# \xe9\n")
    for file in (latin, tmp_path / "missing.toml", tmp_path):
        with pytest.raises(ManifestError, match=re.escape(str(file))):
            read(file)


# ---- Hostile manifests ----


def assert_read_or_refused(text: str) -> None:
    """Checks that a manifest is either wholly understood, or refused by a ManifestError."""
    entries: tuple[Weights, ...] = ()
    with contextlib.suppress(ManifestError):
        entries = parse(text, "hostile.toml")
    for entry in entries:
        assert entry.sha256 or not entry.pinned
        assert ".." not in entry.path.split("/")
        assert not entry.path.startswith("/")


@pytest.mark.parametrize(
    "text", ["[net.one]\nfile = 'one'\npinned = false", "[net.one]\nfile = 'one'\npinned = false\n"]
)
def test_a_new_entry_follows_after_one_blank_line(text: str) -> None:
    [one] = parse(text)
    two = msgspec.structs.replace(one, tag="two")
    assert writing.with_entry(text, two) == f"{text.rstrip()}\n\n{render(two)}"


def test_an_entry_that_is_replaced_leaves_what_stands_above_the_next() -> None:
    above = "[net.one]\nfile = 'one'\npinned = false\n"
    rest = "\n# Of the second.\n\n[net.two]\nfile = 'two'\npinned = false\n"
    other = msgspec.structs.replace(parse(above)[0], file="other")
    assert writing.with_entry(above + rest, other) == render(other) + rest


DIGESTS = ["sha512:" + "0a" * 64, "sha384:" + "0a" * 48, "sha1:" + "0a" * 20, "md5:" + "0a" * 16]


@pytest.mark.parametrize("digest", DIGESTS)
def test_a_digest_and_a_key_map_survive_rendering_editing_and_pinning(digest: str, tmp_path: Path) -> None:
    pytest.importorskip("tomlkit", reason="needs zoo-vision[pin]")
    text = f'[net.x]\nfile = "x.pth"\npinned = false\ndigest = "{digest}"\nkey_map = "keras"\n'
    [entry] = parse(text)
    assert (entry.digest, entry.key_map) == (digest, "keras")
    assert parse(render(entry)) == (entry,)
    assert writing.with_entry(text, entry) == text
    file = tmp_path / "manifest.toml"
    file.write_text(text)
    pinning.write(msgspec.structs.replace(entry, sha256="1" * 64, pinned=True, size=5), file)
    [after] = read(file)
    assert (after.digest, after.key_map, after.sha256) == (digest, "keras", "1" * 64)


@pytest.mark.parametrize(
    "digest", [*(text[:-1] for text in DIGESTS), "sha256:" + "0" * 64, "0" * 128, "md5:" + "A" * 32]
)
def test_an_incomplete_or_unknown_digest_is_refused(digest: str) -> None:
    with pytest.raises(ManifestError, match=r"manifest>:4: \[net\.x\] digest"):
        parse(f'[net.x]\nfile = "x.pth"\npinned = false\ndigest = "{digest}"\n')


def test_only_strong_hashes_determine_the_bytes() -> None:
    def entry(**fields: Any) -> Weights:
        return Weights(file="x.pth", arch="net", tag="x", **{"pinned": False, **fields})

    assert [entry(digest=digest).determines_bytes for digest in DIGESTS] == [True, True, False, False]
    assert entry(pinned=True, sha256="1" * 64).determines_bytes
    assert not entry(sha256_prefix="1" * 63).determines_bytes


@pytest.mark.parametrize(
    "value",
    ["[" * 2_000 + "]" * 2_000, "9" * 5_000, "1e999", "nan", "0x" + "f" * 100, "1979-05-27", "{" + "a=" * 50 + "1"],
    ids=["nested", "digits", "infinite", "nan", "hexadecimal", "date", "unclosed"],
)
@pytest.mark.parametrize("key", ["size", "args", "scores.x.top1", "preprocess.mean", "probe"])
def test_an_extreme_value_is_read_or_refused(key: str, value: str) -> None:
    assert_read_or_refused(f'[resnet18.tag]\nfile = "x"\npinned = false\n{key} = {value}\n')


@pytest.mark.timeout(20)
@pytest.mark.parametrize("form", ["{key} = 1", "[{key}]", "x = {{ {key} = 1 }}"])
def test_a_key_of_very_many_parts_is_refused_at_once(form: str) -> None:
    """The standard library's reader would take minutes for the first of them."""
    for key in ("a." * 100_000 + "b", "a . " * 50_000 + "b", "'x y'." * 50_000 + "b", '"\\\\".' * 50_000 + "b"):
        with pytest.raises(ManifestError, match="100 nested keys or more"):
            parse(form.format(key=key))


def test_dots_that_are_no_key_are_no_matter() -> None:
    numbers = ", ".join(["0.25"] * 1000)
    assert parse(f"{ENTRY}[resnet18.tag.probe]\nlogits = [[{numbers}]]\ntolerance = {{ float32 = 0.1 }}\n")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["a", "\\\\", '\\"', "'", ".", "a.", " ", "-", "0.1, ", "'a', "])
def test_a_very_long_value_is_read_or_refused_in_seconds(piece: str) -> None:
    repeated = piece * (200_000 // len(piece))
    for text in (f'x = "{repeated}"', f"x = [{repeated}]", f"{repeated} = 1", f"# {repeated}", f"x = '''{repeated}'''"):
        assert_read_or_refused(text)


@pytest.mark.parametrize(
    "line",
    [
        "args = { rate = nan }",
        "args = { rates = [1.0, -inf] }",
        "args = { block = { rate = inf } }",
    ],
)
def test_an_argument_is_a_number(line: str) -> None:
    """JSON, which lists and records are written in, has no other."""
    with pytest.raises(ManifestError, match="not JSON compliant"):
        parse(ENTRY.replace("size = 4", line))


@pytest.mark.parametrize("tolerance", ["inf", "{ atol = inf }", "{ rtol = inf }"])
def test_a_tolerance_without_end_is_none(tolerance: str) -> None:
    with pytest.raises(ManifestError, match="must be finite"):
        parse(f"{ENTRY}\n[resnet18.tag.probe]\nlogits = [[1.0]]\ntolerance = {{ cpu = {tolerance} }}\n")


def test_two_defaults_of_a_model_are_refused() -> None:
    entry = '[net.{}]\nfile = "x.safetensors"\npinned = false\ndefault = true\n'
    both = parse(entry.format("a") + entry.format("b").replace("net", "other"))
    assert all(weights.default for weights in both)
    with pytest.raises(ManifestError, match=r":9: \[net\.b\] default: net\.a is the default already"):
        parse(entry.format("a") + "\n" + entry.format("b"))
