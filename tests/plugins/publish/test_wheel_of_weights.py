"""A wheel of weights is what packaging tools take for one, and what a package index brings is known to Zoo."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path
from typing import Any

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename
from safetensors.torch import load_file
from support.command import ask
from support.package_index import PASSWORD, USER

import zoo
from zoo import manifest, registry
from zoo.errors import HubError, SpecError
from zoo.manifest import License, Weights
from zoo.testing import wheel as trial
from zoo_publish import publish, wheel

ROOT = Path(__file__).parents[3]
DIGITS = ROOT / "weights_manifest" / "embedded" / "resnet20.digits.safetensors"
FILE = "zoo_weights_resnet20_mine-1.0-py3-none-any.whl"
LICENSE = {"weights": "CC-BY-4.0"}


def built(folder: Path, name: str = "resnet20.mine", **options: Any) -> Path:
    return Path(publish(DIGITS, name, f"wheel:{folder}", **{"license": LICENSE, **options}).to)


def distribution_in(file: Path, site: Path) -> metadata.Distribution:
    with zipfile.ZipFile(file) as archive:
        archive.extractall(site)
    [info] = site.glob("*.dist-info")
    return metadata.Distribution.at(info)


def test_it_is_what_packaging_tools_take_for_a_wheel(tmp_path: Path) -> None:
    file = built(tmp_path, evaluate_on=(("digits", "test"),))
    name, version, _, [tag] = parse_wheel_filename(file.name)
    there = distribution_in(file, tmp_path / "site")
    about = Metadata.from_email((there.read_text("METADATA") or "").encode(), validate=True)
    assert (name, str(version), str(tag)) == ("zoo-weights-resnet20-mine", "1.0", "py3-none-any")
    assert (about.name, about.version, about.metadata_version) == (name, version, "2.4")
    assert (about.license_expression, about.license_files) == ("CC-BY-4.0", ["LICENSE"])
    assert about.requires_dist == [Requirement(f"zoo-vision>={zoo.__version__}")]
    assert [(point.group, point.name, point.value) for point in there.entry_points] == [
        ("zoo.weights", "resnet20_mine", "zoo_weights_resnet20_mine:manifest.toml")
    ]
    body = about.description or ""
    assert body.startswith("# resnet20.mine\n")
    assert "pip install zoo-weights-resnet20-mine" in body
    assert "100.000% (360 of 360)" in body
    assert not {"config.json", "weights.toml", "ZOO_HUB"} & set(body.replace("`", " ").split())
    for listed in there.files or ():
        content = listed.read_binary()
        if listed.hash:
            assert (listed.size, listed.hash.mode) == (len(content), "sha256")
            assert listed.hash.value == recorded_digest(content)
        else:
            assert listed.name == "RECORD"
    with zipfile.ZipFile(file) as archive:
        assert sorted(archive.namelist()) == sorted(map(str, there.files or ()))
        assert archive.namelist()[-1].endswith(".dist-info/RECORD")
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}, "not when it was built"
    assert (tmp_path / "site" / "zoo_weights_resnet20_mine" / "model.safetensors").read_bytes() == DIGITS.read_bytes()


def recorded_digest(content: bytes) -> str:
    """Returns the digest of the specification of RECORD: urlsafe base64 without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def test_it_renders_on_a_package_index(tmp_path: Path) -> None:
    if util.find_spec("twine") is None:
        pytest.skip("needs twine")
    command = [sys.executable, "-m", "twine", "check", "--strict", str(built(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_two_builds_are_equal_and_others_are_never_replaced(tmp_path: Path) -> None:
    first = built(tmp_path / "first")
    second = built(tmp_path / "second")
    os.utime(first, (0, 0))
    assert first.read_bytes() == second.read_bytes()
    again = publish(DIGITS, "resnet20.mine", f"wheel:{tmp_path / 'first'}", license=LICENSE)
    assert (again.is_new, first.stat().st_mtime) == (False, 0)
    with pytest.raises(HubError, match="the same weights with another card, other scores or licences"):
        built(tmp_path / "first", license={"weights": "MIT"})
    with pytest.raises(HubError, match="already holds other weights"):
        built(tmp_path / "first", dtype="float16")
    first.write_bytes(b"no archive")
    with pytest.raises(HubError, match="cannot be read"):
        built(tmp_path / "first")
    assert first.read_bytes() == b"no archive"
    assert built(tmp_path / "first", license={"weights": "MIT"}, version="1.1").name == FILE.replace("1.0", "1.1")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no licence": ({"license": {"data": "CC-BY-4.0"}}, "licence of its weights, and theirs is unknown"),
    "an unknown licence": ({"license": {"weights": "unknown"}}, "licence of its weights, and theirs is unknown"),
    "a manifest": ({"manifest_file": Path("manifest.toml")}, "holds its own manifest"),
    "no version": ({"version": "one"}, "'one' is not the version of a release"),
    "a local version": ({"version": "1.0+mine"}, "is not the version of a release"),
    "an empty version": ({"version": ""}, "is not the version of a release"),
}


@pytest.mark.parametrize(("options", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_a_package_index_would_not_take_is_refused(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=reason):
        built(tmp_path / "dist", **options)
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize("spare", [0, 20_000])
def test_a_file_over_the_limit_is_refused_whether_by_the_weights_or_by_the_rest(
    spare: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is a byte less than the wheel has, or than its weights."""
    size = built(tmp_path / "whole").stat().st_size
    weights = DIGITS.stat().st_size
    monkeypatch.setattr(wheel, "LIMIT", size - 1 if spare else weights - 1)
    with pytest.raises(SpecError, match=r"a package index takes files of up to \d") as caught:
        built(tmp_path / "dist")
    assert f"{size if spare else weights:,} bytes" in str(caught.value)
    assert "--dtype float16" in caught.value.hint
    assert not (tmp_path / "dist").exists()
    monkeypatch.setattr(wheel, "LIMIT", size)
    built(tmp_path / "dist")


def test_only_a_wheel_has_a_version(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="Only a wheel has a version"):
        publish(DIGITS, "resnet20.mine", str(tmp_path / "hub"), version="1.1")


def members(model: str, **fields: Any) -> dict[str, str]:
    """Returns the texts of the wheel of weights of ``model``, by the last part of their paths."""
    found = registry.current().find(model)
    entry = Weights(**{"file": "model.safetensors", "arch": model, "tag": "mine", "sha256": "0" * 64, **fields})
    files = wheel.at("wheel", f"{model}.mine", "1.0").members(entry, found.model, "# A card.\n")
    return {path.rpartition("/")[2]: content.decode() for path, content in files.items()}


def test_pip_brings_what_the_model_needs() -> None:
    of_plugin = members("resnet20", distribution="zoo-pet", distribution_version="2.0")
    of_timm = members("timm/resnet18", distribution="zoo-vision", distribution_version="0.1.0")
    needed = [
        [str(each) for each in Metadata.from_email(files["METADATA"].encode()).requires_dist or ()]
        for files in (of_plugin, of_timm)
    ]
    assert needed == [["zoo-vision>=0.1.0", "zoo-pet>=2.0"], ["zoo-vision>=0.1.0", "zoo-vision[timm]"]]
    assert of_timm["entry_points.txt"].splitlines()[1].startswith("timm_resnet18_mine = ")


@pytest.mark.parametrize(
    ("license", "expression"),
    [
        ("apache-2.0", "Apache-2.0"),
        ("MIT or Apache-2.0", "MIT OR Apache-2.0"),
        ("ImageNet terms", "LicenseRef-ImageNet-terms"),
        ("none stated; Krizhevsky (2009)", "LicenseRef-none-stated-Krizhevsky-2009"),
        ("自由", "LicenseRef-other"),
    ],
)
def test_a_licence_is_an_expression_of_spdx(license: str, expression: str) -> None:
    files = members("resnet20", license=License(weights=license))
    about = Metadata.from_email(files["METADATA"].encode(), validate=True)
    assert about.license_expression == expression
    assert f"The weights: {license}" in files["LICENSE"]


def test_no_text_of_an_entry_becomes_a_field_of_the_metadata() -> None:
    text = "pets\nRequires-Dist: evil\n\nbody"
    files = members("resnet20", classes=text, num_classes=2, license=License(weights=text))
    about = Metadata.from_email(files["METADATA"].encode(), validate=True)
    assert "evil" not in {each.name for each in about.requires_dist or ()}
    assert about.description == "# A card.\n"


def test_what_is_installed_is_known_fetched_and_locked(site: Path, inside: Path, tmp_path: Path) -> None:
    answer = ask("publish", DIGITS, "--as", "resnet20.mine", "--to", "wheel", "--license", "weights=MIT")
    assert (answer.exit_code, answer.stdout) == (0, f"dist/{FILE}\n"), answer.output
    assert f"twine upload dist/{FILE}" in answer.stderr
    distribution_in(inside / "dist" / FILE, site)
    registry.clear()
    [entry] = manifest.read(site / "zoo_weights_resnet20_mine" / "manifest.toml")
    assert (entry.name, entry.hub, entry.license.weights) == (
        "resnet20.mine", "embedded:zoo_weights_resnet20_mine", "MIT",
    )  # fmt: skip
    network = zoo.create("resnet20.mine", pretrained=True)
    assert all((network.state_dict()[key] == value).all() for key, value in load_file(DIGITS).items())
    assert ask("lock", "resnet20.mine").exit_code == 0
    assert 'distribution = "zoo-weights-resnet20-mine"' in (inside / "zoo.lock").read_text()
    for folder in site.iterdir():
        folder.rename(tmp_path / folder.name)
    gone = ask("fetch", "resnet20.mine")
    assert gone.exit_code == 2
    assert "pip install 'zoo-weights-resnet20-mine>=1.0'" in " ".join(gone.stderr.split())
    assert "zoo-weights" not in ask("fetch", "resnet20.other").stderr


def test_a_dry_run_lists_the_members_and_builds_nothing(inside: Path) -> None:
    words = ["--as", "resnet20.mine", "--to", "wheel", "--license", "weights=MIT", "--dry-run"]
    answer = ask("publish", DIGITS, *words)
    assert answer.exit_code == 0, answer.output
    assert "zoo_weights_resnet20_mine-1.0.dist-info/METADATA" in answer.stderr
    assert "# resnet20.mine" in answer.stdout
    assert not [*inside.iterdir()]


@pytest.fixture
def second(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``python WORDS`` of another environment in an empty folder; of it, libraries alone are this one's."""
    python = trial.environment(tmp_path / "second")
    (tmp_path / "second" / "there").mkdir()

    def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in trial.variables(python).items() if name != "ZOO_OFFLINE"}
        folders = {"ZOO_DATA": os.environ.get("ZOO_DATA", ""), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [str(python), *map(str, words)],
            cwd=tmp_path / "second" / "there",
            env=kept | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"} | folders | environment,
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.slow
@pytest.mark.parametrize("way", ["index", "mirror", "variable"])
def test_from_a_training_to_another_environment_by_a_package_index_with_a_password(
    way: str,
    served: tuple[Path, str],
    index: Path,
    inside: Path,
    second: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    if util.find_spec("twine") is None:
        pytest.skip("needs twine")
    words = ["--data", "digits", "--set", "epochs=2", "-o", "run"]
    assert ask("train", "resnet8", *words).exit_code == 0
    words = ["--as", "resnet8.mine", "--to", "wheel", "--license", "weights=MIT", "--evaluate", "digits"]
    answer = ask("publish", "run", *words, "--allow-uncommitted", "--json")
    assert answer.exit_code == 0, answer.output
    file = json.loads(answer.stdout)["to"]
    upload = [sys.executable, "-m", "twine", "upload", "--non-interactive", "--disable-progress-bar"]
    upload += ["--repository-url", f"http://{served[1].removesuffix('/simple')}/", "-u", USER]
    wrong = subprocess.run([*upload, "-p", "wrong", file], capture_output=True, text=True)
    assert wrong.returncode != 0
    assert not [*index.iterdir()]
    subprocess.run([*upload, "-p", PASSWORD, file], capture_output=True, check=True)
    assert [path.name for path in index.iterdir()] == [Path(file).name]

    address = f"http://{USER}:{PASSWORD}@{served[1]}"
    empty = (inside / "simple").as_uri()
    (inside / "simple").mkdir()
    options, environment = {
        "index": (["--index-url", address], {}),
        "mirror": (["--index-url", empty, "--extra-index-url", address], {}),
        "variable": ([], {"PIP_INDEX_URL": address}),
    }[way]
    pip = ["-m", "pip", "install", "--quiet", "--no-cache-dir", *options, "zoo-weights-resnet8-mine"]
    refused = [str(word).replace(PASSWORD, "wrong") for word in pip]
    assert second(*refused, **{key: value.replace(PASSWORD, "wrong") for key, value in environment.items()}).returncode
    done = second(*pip, **environment)
    assert done.returncode == 0, done.stderr

    listed = second("-m", "zoo", "list", "resnet8.*", "--json")
    row = {each["name"]: each for each in json.loads(listed.stdout)}["resnet8.mine"]
    assert row["distribution"] == "zoo-weights-resnet8-mine"
    fetched = second("-m", "zoo", "fetch", "resnet8.mine", ZOO_OFFLINE="1")
    assert Path(fetched.stdout.strip()).read_bytes() == (inside / "run" / "model.safetensors").read_bytes()
    for words in (
        ["predict", "resnet8.mine", ROOT / "examples" / "digit.png"],
        ["verify", "resnet8.mine"],
        ["evaluate", "resnet8.mine", "--check"],
        ["lock", "resnet8.mine"],
        ["lock", "--check"],
    ):
        done = second("-m", "zoo", *words)
        assert done.returncode == 0, done.stderr
    assert second("-m", "pip", "uninstall", "--quiet", "--yes", "zoo-weights-resnet8-mine").returncode == 0
    gone = second("-m", "zoo", "predict", "resnet8.mine", ROOT / "examples" / "digit.png")
    assert "pip install 'zoo-weights-resnet8-mine>=1.0'" in " ".join(gone.stderr.split())
