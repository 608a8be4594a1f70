"""The folder of a run is a name of its network, for every command and in Python."""

import csv
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from PIL import Image
from support.command import ask_warm, printed, told

import zoo
from zoo.errors import DataError, SpecError, UnknownNameError, WeightsError
from zoo.loading import create

CLASSES = ("dark", "light")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve grey images of each of two classes to train on, four to test on, of which one is in the wrong folder."""
    folder = tmp_path_factory.mktemp("images") / "photos"
    for split, count in (("train", 12), ("test", 4)):
        for name, value in zip(CLASSES, (30, 220), strict=True):
            for i in range(count):
                file = folder / split / name / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (32, 32), (value + i, value, value)).save(file)
    (folder / "test/dark/0.png").write_bytes((folder / "test/light/0.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "mine"
    zoo.train(
        "resnet8", photos, settings={"epochs": 12, "batch_size": 8, "lr": 0.05, "augment": {}}, output=run, device="cpu"
    )
    return run


def test_its_sizes_are_those_of_the_trained_network(run: Path) -> None:
    """Two classes in place of ten: eight rows of 64 weights and a bias less."""
    for place in (run, run / "model.safetensors"):
        file = told("info", place)["file"]
        assert zoo.info("resnet8")["params"] - file["params"] == 8 * 65
        assert zoo.info("resnet8")["macs"] - file["macs"] == 8 * 64
        assert f"{file['params']:,}" in printed("info", place)


def test_multiply_adds_that_its_model_does_not_state_are_not_counted(tmp_path: Path) -> None:
    """Most of scattering is Fourier transforms: its few other operations would say too little."""
    file = tmp_path / "scattering.safetensors"
    create.save(zoo.create("scatter_linear", num_classes=3, class_names=["a", "b", "c"]), file, origin="a test")
    assert told("info", file)["file"]["macs"] == zoo.info("scatter_linear")["macs"] == 0
    assert "multiply-adds" not in printed("info", file)


def test_a_mean_over_classes_without_errors_has_no_interval_by_bootstrap(run: Path, photos: Path) -> None:
    """Every draw would be without errors: its width of 0 would promise what nobody knows."""
    assert "bootstrap by class" in printed("evaluate", run, "--data", photos)
    assert "bootstrap by class" not in printed("evaluate", "resnet20.digits", "--data", "digits")


def test_it_is_created_with_its_tensors_and_the_names_of_its_classes(run: Path) -> None:
    network = zoo.create(str(run))
    assert network.zoo_info.class_names == CLASSES
    by_file = zoo.create("resnet8", weights=run / "model.safetensors")
    for same in (zoo.create(str(run), pretrained=True), zoo.create("resnet8", weights=run)):
        assert all(map(torch.equal, same.state_dict().values(), by_file.state_dict().values()))
    assert all(map(torch.equal, network.state_dict().values(), by_file.state_dict().values()))


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "RUN", "PHOTOS/test/light/1.png"),
        ("evaluate", "RUN", "--data", "PHOTOS"),
        ("features", "RUN", "--data", "PHOTOS", "-o", "TMP/features.safetensors"),
        ("benchmark", "RUN", "--batch-size", "1", "--steps", "1"),
        ("look", "filters", "RUN"),
        ("attack", "image", "RUN", "PHOTOS/test/light/1.png", "-o", "TMP/attacked.png"),
        pytest.param(("export", "RUN", "-o", "TMP/mine.pt2"), marks=pytest.mark.slow, id="export RUN"),
        ("train", "--init", "RUN", "--data", "PHOTOS", "--set", "epochs=1", "-o", "TMP/next"),
        ("info", "RUN"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_commands_take_it(words: tuple[str, ...], run: Path, photos: Path, tmp_path: Path) -> None:
    places = {"RUN": run, "PHOTOS": photos, "TMP": tmp_path}
    done = ask_warm(*(place_in(word, places) for word in words))
    assert done.exit_code == 0, done.stderr


def place_in(word: str, places: dict[str, Path]) -> str:
    for name, place in places.items():
        word = word.replace(name, str(place))
    return word


def test_info_says_what_it_was_trained_on(run: Path) -> None:
    about = zoo.info(str(run))
    assert (about["name"], about["weights"]) == ("resnet8", [])
    assert about["file"]["class_names"] == list(CLASSES)
    shown = printed("info", run)
    assert "images of photos/train" in shown
    assert "dark, light" in shown


def test_what_is_known_as_a_name_is_one(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("resnet20").symlink_to(run)
    assert zoo.create("resnet20").zoo_info.model.name == "resnet20"
    assert zoo.create("./resnet20").zoo_info.model.name == "resnet8"


def test_other_folders_and_files_are_refused_in_words(photos: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not of a run"):
        zoo.create(str(photos))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="has not ended") as caught:
        zoo.create(str(tmp_path))
    assert "--resume" in caught.value.hint
    with pytest.raises(UnknownNameError, match="there is no such folder"):
        zoo.create(f"{tmp_path.name}/nothing".lower().replace("-", "_"))
    with pytest.raises(WeightsError, match="both name weights"):
        zoo.create(str(run), pretrained="c10")


def table(file: Path) -> list[list[str]]:
    return [*csv.reader(file.read_text().splitlines())]


def test_own_test_images_get_a_confusion_matrix_and_mistakes(run: Path, photos: Path, tmp_path: Path) -> None:
    shown = ask_warm("evaluate", run, "--data", photos, "--mistakes", tmp_path / "out")
    assert shown.exit_code == 0, shown.stderr
    _, *rows = table(tmp_path / "out/mistakes.csv")
    wrong = [(Path(file).parent.name, Path(file).name, true, predicted) for file, true, predicted, _ in rows]
    assert wrong == [("dark", "0.png", "dark", "light")]  # the one in the wrong folder
    assert table(tmp_path / "out/confusion.csv")[1:] == [["dark", "3", "1"], ["light", "0", "4"]]
    assert "1 of 8 test images are wrong" in shown.stderr


def test_a_folder_and_an_address_are_classified(run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = told("predict", run, photos / "test", "-k", 1)["predictions"]
    assert [(Path(row["image"]).name, row["classes"][0]["class"]) for row in rows[1:]] == [
        *((f"{i}.png", "dark") for i in (1, 2, 3)),
        *((f"{i}.png", "light") for i in range(4)),
    ]
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: SimpleHTTPRequestHandler(*args, directory=photos))
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/test"
    try:
        [[likeliest, _]] = zoo.predict(str(run), f"{address}/light/2.png")
        assert likeliest.class_name == "light"
        with pytest.raises(DataError, match="404"):
            zoo.predict(str(run), f"{address}/light/9.png")
        monkeypatch.setenv("ZOO_OFFLINE", "1")
        with pytest.raises(zoo.OfflineError, match="ZOO_OFFLINE"):
            zoo.predict(str(run), f"{address}/light/2.png")
    finally:
        server.shutdown()
        server.server_close()


def test_an_empty_folder_and_a_missing_image_are_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder without images"):
        zoo.predict(str(run), tmp_path)
    with pytest.raises(DataError, match=r"x\.jpg: no such file"):
        zoo.predict(str(run), tmp_path / "x.jpg")


def test_a_network_that_was_changed_has_no_name_and_no_claim() -> None:
    network = zoo.create("resnet20.digits")
    assert zoo.evaluate(network, "digits").weights == "resnet20.digits"
    assert zoo.evaluate(network.bfloat16().float(), "digits").weights == ""  # it lost digits
    network = zoo.create("resnet20.digits")
    network.fc.weight.data.zero_()  # no version counter sees it
    assert zoo.evaluate(network, "digits").weights == ""
    from zoo.evaluation import by_name

    with pytest.raises(WeightsError, match="not those of"):
        by_name.check(network, "digits")


def test_names_of_classes_size_the_head() -> None:
    network = zoo.create("resnet20.c10", class_names=["ant", "bee"])
    assert (network.num_classes, network.zoo_info.class_names) == (2, ("ant", "bee"))
    image = Image.new("RGB", (32, 32))
    assert {row.class_name for row in zoo.predict(network, image)[0]} == {"ant", "bee"}
    for wrong in ("ant", [], ["ant", "ant"], ["ant", 3]):
        with pytest.raises(SpecError, match="class_names"):
            zoo.create("resnet20", class_names=wrong)
    with pytest.raises(SpecError, match="class_names are 2"):
        zoo.create("resnet20", class_names=["ant", "bee"], num_classes=3)


@pytest.mark.parametrize(
    "words",
    [
        ("features", "RUN", "--data", "PHOTOS", "-o", "RUN/model.safetensors"),
        ("evaluate", "RUN", "--data", "PHOTOS", "--outputs", "RUN/model.safetensors"),
        ("look", "filters", "RUN", "-o", "RUN/model.safetensors"),
    ],
    ids=lambda words: words[0],
)
def test_no_output_replaces_a_network(words: tuple[str, ...], run: Path, photos: Path) -> None:
    before = (run / "model.safetensors").read_bytes()
    refused = ask_warm(*(place_in(word, {"RUN": run, "PHOTOS": photos}) for word in words))
    assert refused.exit_code == 2
    assert "holds a network of resnet8" in refused.stderr
    assert (run / "model.safetensors").read_bytes() == before
