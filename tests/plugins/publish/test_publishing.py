"""What is published is what others get: the same bytes, the same outputs, the same score, and the truth on its card."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors.torch
import torch
from support import specimen
from support.command import ask
from support.hub_server import HubServer
from torch import nn

import zoo
from zoo import evaluation, manifest, registry, training
from zoo.errors import HubError, IntegrityError, ManifestError, StorageError
from zoo.loading import safetensors_file
from zoo.manifest import Score, Weights, writing
from zoo.training.run import Silent
from zoo_publish import destination, publish
from zoo_publish.source import Images, Run, Source, held_out, history, without_paths

EMBEDDED = Path(__file__).parents[3] / "weights_manifest" / "embedded"
DIGITS = EMBEDDED / "resnet20.digits.safetensors"
PRIVATE = "secret-place"
COMMIT = "12" * 20

# the client's own, on upload
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def told(*words: object) -> Any:
    answer = ask(*words, "--json")
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The manifest of a folder that ZOO_HUB names: how a reader learns of what was published."""
    monkeypatch.setenv("ZOO_HUB", str(tmp_path / "catalogue"))
    registry.clear()
    return tmp_path / "catalogue" / "manifest.toml"


@pytest.fixture
def hugging_face(hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    monkeypatch.setenv("HF_TOKEN", "token-of-alice")
    return hub_server


@pytest.fixture(params=["directory", "s3", "hugging_face"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty hub of each kind."""
    if request.param == "directory":
        return str(tmp_path / "hub")
    if request.param == "s3":
        request.getfixturevalue("s3_server")
        import s3fs

        s3fs.S3FileSystem().mkdir("zoo")
        return "s3://zoo/weights"
    request.getfixturevalue("hugging_face")
    return "hf://alice/tiny"


def describe(module: nn.Module, model: str, file: Path, **more: Any) -> Path:
    about: dict[str, Any] = {"model": model, "num_classes": 10, "in_chans": 3, "origin": "a test", **more}
    safetensors_file.write(module.state_dict(), file, about)
    return file


@pytest.mark.first(1)
def test_what_is_published_is_fetched_verified_and_scored_alike(place: str, catalogue: Path, cache_dir: Path) -> None:
    options = ["--license", "weights=CC-BY-4.0", "--manifest", catalogue]
    done = told("publish", DIGITS, "--as", "resnet20.mine", "--to", place, "--evaluate", "digits", *options)
    assert done["is_new"]
    [entry] = manifest.read(catalogue)
    assert manifest.parse(done["entry"]) == (entry,)
    assert entry.sha256 == registry.current().find("resnet20.digits").weights.sha256, "the bytes that train wrote"
    assert len(entry.revision) == (40 if place.startswith("hf://") else 0)
    assert not (cache_dir / "files").exists(), "nothing is cached: the reader has the hub alone"
    fetched = Path(ask("fetch", "resnet20.mine").stdout.strip())
    assert fetched.read_bytes() == DIGITS.read_bytes()
    [verified] = told("verify", "resnet20.mine", "--deep")
    assert verified["difference"] <= verified["allowed"]
    checked = told("evaluate", "resnet20.mine", "--check")
    claim = entry.scores["digits/test"]
    assert checked["check"]["agrees"]
    assert (checked["correct"], checked["n"], checked["fingerprint"]) == (claim.correct, claim.n, claim.fingerprint)
    assert (claim.command, claim.source) == ("zoo evaluate resnet20.mine --data digits", "measured by zoo evaluate")


def test_the_entry_states_size_and_epochs_of_this_network(tmp_path: Path) -> None:
    """One channel in place of three, 8 x 8 pixels in place of 32 x 32: not the row's numbers."""
    [entry] = manifest.parse(publish(DIGITS, "resnet20.mine", str(tmp_path / "hub")).entry)
    assert (entry.params, entry.epochs) == (269_722 - 16 * 2 * 9, 40)
    assert entry.macs == registry.current().find("resnet20.digits").weights.macs


@pytest.mark.first(1)
def test_a_tag_is_never_given_other_bytes(place: str, catalogue: Path, tmp_path: Path) -> None:
    first = publish(DIGITS, "resnet20.mine", place)
    again = publish(DIGITS, "resnet20.mine", place, manifest_file=catalogue)
    assert (first.is_new, again.is_new) == (True, False)
    assert again.revision == first.revision
    other = describe(zoo.create("resnet20"), "resnet20", tmp_path / "other.safetensors")
    with pytest.raises(HubError, match="already holds other weights") as caught:
        publish(other, "resnet20.mine", place)
    assert manifest.read(catalogue)[0].sha256 in str(caught.value)
    registry.clear()
    assert Path(ask("fetch", "resnet20.mine").stdout.strip()).read_bytes() == DIGITS.read_bytes()


def test_a_new_score_takes_the_place_of_an_old_one(catalogue: Path, tmp_path: Path) -> None:
    first = publish(DIGITS, "resnet20.mine", str(tmp_path / "hub"), manifest_file=catalogue)
    (entry,) = manifest.parse(first.entry)
    old = {where: Score(n=1, source="hearsay", top1=1.0) for where in ("digits/test", "other/test")}
    catalogue.write_text(manifest.render(msgspec.structs.replace(entry, scores=old)))
    publish(DIGITS, "resnet20.mine", str(tmp_path / "hub"), manifest_file=catalogue, evaluate_on=(("digits", "test"),))
    (entry,) = manifest.read(catalogue)
    assert entry.scores["digits/test"].n == 360
    assert entry.scores["other/test"] == old["other/test"]


def test_bytes_that_change_on_the_way_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = destination.Directory.put

    def damage(place: destination.Directory, weights: Path, files: dict[str, bytes], message: str) -> str:
        done = put(place, weights, files, message)
        with (place.folder / place.file).open("ab") as opened:
            opened.write(b"x")
        return done

    monkeypatch.setattr(destination.Directory, "put", damage)
    with pytest.raises(IntegrityError, match="was published there"):
        publish(DIGITS, "resnet20.mine", str(tmp_path / "hub"), manifest_file=tmp_path / "manifest.toml")
    assert not (tmp_path / "manifest.toml").exists()


@pytest.mark.parametrize("address", ["s3://zoo/weights", "memory://race/weights", "directory"])
def test_of_two_publishers_at_once_the_first_one_stays(
    address: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    import fsspec

    if address.startswith("s3"):
        request.getfixturevalue("s3_server")
        fsspec.filesystem("s3").mkdir("zoo")
    place = destination.parse(str(tmp_path / "hub") if address == "directory" else address, "resnet20.mine")
    assert place.held() is None  # as both see it
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    place.put(first, {}, "")
    with pytest.raises(HubError, match="by another process in the meantime"):
        place.put(second, {}, "")
    stored = place.held()
    assert stored.sha256 == hashlib.sha256(b"first").hexdigest()


PUBLISH = """
import sys, time
from pathlib import Path
from zoo.system import storage
from zoo_publish import publish
replace = storage.replace
def slow(file, data):
    time.sleep(0.3 if file.suffix == ".toml" else 0)
    replace(file, data)
storage.replace = slow
print("ready", flush=True)
sys.stdin.readline()
publish(sys.argv[1], sys.argv[2], sys.argv[3], manifest_file=Path(sys.argv[4]))
"""


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_of_releases_that_processes_publish_at_once_no_entry_is_lost(count: int, tmp_path: Path) -> None:
    """Replacing a manifest takes longer than usual, so that all processes have read it before one has."""
    names = [f"resnet20.n{number}" for number in range(count)]
    words = [sys.executable, "-c", PUBLISH, str(DIGITS)]
    places = [str(tmp_path / "hub"), str(tmp_path / "mine.toml")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*words, name, *places], **pipes) for name in names]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0] * count
    for file in (tmp_path / "hub" / "manifest.toml", tmp_path / "mine.toml"):
        assert sorted(entry.name for entry in manifest.read(file)) == names
    assert [file.name for file in tmp_path.rglob("*.lock")] == []


@pytest.mark.parametrize(("correct", "n"), [(1, 3), (39, 49), (57, 5_000)])
def test_a_runs_percentage_is_that_of_a_whole_number_of_images(correct: int, n: int, tmp_path: Path) -> None:
    images = Images("digits", "train", n, "sha256:0")
    log = json.dumps({"val_top1": 100 * correct / n}).encode()
    given = Source(tmp_path / "model.safetensors", {}, Run(data={"validation": images}), log)
    assert held_out(given)["digits/validation"].correct == correct


@pytest.mark.parametrize(("keep", "correct"), [("best", 20), ("last", 13)])
def test_the_score_of_a_run_is_that_of_the_network_that_it_saved(keep: str, correct: int, tmp_path: Path) -> None:
    """Two epochs have 20 of 30 images right: the one of the smaller loss is saved, and its loss stated."""
    epochs = [(20, 0.9), (20, 0.7), (19, 0.1), (13, 0.8)]
    rows = [{"epoch": n, "val_top1": right / 0.3, "val_loss": loss} for n, (right, loss) in enumerate(epochs, 1)]
    run = Run(data={"validation": Images("photos", "train", 30, "sha256:0")}, recipe={"keep": keep})
    log = "\n".join(map(json.dumps, rows)).encode()
    score = held_out(Source(tmp_path / "model.safetensors", {}, run, log))["photos/validation"]
    assert (score.correct, score.loss) == (correct, 0.7 if keep == "best" else 0.8)


def test_a_long_training_has_a_history_of_fifty_epochs_with_the_first_and_the_last(tmp_path: Path) -> None:
    rows = [{"epoch": epoch, "loss": 300 - epoch, "train_top1": epoch / 3} for epoch in range(1, 301)]
    log = "\n".join(map(json.dumps, rows)).encode()
    short = history(Source(tmp_path / "model.safetensors", {}, Run(), log))
    assert (len(short.epoch), short.epoch[0], short.epoch[-1]) == (50, 1, 300)
    assert short.loss == tuple(300 - epoch for epoch in short.epoch)
    assert short.val_top1 == ()
    assert history(Source(tmp_path / "model.safetensors", {}, Run(), log.splitlines()[0])) is None, "fitted at once"
    assert history(Source(tmp_path / "model.safetensors", {}, None, None)) is None


def test_the_command_says_that_there_is_nothing_to_do(tmp_path: Path) -> None:
    ask("publish", DIGITS, "--as", "resnet20.mine", "--to", tmp_path / "hub")
    answer = ask("publish", DIGITS, "--as", "resnet20.mine", "--to", tmp_path / "hub")
    assert answer.exit_code == 0
    assert "Nothing to do" in answer.stderr
    assert manifest.parse(answer.stdout)[0].name == "resnet20.mine"


def test_a_directory_is_a_hub_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(DIGITS, "resnet20.mine", str(tmp_path / "hub"), evaluate_on=(("digits", "test"),))
    monkeypatch.setenv("ZOO_HUB", str(tmp_path / "hub"))
    assert told("evaluate", "resnet20.mine", "--check")["check"]["agrees"]
    for file in (tmp_path / "hub").rglob("*"):
        assert file.is_dir() or str(tmp_path).encode() not in file.read_bytes(), f"{file.name} names this machine"


# ---- the Hugging Face Hub


def test_the_release_is_one_commit_and_its_token_goes_to_the_hub_alone(
    hugging_face: HubServer, catalogue: Path
) -> None:
    answer = ask("publish", DIGITS, "--as", "resnet20.mine", "--to", "hf://alice/tiny", "--manifest", catalogue)
    assert answer.exit_code == 0, answer.output
    repo = hugging_face.repos["alice/tiny"]
    head = repo.branches["main"]
    assert len(repo.commits) == 2, "the one that made the repository, and the release"
    assert {"README.md", "model.safetensors", "run.json", "weights.toml"} < set(repo.commits[head].files)
    assert manifest.read(catalogue)[0].revision == head
    sent = [request for request in hugging_face.requests if request.origin == "content"]
    assert any(request.method == "PUT" for request in sent)
    assert not any(request.authorization for request in sent), "the content store has its own signed addresses"
    assert "token-of-alice" not in answer.output
    published = [file.content for file in repo.commits[head].files.values()]
    assert not any(b"token-of-alice" in content for content in [*published, catalogue.read_bytes()])


@pytest.mark.parametrize(
    ("token", "to", "reason"),
    [
        ("", "hf://alice/tiny", "needs a token, but none was found"),
        ("token-of-bob", "hf://alice/tiny", "cannot be published to"),
        ("unknown", "hf://alice/tiny", "cannot be published to"),
        ("token-of-alice", "hf://tiny", "is not a repository"),
        ("token-of-alice", "https://example.org/hub", "read-only"),
    ],
)
def test_where_nothing_can_be_written_is_said_without_the_token(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, token: str, to: str, reason: str
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    answer = ask("publish", DIGITS, "--as", "resnet20.mine", "--to", to)
    assert answer.exit_code == 1
    assert reason in answer.stderr
    assert not token or token not in answer.output
    assert not hub_server.repos


@pytest.mark.parametrize("to", ["hf://alice/tiny", "memory://weights"])
def test_offline_nothing_is_published_and_nobody_asked(
    hugging_face: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, to: str
) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    answer = ask("publish", DIGITS, "--as", "resnet20.mine", "--to", to)
    assert answer.exit_code == 1
    assert "network access is disabled (ZOO_OFFLINE=1)" in answer.stderr
    assert hugging_face.requests == []
    for allowed in (["--to", to, "--dry-run"], ["--to", str(tmp_path / "local")]):
        assert ask("publish", DIGITS, "--as", "resnet20.mine", *allowed).exit_code == 0


def test_a_commit_in_between_is_not_overwritten(hugging_face: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    commit = HfApi.create_commit

    def late(api: HfApi, *args: Any, **options: Any) -> Any:
        hugging_face.commit("alice/tiny", {"README.md": b"somebody was here"})
        return commit(api, *args, **options)

    monkeypatch.setattr(HfApi, "create_commit", late)
    with pytest.raises(HubError, match="412") as caught:
        publish(DIGITS, "resnet20.mine", "hf://alice/tiny")
    assert "a newer commit" in caught.value.hint
    head = hugging_face.repos["alice/tiny"].branches["main"]
    assert "model.safetensors" not in hugging_face.repos["alice/tiny"].commits[head].files


def test_a_private_repository_is_asked_for(hugging_face: HubServer) -> None:
    answer = ask("publish", DIGITS, "--as", "resnet20.mine", "--to", "hf://alice/tiny", "--private")
    assert answer.exit_code == 0, answer.output
    assert hugging_face.repos["alice/tiny"].is_private


# ---- the card


def test_the_card_is_read_by_the_hubs_own_reader_and_holds_what_was_measured(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    done = publish(
        DIGITS,
        "resnet20.mine",
        str(tmp_path / "hub"),
        evaluate_on=(("digits", "test"),),
        license={"weights": "CC-BY-4.0", "data": "CC-BY-4.0"},
    )
    card = ModelCard((tmp_path / "hub" / "resnet20.mine" / "README.md").read_text())
    assert card.content.strip() == done.card.strip()
    assert (card.data.license, card.data.library_name, card.data.datasets) == ("cc-by-4.0", "zoo-vision", ["digits"])
    [top1, top5] = card.data.eval_results
    assert (top1.dataset_name, top1.dataset_split, top1.metric_type) == ("digits", "test", "accuracy")
    assert (top1.metric_value, top5.metric_value) == (1.0, 1.0)
    # 360 of 360: Wilson's lower bound is n / (n + z^2).
    assert f"{100 * 360 / (360 + 1.959963984540054**2):.3f}% to 100.000%" in card.text
    assert "zoo evaluate resnet20.mine --data digits" in card.text
    assert "sha256:3c0209dd9efb54cc6be962cf1c7b8ba6d05745e029b07f23abe28559583b32b6" in card.text
    assert "zoo train resnet20 --data digits" in card.text
    run = json.loads((tmp_path / "hub" / "resnet20.mine" / "run.json").read_text())
    assert run == safetensors_file.metadata(DIGITS)["run"]


def test_a_licence_that_the_hub_does_not_know_is_named_as_another(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    done = publish(DIGITS, "resnet20.mine", str(tmp_path), license={"weights": "ImageNet terms"})
    card = ModelCard(done.card)
    assert (card.data.license, card.data.license_name) == ("other", "ImageNet terms")
    assert card.data.eval_results is None
    assert "None measured" in card.text


def test_a_planted_link_is_not_published_through(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "resnet20.mine").symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError, match=r"resnet20\.mine is a symbolic link"):
        publish(DIGITS, "resnet20.mine", str(tmp_path / "hub"))
    assert [*(tmp_path / "victim").iterdir()] == []


def test_words_in_a_card_are_neither_markdown_nor_html(tmp_path: Path) -> None:
    from markdown_it import MarkdownIt

    hostile = "pets|</td><script>x</script>\n\n# Not a [heading](https://x) ![](y) `a` **b** <!--"
    run = {
        "command": "zoo train `rm` | x\n# no",
        "code": hostile,
        "data": {"train": {"name": hostile, "split": "train", "n": 3, "fingerprint": "sha256:0"}},
        "recipe": {"name": hostile},
        "versions": {hostile: "1"},
    }
    about = {"run": run, "classes": hostile, "origin": hostile}
    file = describe(zoo.create("resnet20"), "resnet20", tmp_path / "model.safetensors", **about)
    card = publish(file, "resnet20.mine", str(tmp_path / "hub"), license={"weights": hostile}).card
    body = card.split("\n---\n", 1)[1]
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    flat = [child for token in tokens for child in (token, *(token.children or ()))]
    assert not {"html_block", "html_inline", "image", "strong_open"} & {token.type for token in flat}
    assert [token.attrs for token in flat if token.type == "link_open" and "://x" in str(token.attrs)] == []
    titles = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    assert titles == ["resnet20.mine", "Scores", "Use", "Input", "Origin", "Licences", "Files"]


def test_no_local_path_and_no_secret_is_published(tmp_path: Path) -> None:
    run = {
        "code": "12ab",
        "command": f"zoo train resnet20 --data /home/me/{PRIVATE}/pets -o ~/{PRIVATE}/run --init ./{PRIVATE}/start",
        "data": {"train": {"name": "pets", "split": "train", "n": 3, "fingerprint": "sha256:0"}},
        "init": {"weights": f"/home/me/{PRIVATE}/start.safetensors", "sha256": "0"},
        "mirror": f"https://me:{PRIVATE}@example.org/pets?signature={PRIVATE}",
        "recipe": {"name": "default"},
    }
    file = describe(zoo.create("resnet20"), "resnet20", tmp_path / "model.safetensors", run=run)
    publish(file, "resnet20.mine", str(tmp_path / "hub"))
    published = [path for path in (tmp_path / "hub").rglob("*") if path.is_file()]
    assert len(published) == 5
    for path in published:
        content = path.read_bytes()
        assert PRIVATE.encode() not in content, path
        assert str(tmp_path).encode() not in content, path
    kept = safetensors_file.metadata(tmp_path / "hub" / "resnet20.mine" / "model.safetensors")["run"]
    assert kept["command"] == "zoo train resnet20 --data pets -o run --init start"
    assert kept["init"]["weights"] == "start.safetensors"
    assert kept["mirror"] == "https://example.org/pets"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("timm/resnet18.a1_in1k", "timm/resnet18.a1_in1k"),
        ("caltech101:15:0", "caltech101:15:0"),
        ("hf:org/name", "hf:org/name"),
        ("/data/x", "x"),
        ("C:\\Users\\me\\x.safetensors", "x.safetensors"),
        ("a note / with a slash", "a note / with a slash"),
        ("s3://bucket/x", "s3://bucket/x"),
        ("epsilon 8/255, 3 images/s and/or more", "epsilon 8/255, 3 images/s and/or more"),
        ("https://arxiv.org/abs/1512.03385", "https://arxiv.org/abs/1512.03385"),
        (
            "trained on digits with recipe default from timm/resnet18",
            "trained on digits with recipe default from timm/resnet18",
        ),
        ("hf:/home/me/pets", "hf:pets"),
        ("hf:../me/pets", "hf:pets"),
        ("file:///home/me/pets", "pets"),
        ("runs/me/start.safetensors", "start.safetensors"),
        ("runs/start.safetensors", "start.safetensors"),
        ("~me/pets", "pets"),
        ("converted from /home/me/net.pth, by hand.", "converted from net.pth, by hand."),
        ("see '/home/me/x' and ../me/y.", "see 'x' and y."),
        ("from https://me:word@example.org/a.pth?key=1 (signed)", "from https://example.org/a.pth (signed)"),
        ("/home/me/my nets/x.pth", "x.pth"),
        ("-o/home/me/run", "-orun"),
        ("--data=/home/me/pets", "--data=pets"),
    ],
)
def test_names_and_addresses_are_no_paths(text: str, kept: str) -> None:
    assert without_paths({"x": [text]}) == {"x": [kept]}


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("zoo train resnet20 --data digits -o/home/me/run", "zoo train resnet20 --data digits -orun"),
        ("zoo train resnet20 --data file:///home/me/pets", "zoo train resnet20 --data pets"),
        ("zoo train resnet20 --data hf:/home/me/pets", "zoo train resnet20 --data hf:pets"),
        ("zoo train resnet20 --data hf:org/pets", "zoo train resnet20 --data hf:org/pets"),
        ("zoo train resnet20 --data me/pets -o me/run", "zoo train resnet20 --data pets -o run"),
        ("zoo train resnet20 --data digits -o runs/mine", "zoo train resnet20 --data digits -o runs/mine"),
        ("zoo train timm/resnet18 --data pets", "zoo train timm/resnet18 --data pets"),
        (
            "zoo train resnet20 --adversarial pgd --set adversarial.eps=8/255",
            "zoo train resnet20 --adversarial pgd --set adversarial.eps=8/255",
        ),
        ("zoo train resnet20 --data '/home/me/my pets'", "zoo train resnet20 --data 'my pets'"),
        ("zoo train resnet20 --data 'https://h/x?key=1'", "zoo train resnet20 --data https://h/x"),
    ],
)
def test_a_published_command_names_no_folder(command: str, kept: str) -> None:
    assert without_paths({"command": command}) == {"command": kept}


def test_names_of_classes_stay_as_they_are() -> None:
    about = {"class_names": ["/m/01g317", "a/b/c", "~"]}
    assert without_paths(about) == about


def test_the_weights_that_a_training_started_from_are_its_base_model(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    start = registry.current().find("resnet18.tv_in1k").weights
    run = {"command": "zoo train", "code": COMMIT, "init": {"weights": start.name, "sha256": start.sha256}}
    file = describe(zoo.create("resnet20"), "resnet20", tmp_path / "m.safetensors", run=run)
    done = publish(file, "resnet20.mine", str(tmp_path / "hub"), is_dry_run=True)
    assert ModelCard(done.card).data.base_model == "timm/resnet18.tv_in1k"
    run["init"]["sha256"] = 64 * "0"
    file = describe(zoo.create("resnet20"), "resnet20", tmp_path / "m.safetensors", run=run)
    done = publish(file, "resnet20.mine", str(tmp_path / "hub"), is_dry_run=True)
    assert ModelCard(done.card).data.base_model is None


# ---- timm's form


@pytest.mark.slow
def test_timm_reads_what_is_in_its_form_and_computes_the_same(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="the reader is timm")
    module = zoo.create("resnet18", num_classes=3)
    preprocess = msgspec.to_builtins(msgspec.structs.replace(module.zoo_info.preprocess, crop_pct=0.9))
    more = {"class_names": ["a", "b", "c"], "num_classes": 3, "preprocess": preprocess}
    file = describe(module, "resnet18", tmp_path / "m.safetensors", **more)
    publish(file, "resnet18.mine", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "resnet18.mine"
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(images), module.eval()(images), rtol=1e-5, atol=1e-5)
    assert theirs.pretrained_cfg["crop_pct"] == 0.9
    assert theirs.pretrained_cfg["label_names"] == ["a", "b", "c"]


def test_what_timm_does_not_know_or_computes_otherwise_gets_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = publish(DIGITS, "resnet20.mine", str(tmp_path / "hub"), is_dry_run=True)
    assert "config.json" not in {file.path for file in done.files}
    assert "timm has no architecture 'resnet20'" in done.card
    timm = pytest.importorskip("timm", reason="the reader is timm")
    from zoo_publish import release

    module = timm.create_model("test_resnet", num_classes=10)
    entry = Weights(file="x", arch="test_resnet", tag="x", sha256=64 * "0", num_classes=10)
    model = msgspec.structs.replace(registry.current().find("resnet18").model, name="test_resnet")
    assert release.timm_config(module, model, entry, model.preprocess)["architecture"] == "test_resnet"
    module.act1 = nn.SiLU()  # the same tensors, another network
    assert "computes different outputs" in release.timm_config(module, model, entry, model.preprocess)


@pytest.mark.slow
def test_timm_reads_a_release_from_the_hub_by_its_name(hugging_face: HubServer, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="the reader is timm")
    module = zoo.create("resnet18", num_classes=3)
    publish(describe(module, "resnet18", tmp_path / "m.safetensors", num_classes=3), "resnet18.mine", "hf://alice/tiny")
    torch.save(module.eval()(torch.ones(1, 3, 64, 64)).detach(), tmp_path / "expected.pt")
    code = (
        "import sys, timm, torch; torch.testing.assert_close(timm.create_model('hf-hub:alice/tiny', pretrained=True)"
        ".eval()(torch.ones(1, 3, 64, 64)).detach(), torch.load(sys.argv[1]), rtol=1e-5, atol=1e-5)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "expected.pt")], check=True)


# ---- what it is made of


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    specimen.install(tmp_path / "site", monkeypatch)
    yield "net"
    registry.clear()


def train(output: Path, **settings: Any) -> Path:
    pytest.importorskip("timm", reason="needs zoo-vision[train]")
    settings = {"epochs": 2, "warmup_epochs": 0, "batch_size": 256, "precision": "float32", **settings}
    zoo.train("net", "digits", recipe="default", settings=settings, output=output, device="cpu", display=Silent())
    return output


def test_a_run_is_named_by_its_model_and_its_folder(net: str, tmp_path: Path) -> None:
    run = train(tmp_path / "My run 2")
    asked = ask("publish", run, "--to", tmp_path / "hub", "--allow-uncommitted")
    assert asked.exit_code == 0, asked.stderr
    assert f"{net}.my_run_2 (--as)" in asked.stderr
    assert [f"{entry.arch}.{entry.tag}" for entry in manifest.parse(asked.stdout)] == [f"{net}.my_run_2"]
    refused = ask("publish", run / "model.safetensors", "--to", tmp_path / "hub")
    assert (refused.exit_code, "--as ARCH.TAG" in refused.stderr) == (2, True)


def test_a_runs_own_score_is_that_of_the_images_it_held_out(net: str, tmp_path: Path) -> None:
    run = train(tmp_path / "run", validation=300)
    done = publish(run, f"{net}.mine", str(tmp_path / "hub"), allow_uncommitted=True)
    [entry] = manifest.parse(done.entry)
    assert list(entry.scores) == ["digits/validation"]
    claim = entry.scores["digits/validation"]
    config = json.loads((run / "config.json").read_text())
    recipe = msgspec.convert(config["recipe"], training.Recipe)
    held_out = training.split(zoo.data.load("digits", "train"), recipe).validation
    module = zoo.create(net, weights=run / "model.safetensors")
    again = evaluation.evaluate(module, held_out, preprocess=module.zoo_info.preprocess)
    assert (claim.n, claim.correct, claim.fingerprint) == (300, again.correct, held_out.fingerprint)
    assert "held out" in claim.source
    assert {"log.jsonl", "run.json"} < {file.path for file in done.files}
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert entry.history.epoch == (1, 2)
    assert entry.history.loss == pytest.approx([row["loss"] for row in log], rel=1e-3)
    assert entry.history.train_top1 == pytest.approx([row["train_top1"] for row in log], abs=0.01)
    assert entry.history.val_top1 == pytest.approx([row["val_top1"] for row in log], abs=0.01)
    half = publish(run, f"specimen/{net}.half", str(tmp_path / "hub"), dtype="float16", allow_uncommitted=True)
    assert not manifest.parse(half.entry)[0].scores, "the score was of the network in full precision"
    assert (tmp_path / "hub" / f"{net}.half" / "model.safetensors").is_file()


def test_a_run_without_held_out_images_claims_nothing(net: str, tmp_path: Path) -> None:
    done = publish(train(tmp_path / "run", epochs=1), f"{net}.mine", str(tmp_path / "hub"), allow_uncommitted=True)
    assert not manifest.parse(done.entry)[0].scores
    assert any("No score" in remark for remark in done.notes)


def test_a_dry_run_shows_all_writes_nothing_and_asks_nobody(hugging_face: HubServer, tmp_path: Path) -> None:
    there = tmp_path / "manifest.toml"
    words = ["--as", "resnet20.mine", "--to", "hf://alice/tiny", "--manifest", there, "--dry-run"]
    answer = ask("publish", DIGITS, *words)
    assert answer.exit_code == 0
    assert "# resnet20.mine" in answer.stdout
    assert "model-index" not in answer.stdout
    for file in ("model.safetensors", "README.md", "weights.toml", "run.json"):
        assert re.search(rf"{file} .* sha256 [0-9a-f]{{64}}", answer.stderr)
    assert not hugging_face.requests
    assert not there.exists()
    assert not ask("publish", DIGITS, "--as", "resnet20.mine", "--to", tmp_path / "hub", "--dry-run").exit_code
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("name", ["resnet20.c10", "airbench94.c10", "ror3_56_sd.c10", "dtp_mlp.mnist"])
def test_what_ships_along_is_published_as_the_bytes_it_is(name: str, tmp_path: Path) -> None:
    """Also that of float16, and its manifest's entry says the same but for scores, which nobody measured now."""
    shipped = registry.current().find(name).weights
    copied = tmp_path / "there.toml"
    copied.write_text("# Whose they are.\n\n" + manifest.render(shipped), encoding="utf-8")
    file = EMBEDDED / f"{name}.safetensors"
    done = publish(file, name, "embedded:weights_manifest/embedded", manifest_file=copied, allow_uncommitted=True)
    assert not done.is_new
    [written] = manifest.read(copied)
    assert copied.read_text().startswith("# Whose they are.\n\n")
    assert msgspec.structs.replace(written, preprocess=shipped.preprocess) == shipped


OF_A_RELEASE = {"code": "", "versions": {"zoo": "0.1.0"}}
OF_A_PLUGIN = {"code": COMMIT, "distribution": "zoo-pet", "distribution_version": "1.0"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, f"zoo-vision {COMMIT}"),
        (OF_A_RELEASE, "zoo-vision 0.1.0"),
        ({**OF_A_PLUGIN, "plugin_code": COMMIT[::-1]}, f"zoo-vision {COMMIT}, zoo-pet {COMMIT[::-1]}"),
        ({**OF_A_PLUGIN, "plugin_code": "", "code": "", "versions": {"zoo": "0.1.0"}}, "zoo-vision 0.1.0, zoo-pet 1.0"),
    ],
)
def test_a_run_of_committed_or_released_code_is_published_with_it_on_the_card(
    changes: dict[str, Any], code: str, tmp_path: Path
) -> None:
    done = publish(recorded(tmp_path, **changes), "resnet20.mine", str(tmp_path / "hub"))
    assert f"| code | {code} |" in done.card
    assert "cannot be repeated" not in done.card + "".join(done.notes)


@pytest.mark.parametrize(
    ("changes", "gap"),
    [
        ({"command": ""}, "the command is not recorded"),
        ({"code": None}, "the commit of zoo-vision is not recorded"),
        ({"code": "", "versions": {}}, "the commit of zoo-vision is not recorded"),
        ({"code": f"{COMMIT}-dirty"}, "the code had changes that were not committed"),
        ({"earlier": [{"code": f"{COMMIT}-dirty"}]}, "the code had changes that were not committed"),
        ({"code": "uncommitted"}, "zoo-vision was installed from a folder without a commit"),
        ({**OF_A_PLUGIN, "plugin_code": "uncommitted"}, "zoo-pet was installed from a folder without a commit"),
        ({**OF_A_PLUGIN, "plugin_code": f"{COMMIT}-dirty"}, "the code had changes that were not committed"),
        ({"plugin_code": ""}, "the model is part of no installed distribution"),
    ],
)
def test_a_run_that_its_record_cannot_repeat_is_published_on_demand_and_says_so(
    changes: dict[str, Any], gap: str, tmp_path: Path
) -> None:
    words = ["publish", recorded(tmp_path, **changes), "--as", "resnet20.mine", "--to", tmp_path / "hub"]
    refused = ask(*words)
    assert refused.exit_code == 1
    assert gap in " ".join(refused.stderr.split())
    assert "--allow-uncommitted" in refused.stderr
    assert ("pip install --editable" in refused.stderr) == ("installed from a folder" in gap)
    assert not (tmp_path / "hub").exists()
    allowed = ask(*words, "--allow-uncommitted")
    assert allowed.exit_code == 0, allowed.output
    assert gap in " ".join(allowed.stderr.split())
    card = (tmp_path / "hub" / "resnet20.mine" / "README.md").read_text()
    assert f"The training cannot be repeated from its record: {gap}." in card


def test_the_card_of_a_network_without_epochs_states_none(tmp_path: Path) -> None:
    file = EMBEDDED / "hog_svm.c10.safetensors"
    card = publish(file, "hog_svm.mine", str(tmp_path / "hub"), is_dry_run=True, allow_uncommitted=True).card
    assert "| seed | 0 |" in card
    assert "epochs" not in card


def recorded(folder: Path, **changes: Any) -> Path:
    """Returns a file whose record has command and commit, but for ``changes``; None leaves a field out."""
    run = {"command": "zoo train resnet20 --data cifar10 -o runs/mine", "code": COMMIT, "recipe": {}, **changes}
    run = {key: value for key, value in run.items() if value is not None}
    return describe(zoo.create("resnet20"), "resnet20", folder / "mine.safetensors", run=run)


@pytest.mark.slow
def test_embedded_weights_go_into_the_package_and_its_manifest(
    net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = (('name="specimen"', 'name="other"'), ('"net",', '"net_two",'), ("[net.remote]", "[net_two.remote]"))
    package = specimen.install(tmp_path / "other", monkeypatch, *changes, name="other")
    registry.clear()
    folder = tmp_path / "other" / package
    module = zoo.create("net_two")
    file = describe(module, "net_two", tmp_path / "m.safetensors", num_classes=5, origin="by hand")
    words = ["--as", "net_two.mine", "--to", f"embedded:{package}/weights", "--manifest", folder / "manifest.toml"]
    (folder / "manifest.toml").write_text("# What it publishes.\n")
    told("publish", file, *words, "--dtype", "float16")
    assert (folder / "weights" / "net_two.mine.safetensors").is_file()
    assert [path.name for path in (folder / "weights").iterdir()] == ["net_two.mine.safetensors"]
    registry.clear()
    trained = zoo.create("net_two.mine")
    assert trained.conv.weight.dtype == torch.float32
    torch.testing.assert_close(trained.conv.weight, module.conv.weight.half().float(), rtol=0, atol=0)
    stored = safetensors.torch.load_file(folder / "weights" / "net_two.mine.safetensors")
    kinds = {key: tensor.dtype for key, tensor in stored.items()}
    assert kinds["conv.weight"] == kinds["fc.weight"] == torch.float16
    assert kinds["fc.bias"] == kinds["norm.running_var"] == torch.float32
    assert [row["ok"] for row in told("verify", "net_two.mine")] == [True]


def broken(kind: str, folder: Path) -> tuple[Path, str]:
    """Returns (source, name) of which nothing can be published."""
    module, file = zoo.create("resnet20"), folder / "m.safetensors"
    if kind == "unfinished":
        (folder / "config.json").write_text("{}")
        return folder, "resnet20.mine"
    if kind == "pickle":
        torch.save(module.state_dict(), file)
    elif kind == "undescribed":
        safetensors_file.write(module.state_dict(), file, {})
    elif kind == "nan":
        module.fc.weight.data[0, 0] = float("nan")
        describe(module, "resnet20", file)
    elif kind == "truncated":
        describe(module, "resnet20", file)
        file.write_bytes(file.read_bytes()[:-100])
    elif kind == "no record":
        describe(module, "resnet20", file, run=["nothing", "of the kind"])
    elif kind == "no number":
        describe(module, "resnet20", file, num_classes="ten")
    elif kind == "another shape":
        module.conv1 = nn.Conv2d(3, 17, 3)
        describe(module, "resnet20", file)
    else:
        describe(module, "resnet20", file)
    return file, {"no tag": "resnet20", "another model": "resnet32.mine"}.get(kind, "resnet20.mine")


@pytest.mark.first(3)
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("unfinished", "is not a finished run"),
        ("pickle", "this is a pickle"),
        ("undescribed", "has no metadata about its network"),
        ("nan", "1 tensors contain NaN or infinity: fc.weight"),
        ("truncated", "not a usable safetensors file"),
        ("another shape", "mis-shaped  conv1.weight"),
        ("no record", "its run record is invalid"),
        ("no number", "num_classes: Expected `int | null`, got `str`"),
        ("no tag", "has no tag"),
        ("another model", "has weights of resnet20, not of resnet32"),
    ],
)
def test_what_cannot_be_published_is_refused_before_anything_is_written(kind: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source, name = broken(kind, tmp_path / "in")
    answer = ask("publish", source, "--as", name, "--to", tmp_path / "hub")
    assert answer.exit_code == 1
    assert reason in answer.stderr
    assert "Traceback" not in answer.output
    assert not (tmp_path / "hub").exists()


def test_a_manifest_that_names_other_bytes_stops_it_before_anything_is_written(tmp_path: Path) -> None:
    there = tmp_path / "manifest.toml"
    there.write_text(f'[resnet20.mine]\nfile = "x"\nsha256 = "{64 * "0"}"\n')
    with pytest.raises(ManifestError, match="of other bytes"):
        publish(DIGITS, "resnet20.mine", str(tmp_path / "hub"), manifest_file=there)
    assert not (tmp_path / "hub").exists()


# ---- the manifest's text

TEXT = """# Of somebody.

# One.
[net.one]
file = "one"   # here
sha256 = "{0}"

[net.one.scores."x/test"]
n = 1
source = "one"

# Two, of which more is said below.
[net.two]
file = "two"
sha256 = "{0}"
# The end.
""".format(64 * "0")


def test_an_entry_is_put_at_the_end_or_in_place_of_itself() -> None:
    one, two = manifest.parse(TEXT)
    assert writing.with_entry(TEXT, one) == TEXT
    new = msgspec.structs.replace(two, tag="three")
    grown = writing.with_entry(TEXT, new)
    assert grown.startswith(TEXT)
    assert manifest.parse(grown) == (one, two, new)
    other = msgspec.structs.replace(one, scores={"y/test": Score(n=2, source="two", top1=50.0)})
    changed = writing.with_entry(TEXT, other)
    assert manifest.parse(changed) == (other, two)
    for comment in ("# Of somebody.", "# One.", "# Two, of which more is said below.", "# The end."):
        assert comment in changed
    assert writing.with_entry("", new) == manifest.render(new)


def test_a_form_that_cannot_be_edited_in_place_is_refused() -> None:
    inline = '[net]\none = { file = "one", pinned = false }\n'
    [entry] = manifest.parse(inline)
    with pytest.raises(ManifestError, match="cannot be edited in place"):
        writing.with_entry(inline, msgspec.structs.replace(entry, origin="another"))


TOKEN = "hf_" + "abcdefghijklmnopqrstuvwx"


@pytest.mark.parametrize(
    ("value", "published"),
    [
        ({"command": f"zoo train r --set x={TOKEN}"}, {"command": "zoo train r --set 'x=***'"}),
        ({"command": "AWS_SECRET_ACCESS_KEY=abc zoo train r"}, {"command": "'AWS_SECRET_ACCESS_KEY=***' zoo train r"}),
        ({"command": "zoo train r --token abc"}, {"command": "zoo train r --token '***'"}),
        ({"args": {"api_key": "abc", TOKEN: 1}}, {"args": {"api_key": "***", "***": 1}}),
        ({"class_names": [TOKEN, "cat", "/m/01g317"]}, {"class_names": ["***", "cat", "/m/01g317"]}),
        ({"note": "AKIA" + "ABCDEFGHIJKLMNOP"}, {"note": "***"}),
        ({"note": "the token is a patch of 16 x 16"}, {"note": "the token is a patch of 16 x 16"}),
        ({"/home/somebody/photographs": 1}, {"photographs": 1}),
    ],
)
def test_no_secret_is_published(value: dict[str, Any], published: dict[str, Any]) -> None:
    from zoo_publish.source import without_paths

    assert without_paths(value) == published
