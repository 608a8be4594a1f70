"""The page that classifies the reader's image: what it is made of, and its pixels compared with Python's."""

import base64
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from support import browser, small_site
from support.command import ask_warm

import zoo
from zoo import registry
from zoo.data.image_file import read_image
from zoo.data.preprocess import Transform
from zoo.errors import DataError, SpecError
from zoo.spec import Preprocess
from zoo_gallery import facts, trial
from zoo_gallery import site as gallery
from zoo_gallery.pages import Row
from zoo_look.network import captured

NETWORK = "resnet20.digits"
TRIED = ("resnet20.c10", "googlenet_small.c10", "alexnet_small.c10")
PHOTOGRAPHER = "efficientnet_lite0"
ROOT = Path(__file__).parents[3]
DIGIT = ROOT / "examples" / "digit.png"

STAND_IN = """
// Stands in for onnxruntime-web, which is no Python package: its logits are every sixth pixel, divided by 25.
export const env = { wasm: {} };
export class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
export const InferenceSession = {
  async create(address) {
    const size = (await (await fetch(address)).arrayBuffer()).byteLength;
    if (!size) throw new Error("empty");
    if (address.includes(".maps.")) {
      const maps = Float32Array.from([...Array(32).keys()]); // two maps of 4 x 4
      const answer = async () => ({ act1: { data: maps, dims: [1, 2, 4, 4] } });
      return { inputNames: ["input"], outputNames: ["act1"], run: answer };
    }
    return {
      inputNames: ["input"], outputNames: ["logits", "class_map"],
      async run({ input }) {
        const [count, size] = [input.dims[0], input.data.length / input.dims[0]];
        const place = (i) => Math.floor(i / 10) * size + 6 * (i % 10);
        const values = [...Array(10 * count).keys()].map((i) => input.data[place(i)] / 25);
        if (count === 1) globalThis.given = { type: input.type, dims: input.dims, data: [...input.data] };
        const places = Float32Array.from({ length: 4 * count }, (_, i) => i % 4 - 1); // -1 0 | 1 2
        return { logits: { data: Float32Array.from(values) }, class_map: { data: places, dims: [count, 2, 2] } };
      },
    };
  },
};
"""

PREPROCESSES = (
    Preprocess(),
    Preprocess(crop_pct=0.95, interpolation="bicubic"),
    Preprocess(interpolation="nearest"),
    Preprocess(crop_mode="border", interpolation="bicubic", crop_pct=0.9),
    Preprocess(input_size=(3, 32, 32), crop_pct=1.0),
    Preprocess(input_size=(1, 28, 28), mean=(0.13,), std=(0.31,), crop_pct=1.0),
    Preprocess(input_size=(3, 96, 160)),
    Preprocess(input_size=(3, 97, 97), crop_pct=0.33, interpolation="bicubic"),
)
PREPARE = """async ([bytes, preprocesses]) => {
  const { decode, prepare } = await import(new URL("assets/preprocess.mjs", document.baseURI).href);
  const raw = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
  const image = await decode(new Blob([raw]));
  const text = (array) => {
    let letters = "";
    for (let i = 0; i < array.length; i += 8192) letters += String.fromCharCode(...array.subarray(i, i + 8192));
    return btoa(letters);
  };
  return preprocesses.map((preprocess) => text(prepare(image, preprocess)));
}"""

MAPS = """async (bytes) => {
  const { decode } = await import(new URL("assets/preprocess.mjs", document.baseURI).href);
  const { maps } = await import(new URL("assets/networks.mjs", document.baseURI).href);
  const models = await (await fetch("try/models.json")).json();
  const raw = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
  const found = {};
  for (const model of models) {
    const layers = await maps(model, await decode(new Blob([raw])));
    found[model.name] = layers.map(({ name, data, dims }) => ({ name, dims, data: [...data] }));
  }
  return found;
}"""

LOGITS = """async (bytes) => {
  const { decode } = await import(new URL("assets/preprocess.mjs", document.baseURI).href);
  const { logits } = await import(new URL("assets/networks.mjs", document.baseURI).href);
  const models = await (await fetch("try/models.json")).json();
  const raw = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
  const found = {};
  for (const model of models) found[model.name] = (await logits(model, await decode(new Blob([raw])))).values;
  return found;
}"""


REASONS = """async ([bytes, name]) => {
  const { decode } = await import(new URL("assets/preprocess.mjs", document.baseURI).href);
  const { logits, occlusion } = await import(new URL("assets/networks.mjs", document.baseURI).href);
  const model = (await (await fetch("try/models.json")).json()).find((one) => one.name === name);
  const raw = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
  const { pixels, values } = await logits(model, await decode(new Blob([raw])));
  return [...await occlusion(model, pixels, values, values.indexOf(Math.max(...values)))];
}"""


PLACES = """async ([bytes, name]) => {
  const { decode } = await import(new URL("assets/preprocess.mjs", document.baseURI).href);
  const { logits } = await import(new URL("assets/networks.mjs", document.baseURI).href);
  const model = (await (await fetch("try/models.json")).json()).find((one) => one.name === name);
  const raw = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
  return [...(await logits(model, await decode(new Blob([raw])))).places];
}"""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runtime")
    for name in trial.RUNTIME:
        (folder / name).write_text(STAND_IN if name == trial.RUNTIME[0] else "", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def with_trial(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("jinja2", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason=f"needs {module}")
    folder = tmp_path_factory.mktemp("trial") / "site"
    gallery.build(folder, ["resnet20"], tried=[NETWORK], runtime=runtime)
    return folder


@pytest.fixture(scope="module")
def web_runtime() -> Path:
    """The folder of onnxruntime-web itself, which make try brings."""
    folder = Path(os.environ.get("ONNXRUNTIME_WEB", ROOT / "build/npm/node_modules/onnxruntime-web/dist"))
    if not (folder / trial.RUNTIME[0]).is_file():
        pytest.skip("needs onnxruntime-web: make try, or set ONNXRUNTIME_WEB to its folder dist")
    return folder


@pytest.fixture(scope="module")
def real(web_runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with onnxruntime-web itself."""
    folder = tmp_path_factory.mktemp("real") / "site"
    gallery.build(folder, ["resnet20"], tried=TRIED, runtime=web_runtime)
    return folder


@pytest.fixture(scope="module")
def photographic(web_runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a site with onnxruntime-web and a network for photographs, as make docs builds it."""
    try:
        zoo.fetch(PHOTOGRAPHER)
    except zoo.ZooError as error:
        pytest.skip(f"needs the weights of {PHOTOGRAPHER}: {error}")
    folder = tmp_path_factory.mktemp("photographic") / "site"
    gallery.build(folder, [PHOTOGRAPHER], tried=[PHOTOGRAPHER], runtime=web_runtime, precision="float16")
    with browser.served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def trial_address(with_trial: Path) -> Iterator[str]:
    with browser.served(with_trial) as address:
        yield address


def given(page: Any) -> Any:
    """Returns what the network in the page's worker was given last."""
    return page.workers[0].evaluate("globalThis.given")


def try_file(page: Any, file: Any) -> None:
    page.get_by_label("Image file").set_input_files(file)
    page.locator("#results table").wait_for()


def prepared(page: Any, image: bytes, preprocesses: tuple[Preprocess, ...]) -> list[torch.Tensor]:
    """Returns the pixels of an image file as the page prepares them."""
    texts = page.evaluate(PREPARE, [base64.b64encode(image).decode(), msgspec.to_builtins(preprocesses)])
    arrays = [np.frombuffer(base64.b64decode(text), np.uint8).copy() for text in texts]
    return [
        torch.from_numpy(array).view(preprocess.input_size)
        for array, preprocess in zip(arrays, preprocesses, strict=True)
    ]


def expected(image: bytes, preprocess: Preprocess) -> torch.Tensor:
    return Transform(preprocess).pixels(read_image(image, "image", preprocess.input_size[0]))


def photographs(count: int) -> Iterator[bytes]:
    file = Path(os.environ.get("ZOO_DATA", "."), "imagenet_val_128.tar")
    if not file.is_file():
        pytest.skip("needs imagenet_val_128.tar in ZOO_DATA")
    with tarfile.open(file) as photos:
        images = [member for member in photos if member.name.endswith(".JPEG")][:count]
        assert len(images) == count
        for member in images:
            stream = photos.extractfile(member)
            yield stream.read()


def noise(mode: str, size: tuple[int, int]) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), np.uint8)
    return Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels, mode)


def written(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def encoded(mode: str, size: tuple[int, int], format: str) -> bytes:
    return written(noise(mode, size), format)


def transparent(format: str) -> bytes:
    """Returns an image of every opacity, in every color of a gradient."""
    pixels = np.array(noise("RGBA", (256, 256)))
    pixels[..., 0], pixels[..., 3] = np.arange(256)[:, None], np.arange(256)
    return written(Image.fromarray(pixels), format, **({"lossless": True, "exact": True} if format == "WEBP" else {}))


def with_profile(format: str) -> bytes:
    """Returns an image whose color profile exchanges red and blue."""
    from PIL.ImageCms import ImageCmsProfile, createProfile

    profile = ImageCmsProfile(createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"none"), (b"bXYZ", b"rXYZ"), (b"none", b"bXYZ")):
        profile = profile.replace(old, new, 1)
    return written(noise("RGB", (60, 50)), format, icc_profile=profile)


PALETTE = noise("RGB", (61, 40)).quantize(16)
SIXTEEN_BITS = np.arange(0, 65536, 13, dtype=np.uint16)[:5000].reshape(50, 100)
SHOWN = {
    "transparent PNG": transparent("PNG"),
    "transparent WebP": transparent("WEBP"),
    "transparent grey": encoded("LA", (61, 40), "PNG"),
    "palette with opacities": written(PALETTE, "PNG", transparency=bytes(range(0, 256, 17))),
    "palette with a transparent color": written(PALETTE, "GIF", transparency=3),
    "one transparent color": written(Image.fromarray(np.array(noise("L", (61, 40))) // 16), "PNG", transparency=7),
    "4 bits of grey, one transparent": written(
        Image.fromarray(np.array(noise("L", (61, 40))) // 16 * 17), "PNG", bits=4, transparency=7
    ),
    "16 bits of grey": written(Image.fromarray(SIXTEEN_BITS), "PNG"),
    "16 bits of grey, one transparent": written(Image.fromarray(SIXTEEN_BITS), "PNG", transparency=1300),
    "JPEG with a profile": with_profile("JPEG"),
    "PNG with a profile": with_profile("PNG"),
}


# ---- in a browser ---------------------------------------------------------------------------------------


@pytest.mark.first(1)
@pytest.mark.may_skip
@pytest.mark.parametrize(
    ("mode", "size", "format"),
    [("RGB", (61, 40), "PNG"), ("L", (20, 33), "PNG"), ("RGB", (300, 301), "JPEG"), ("L", (300, 200), "JPEG"),
     ("RGB", (28, 28), "BMP"), ("RGB", (10, 90), "PNG")],
)  # fmt: skip
def test_images_are_decoded_resized_and_cropped_as_in_python(
    page: Any, trial_address: str, mode: str, size: tuple[int, int], format: str
) -> None:
    page.goto(f"{trial_address}try.html")
    image = encoded(mode, size, format)
    for preprocess, pixels in zip(PREPROCESSES, prepared(page, image, PREPROCESSES), strict=True):
        assert pixels.equal(expected(image, preprocess)), preprocess


@pytest.mark.may_skip
@pytest.mark.parametrize("image", SHOWN.values(), ids=SHOWN)
def test_what_is_transparent_deep_or_profiled_is_shown_as_python_has_it(
    page: Any, trial_address: str, image: bytes
) -> None:
    page.goto(f"{trial_address}try.html")
    for preprocess, pixels in zip(PREPROCESSES, prepared(page, image, PREPROCESSES), strict=True):
        assert pixels.equal(expected(image, preprocess)), preprocess


@pytest.mark.may_skip
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_photographs_are_turned_by_their_exif_as_in_python(page: Any, trial_address: str, format: str) -> None:
    """The browser heeds it in JPEG and PNG, the page in WebP."""
    page.goto(f"{trial_address}try.html")
    picture = noise("RGB", (5, 3)).resize((50, 30))
    options = {"lossless": True} if format == "WEBP" else {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for prefix in (b"", b"Exif\0\0") if format == "WEBP" else (b"",):
            image = written(picture, format, exif=prefix + exif.tobytes(), **options)
            upright = ImageOps.exif_transpose(Image.open(io.BytesIO(image)))
            for preprocess, pixels in zip(PREPROCESSES, prepared(page, image, PREPROCESSES), strict=True):
                assert pixels.equal(Transform(preprocess).pixels(upright)), (orientation, preprocess)


@pytest.mark.may_skip
@pytest.mark.parametrize(
    "exif",
    [b"", b"MM\0*", b"MM\0*\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + bytes(30),
     b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x09\0\0", b"II*\0\x08\0\0\0\1\0\x12\1\4\0\1\0\0\0\6\0\0\0"],
    ids=["empty", "short", "far", "entries", "9", "long"],
)  # fmt: skip
def test_exif_of_webp_that_says_nothing_valid_is_ignored(page: Any, trial_address: str, exif: bytes) -> None:
    page.goto(f"{trial_address}try.html")
    plain = written(noise("RGB", (32, 32)), "WEBP", lossless=True)
    image = written(noise("RGB", (32, 32)), "WEBP", lossless=True, exif=b"Exif\0\0" + exif)
    (pixels,) = prepared(page, image, PREPROCESSES[4:5])
    assert pixels.equal(expected(plain, PREPROCESSES[4]))
    assert pixels.equal(expected(image, PREPROCESSES[4]))


@pytest.mark.may_skip
def test_squashed_images_differ_by_one_level_at_most(page: Any, trial_address: str) -> None:
    page.goto(f"{trial_address}try.html")
    image = encoded("RGB", (100, 333), "PNG")
    squash = Preprocess(input_size=(3, 64, 64), crop_mode="squash")
    (pixels,) = prepared(page, image, (squash,))
    assert (pixels.int() - expected(image, squash).int()).abs().max() <= 1


@pytest.mark.slow
@pytest.mark.may_skip
def test_the_pages_own_logits_of_a_hundred_photographs_are_those_of_torch(page: Any, real: Path) -> None:
    """With onnxruntime-web itself, in the page."""
    models = {name: zoo.create(name).eval() for name in TRIED}
    largest = dict.fromkeys(TRIED, 0.0)
    with browser.served(real) as address:
        page.goto(f"{address}try.html")
        page.locator("#controls").wait_for()
        for image in photographs(100):
            ours = page.evaluate(LOGITS, base64.b64encode(image).decode())
            picture = read_image(image, "image", 3)
            for name, model in models.items():
                with torch.no_grad():
                    theirs = model(zoo.preprocess(model)(picture)[None])
                difference = (torch.tensor(ours[name]) - theirs).abs().max().item()
                largest[name] = max(largest[name], difference)
    assert max(largest.values()) < 1e-3


@pytest.mark.slow
@pytest.mark.may_skip
def test_the_pages_own_feature_maps_are_those_of_torch(page: Any, real: Path) -> None:
    """With onnxruntime-web itself, in the page."""
    models = {name: zoo.create(name).eval() for name in TRIED}
    with browser.served(real) as address:
        page.goto(f"{address}try.html")
        page.locator("#controls").wait_for()
        for image in photographs(5):
            ours = page.evaluate(MAPS, base64.b64encode(image).decode())
            picture = read_image(image, "image", 3)
            for name, model in models.items():
                layers = [layer["name"] for layer in ours[name]]
                assert layers == list(model.default_layers[:2])
                with captured(model, layers) as theirs, torch.no_grad():
                    model(zoo.preprocess(model)(picture)[None])
                for layer in ours[name]:
                    maps = torch.tensor(layer["data"]).view(layer["dims"])
                    assert (maps - theirs[layer["name"]]).abs().max() < 1e-3, (name, layer["name"])


@pytest.mark.slow
@pytest.mark.may_skip
def test_what_the_pages_own_answers_rest_on_is_what_look_finds(page: Any, real: Path) -> None:
    """Runs onnxruntime-web itself. A covered pixel has 8 bits in the page: its gray is not quite the mean."""
    with browser.served(real) as address:
        page.goto(f"{address}try.html")
        page.locator("#controls").wait_for()
        (image,) = photographs(1)
        falls = page.evaluate(REASONS, [base64.b64encode(image).decode(), "resnet20.c10"])
    theirs = zoo.look.attribute("resnet20.c10", read_image(image, "image", 3), "occlusion").scores
    assert (torch.tensor(falls).view(32, 32) - theirs[0]).abs().max() < 0.05


@pytest.mark.slow
@pytest.mark.may_skip
@pytest.mark.parametrize("name", ["cat.jpg", "coffee.jpg", "flower.jpg"])
def test_a_photograph_gets_the_answer_of_predict(page: Any, photographic: str, name: str) -> None:
    """In float16: it moves the largest probability by less than one percentage point."""
    page.goto(f"{photographic}try.html")
    try_file(page, ROOT / "examples" / name)
    [guesses] = zoo.predict(PHOTOGRAPHER, ROOT / "examples" / name)
    rows = page.locator("#results tbody tr")
    assert rows.count() == 5
    assert rows.locator("th").first.inner_text() == guesses[0].class_name
    share = float(rows.locator("td.n").first.inner_text().removesuffix("%"))
    assert share == pytest.approx(100 * guesses[0].probability, abs=1)
    others = {guess.class_name for guess in guesses}
    assert len(others & {*rows.locator("th").all_inner_texts()}) >= 4


@pytest.mark.slow
@pytest.mark.may_skip
def test_the_download_is_as_large_as_the_page_says(page: Any, photographic: str) -> None:
    responses: list[Any] = []
    page.on("response", lambda response: responses.append(response))  # playwright takes no built-in function
    page.goto(f"{photographic}try.html")
    try_file(page, ROOT / "examples" / "coffee.jpg")
    sizes = {response.url.rpartition("/")[2]: len(response.body()) for response in responses}
    network_size = sizes[f"{PHOTOGRAPHER}.in1k.onnx"]
    stated = " ".join(page.locator("#choice label").inner_text().split())
    assert stated == f"{PHOTOGRAPHER}.in1k float16, {network_size / 1e6:.1f} MB"
    runtime_size = sum(sizes[name] for name in trial.RUNTIME)
    assert f"their runtime ({runtime_size / 1e6:.1f} MB)" in page.locator(".lead").inner_text()


@pytest.mark.slow
@pytest.mark.may_skip
def test_what_a_photographs_answer_rests_on_is_what_look_finds(page: Any, photographic: str) -> None:
    """In both, 64 windows of 28 pixels; in float16 and with a gray of 8 bits, the falls are nearly the same."""
    page.goto(f"{photographic}try.html")
    page.locator("#controls").wait_for()
    photo = ROOT / "examples" / "coffee.jpg"
    falls = page.evaluate(REASONS, [base64.b64encode(photo.read_bytes()).decode(), f"{PHOTOGRAPHER}.in1k"])
    theirs = zoo.look.attribute(PHOTOGRAPHER, photo, "occlusion", window=28, stride=28).scores[0]
    ours = torch.tensor(falls).view(224, 224)
    assert (ours - theirs).abs().max() < 0.05 * theirs.abs().max()
    try_file(page, photo)
    page.get_by_label("Show what the answer rests on").check()
    canvas = page.get_by_role("img", name="What “espresso” rests on")
    canvas.wait_for(timeout=120_000)
    colors = canvas.evaluate("(one) => [...one.getContext('2d').getImageData(0, 0, 224, 224).data]")
    red = torch.tensor(colors).view(224, 224, 4)[14::28, 14::28]
    most = theirs[14::28, 14::28].flatten().argmax()
    assert (red[..., 0] - red[..., 1]).flatten().argmax() == most


@pytest.mark.slow
@pytest.mark.may_skip
@pytest.mark.parametrize("name", ["cat.jpg", "coffee.jpg", "flower.jpg"])
def test_where_the_page_says_a_network_looked_is_looks_grad_cam(page: Any, photographic: str, name: str) -> None:
    """The page has Grad-CAM of the pooled maps but for a constant factor, and in float16."""
    page.goto(f"{photographic}try.html")
    page.locator("#controls").wait_for()
    photo = ROOT / "examples" / name
    places = page.evaluate(PLACES, [base64.b64encode(photo.read_bytes()).decode(), f"{PHOTOGRAPHER}.in1k"])
    [theirs] = zoo.look.attribute(PHOTOGRAPHER, photo, "grad_cam", layer="act2").heat()
    ours = torch.tensor(places).view(224, 224)
    assert (ours / ours.max() - theirs / theirs.max()).abs().max() < 0.05
    assert torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1] > 0.999


@pytest.mark.slow
@pytest.mark.may_skip
def test_only_networks_that_end_in_one_linear_layer_say_where_they_looked(page: Any, real: Path) -> None:
    """alexnet_small has three. For the others, the last default layer is what is pooled, as for zoo look."""
    (image,) = photographs(1)
    with browser.served(real) as address:
        page.set_default_timeout(120_000)  # real networks, on a busy machine
        page.goto(f"{address}try.html?network=alexnet_small.c10")
        page.locator("#controls").wait_for()
        assert not page.get_by_label("Show where it looked").is_visible()
        assert not page.get_by_text("Zhou et al. 2016").is_visible()
        for name in ("resnet20.c10", "googlenet_small.c10"):
            places = page.evaluate(PLACES, [base64.b64encode(image).decode(), name])
            [theirs] = zoo.look.attribute(name, read_image(image, "image", 3)).heat()
            ours = torch.tensor(places).view(32, 32)
            assert (ours / ours.max() - theirs / theirs.max()).abs().max() < 1e-4, name
        page.get_by_label("resnet20.c10").check()
        assert page.get_by_text("Zhou et al. 2016").is_visible()
        try_file(page, {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": image})
        page.get_by_label("Show where it looked").check()
        page.locator("#results[aria-busy=false]").wait_for()
        marked = page.locator("[data-network='resnet20.c10'] .sight figcaption")
        assert "Where it looked for" in marked.last.inner_text()
        assert page.locator("[data-network='alexnet_small.c10'] .sight").count() == 1


def test_the_files_of_feature_maps_hold_the_first_layers(with_trial: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    (network,) = json.loads((with_trial / "try" / "models.json").read_bytes())
    assert network["maps"]["layers"] == ["act1", "layer1"]
    session = onnxruntime.InferenceSession(with_trial / "try" / network["maps"]["file"])
    model = zoo.create(NETWORK).eval()
    pixels = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ours = session.run(network["maps"]["layers"], {"images": pixels.numpy()})
    mean, std = (
        torch.tensor(part)[:, None, None] for part in (network["preprocess"]["mean"], network["preprocess"]["std"])
    )
    with captured(model, ["act1", "layer1"]) as theirs, torch.no_grad():
        model((pixels / 255 - mean) / std)
    for layer, maps in zip(("act1", "layer1"), ours, strict=True):
        assert np.abs(maps - theirs[layer].numpy()).max() < 1e-4


@pytest.mark.may_skip
def test_the_answer_follows_as_the_image_is_turned_and_shifted(page: Any, trial_address: str) -> None:
    page.goto(f"{trial_address}try.html")
    assert page.locator("#moves").is_hidden(), "without an image there is nothing to move"
    try_file(page, DIGIT)

    def pixels() -> torch.Tensor:
        return torch.tensor(given(page)["data"]).view(8, 8)

    def wait_for_other(before: torch.Tensor) -> torch.Tensor:
        page.locator("#results[aria-busy=false]").wait_for()
        while pixels().equal(before):
            page.wait_for_timeout(20)
        return pixels()

    upright = pixels()
    page.get_by_label("Turn").press("End")
    assert page.get_by_label("Turn").get_attribute("aria-valuetext") == "180°"
    turned = wait_for_other(upright)
    assert (turned - upright.flip(0, 1)).abs().max() <= 1
    best = str(int(turned.flatten()[:60:6].argmax()))
    page.wait_for_function("(best) => document.querySelector('#results tbody th').textContent === best", arg=best)
    page.get_by_role("button", name="Put it back").click()
    assert wait_for_other(turned).equal(upright)
    page.get_by_label("Shift right").press("End")
    shifted = wait_for_other(upright)
    assert shifted[:, :4].max() <= 1, "black where the image was"
    assert (shifted[:, 5:] - upright[:, 1:4]).abs().max() <= 2


@pytest.mark.may_skip
def test_feature_maps_are_drawn_on_request(page: Any, trial_address: str) -> None:
    page.goto(f"{trial_address}try.html")
    try_file(page, DIGIT)
    assert page.locator(".maps").count() == 0
    page.get_by_label("Show feature maps").check()
    canvas = page.get_by_role("img", name="The 2 maps of act1")
    canvas.wait_for()
    data = canvas.evaluate("(one) => one.toDataURL()").partition(",")[2]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))
    assert shown.shape == (4, 9, 4)
    gray = np.floor(255 * np.arange(32).reshape(2, 4, 4) / 31)
    assert np.abs(shown[:, :4, 0] - gray[0]).max() <= 1
    assert np.abs(shown[:, 5:, 0] - gray[1]).max() <= 1
    assert shown[:, 4, 3].max() == 0, "a gap between the maps"


@pytest.mark.may_skip
def test_a_file_that_was_chosen_while_the_page_loads_is_classified(page: Any, trial_address: str) -> None:
    page.route("**/models.json", lambda route: (page.wait_for_timeout(500), route.continue_()))
    page.goto(f"{trial_address}try.html", wait_until="commit")
    page.get_by_label("Image file").set_input_files(DIGIT)
    page.locator("#results table").wait_for(timeout=15_000)


@pytest.mark.may_skip
def test_a_chosen_file_is_classified_by_the_chosen_networks(page: Any, trial_address: str) -> None:
    page.goto(f"{trial_address}try.html")
    try_file(page, DIGIT)
    taken_by_network = given(page)
    preprocess = zoo.create(NETWORK).zoo_info.preprocess
    assert taken_by_network["type"] == "uint8"
    assert taken_by_network["dims"] == [1, *preprocess.input_size]
    pixels = expected(DIGIT.read_bytes(), preprocess)
    assert taken_by_network["data"] == pixels.flatten().tolist()
    logits = pixels.flatten()[:60:6].tolist()
    best = sorted(range(10), key=lambda number: -logits[number])[:5]
    assert page.locator("#results tbody th").all_inner_texts() == [str(number) for number in best]
    assert page.get_by_role("status").inner_text() == "Classified by 1 of 1 networks."


@pytest.mark.may_skip
def test_a_drawn_digit_is_classified_and_can_be_cleared(page: Any, trial_address: str) -> None:
    page.goto(f"{trial_address}try.html")
    pad = page.locator("#pad")
    pad.wait_for()
    frame = pad.bounding_box()
    page.mouse.move(frame["x"] + 140, frame["y"] + 40)
    page.mouse.down()
    page.mouse.move(frame["x"] + 140, frame["y"] + 240, steps=5)
    page.mouse.up()
    page.locator("#results table").wait_for()
    data = np.array(given(page)["data"]).reshape(8, 8)
    assert data[1:7, 3:5].min() > 50, "a vertical stroke in the middle"
    assert data[:, [0, 1, 6, 7]].max() == 0
    page.get_by_role("button", name="Clear the pad").click()
    drawn = """[...document.getElementById("pad").getContext("2d").getImageData(0, 0, 280, 280).data]
        .some((value, number) => number % 4 !== 3 && value !== 0)"""
    assert not page.evaluate(drawn)
    assert page.locator("#results").inner_text() == ""


@pytest.mark.may_skip
def test_an_example_is_classified_at_a_click_and_says_what_it_shows(page: Any, trial_address: str) -> None:
    """The examples are those of the network's own data: the first image of each class of the test split."""
    page.goto(f"{trial_address}try.html")
    images = zoo.data.load("digits", "test")
    page.locator("#controls").wait_for()
    names = [picture.get_attribute("alt") for picture in page.locator(".example img").all()]
    assert names[:10] == [str(digit) for digit in range(10)]
    page.locator(".example").nth(7).click()
    page.locator("#results table").wait_for()
    first = images.labels.tolist().index(7)
    assert given(page)["data"] == images.pixels[first].flatten().tolist()
    assert "an example of “7”" in page.locator("#preview figcaption").inner_text()


@pytest.mark.may_skip
def test_the_page_states_what_a_network_knows_beside_its_answer_and_what_it_was_trained_on(
    page: Any, trial_address: str
) -> None:
    page.goto(f"{trial_address}try.html")
    page.locator("#controls").wait_for()
    about = page.locator("#about").inner_text()
    assert "Trained on scikit-learn's digits, 1,437 images." in about
    assert "Its classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in about
    page.get_by_role("button", name="a photograph of a flower").click()
    page.locator("#results table").wait_for()
    assert "This network knows the ten digits of scikit-learn's digits only" in page.locator("#results").inner_text()


CHANGED = """(text) => {
  const [input] = document.querySelectorAll("input[type=file]");
  const files = new DataTransfer();
  files.items.add(new File([text], "image.png"));
  input.files = files.files;
  input.dispatchEvent(new Event("change"));
  return document.getElementById("results").childElementCount;
}"""


@pytest.mark.may_skip
def test_the_old_answer_is_gone_as_soon_as_another_image_is_chosen(page: Any, trial_address: str) -> None:
    page.goto(f"{trial_address}try.html")
    try_file(page, DIGIT)
    assert page.evaluate(CHANGED, "no image") == 0
    page.get_by_text("This file is not an image that the browser can read.").wait_for()
    assert page.locator("#results table, #preview:visible, #moves:visible").count() == 0
    try_file(page, DIGIT)
    assert page.evaluate("document.querySelector('.example').click(), document.querySelector('#results table')") is None
    page.locator("#results table").wait_for()
    page.get_by_role("button", name="Remove the image").click()
    assert page.locator("#results table, #preview:visible, #moves:visible").count() == 0


@pytest.mark.may_skip
def test_the_same_file_is_classified_again(page: Any, trial_address: str) -> None:
    """A browser reports no change if the name in the field is the one before."""
    page.goto(f"{trial_address}try.html")
    for _ in range(2):
        try_file(page, DIGIT)
        assert page.get_by_label("Image file").input_value() == ""
        page.get_by_role("button", name="Remove the image").click()


@pytest.mark.may_skip
def test_the_page_itself_decodes_and_computes_nothing(page: Any, trial_address: str) -> None:
    """It would not answer meanwhile: a photograph of 20 megapixels takes seconds."""
    page.add_init_script(
        """createImageBitmap = () => Promise.reject(new Error("on the page"));
        OffscreenCanvas.prototype.getContext = () => { throw new Error("on the page"); };"""
    )
    page.goto(f"{trial_address}try.html")
    photograph = written(noise("RGB", (64, 48)).resize((5184, 3888)), "JPEG", quality=50)
    try_file(page, {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": photograph})
    assert "5184 \N{MULTIPLICATION SIGN} 3888 pixels" in page.locator("#preview figcaption").inner_text()
    upright = given(page)["data"]
    page.get_by_label("Turn").press("End")
    while given(page)["data"] == upright:
        page.wait_for_timeout(50)
    assert page.evaluate("window.given") is None


@pytest.mark.may_skip
def test_a_picture_of_the_camera_is_classified(page: Any, trial_address: str) -> None:
    page.goto(f"{trial_address}try.html")
    page.get_by_role("button", name="Use the camera").click()
    page.wait_for_function("() => document.getElementById('view').videoWidth > 0")
    page.get_by_role("button", name="Take the picture").click()
    page.locator("#results table").wait_for()
    assert any(given(page)["data"])
    page.get_by_role("button", name="Close the camera").click()
    assert page.evaluate("document.getElementById('view').srcObject") is None


@pytest.mark.may_skip
def test_without_the_camera_the_page_says_so(chromium: Any, trial_address: str) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.add_init_script("navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error('none is there'))")
    page.goto(f"{trial_address}try.html")
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_text("The camera cannot be used: none is there").wait_for()
    context.close()


@pytest.mark.may_skip
def test_what_the_answer_rests_on_is_red(page: Any, trial_address: str) -> None:
    """The stand-in's largest logit depends on one pixel: covering any other costs nothing."""
    page.goto(f"{trial_address}try.html")
    try_file(page, DIGIT)
    best = int(torch.tensor(given(page)["data"])[:60:6].argmax())
    page.get_by_label("Show what the answer rests on").check()
    canvas = page.get_by_role("img", name=f"What “{best}” rests on")
    canvas.wait_for()
    colors = np.array(canvas.evaluate("(one) => [...one.getContext('2d').getImageData(0, 0, 8, 8).data]")).reshape(
        64, 4
    )
    is_red = colors[:, 0] != colors[:, 1]
    assert is_red.nonzero()[0].tolist() == [6 * best]
    assert colors[6 * best].tolist() == [255, 0, 0, 255]


@pytest.mark.may_skip
def test_where_the_network_looked_is_red(page: Any, trial_address: str) -> None:
    """The stand-in's map is -1, 0 above 1, 2: enlarged as torch does, and what is negative is not red."""
    page.goto(f"{trial_address}try.html")
    try_file(page, DIGIT)
    assert page.locator(".sight").count() == 1
    page.get_by_label("Show where it looked").check()
    best = int(torch.tensor(given(page)["data"])[:60:6].argmax())
    canvas = page.get_by_role("img", name=f"Where it looked for “{best}”")
    canvas.wait_for()
    colors = canvas.evaluate("(one) => [...one.getContext('2d').getImageData(0, 0, 8, 8).data]")
    red, green = torch.tensor(colors).view(8, 8, 4)[..., :2].unbind(-1)
    heat = torch.nn.functional.interpolate(torch.tensor([[[[0.0, 0], [1, 2]]]]), (8, 8), mode="bilinear")[0, 0] / 2
    assert (red - green - 255 * heat).abs().max() <= 1


@pytest.mark.may_skip
def test_the_address_says_which_networks_are_chosen(page: Any, trial_address: str) -> None:
    page.goto(f"{trial_address}models/resnet20.html")
    page.get_by_role("link", name="Try it").last.click()
    page.wait_for_url(f"**/try.html?network={NETWORK}")
    box = page.get_by_label(NETWORK)
    assert box.is_checked()
    box.uncheck()
    assert page.url.endswith("/try.html")
    assert "Choose a network." not in page.get_by_role("status").inner_text(), "there is no image yet"


@pytest.mark.may_skip
def test_a_network_that_could_not_be_loaded_is_asked_for_again(page: Any, trial_address: str) -> None:
    page.route("**/*.onnx", lambda route: route.abort())
    page.goto(f"{trial_address}try.html")
    page.get_by_label("Image file").set_input_files(DIGIT)
    page.get_by_text("The network could not be run").wait_for()
    page.unroute("**/*.onnx")
    try_file(page, DIGIT)


@pytest.mark.may_skip
def test_a_file_that_is_no_image_is_reported(page: Any, trial_address: str, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    page.goto(f"{trial_address}try.html")
    page.get_by_label("Image file").set_input_files(tmp_path / "text.png")
    page.get_by_text("This file is not an image that the browser can read.").wait_for()


@pytest.mark.may_skip
def test_the_page_asks_nobody_else_and_axe_finds_no_violation(chromium: Any, trial_address: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    for scheme in ("light", "dark"):
        context = chromium.new_context(color_scheme=scheme, bypass_csp=True)
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto(f"{trial_address}try.html")
        try_file(page, DIGIT)
        page.get_by_label("Show feature maps").check()
        page.get_by_label("Show where it looked").check()
        page.locator(".maps canvas").wait_for()
        page.get_by_role("img", name="Where it looked for").wait_for()
        violations = axe.Axe().run(page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in violations] == []
        assert [url for url in asked if not url.startswith(trial_address)] == []
        context.close()


# ---- as files -------------------------------------------------------------------------------------------


def test_only_this_page_may_compile_webassembly(with_trial: Path) -> None:
    for file, page in small_site.pages(with_trial).items():
        (policy,) = (
            given["content"] for _, given in page.elements if given.get("http-equiv") == "Content-Security-Policy"
        )
        assert ("wasm-unsafe-eval" in (policy or "")) == (file.name == "try.html"), file
        assert "try.html" in {link.rpartition("/")[2] for link in page.links}, file


def test_networks_are_exported_once_and_described(with_trial: Path, runtime: Path) -> None:
    (network,) = json.loads((with_trial / "try" / "models.json").read_bytes())
    assert network["name"] == NETWORK
    assert network["classes"] == [str(digit) for digit in range(10)]
    file = with_trial / "try" / network["file"]
    assert (network["precision"], network["size"]) == ("float32", file.stat().st_size)
    before = file.stat().st_mtime_ns
    assert gallery.build(with_trial, ["resnet20"], tried=[NETWORK], runtime=runtime).written == 0
    assert file.stat().st_mtime_ns == before


def test_a_models_page_leads_to_its_network_at_the_top(with_trial: Path, site: Path) -> None:
    text = (with_trial / "models" / "resnet20.html").read_text(encoding="utf-8")
    link = f"../try.html?network={NETWORK}"
    assert link in small_site.Page(with_trial / "models" / "resnet20.html").links
    assert text.index(link) < text.index("<h2")
    assert "try.html" not in (site / "models" / "resnet20.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_pattern_means_what_is_part_of_a_package_and_can_be_exported(runtime: Path, tmp_path: Path) -> None:
    """hog_svm computes outside torch, which docs/export.json records as no export."""
    for module in ("jinja2", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason=f"needs {module}")
    assert "error" in json.loads((ROOT / "docs" / "export.json").read_bytes())["float32"]["hog_svm.c10"]
    words = ["gallery", "build", "resnet20", "hog_svm", "--runtime", runtime, "-o", tmp_path / "site"]

    def tried() -> list[str]:
        networks = json.loads((tmp_path / "site" / "try" / "models.json").read_bytes())
        assert {file.name for file in (tmp_path / "site" / "try").glob("*.onnx")} == {
            name for network in networks for name in (network["file"], network["maps"]["file"])
        }
        return [network["name"] for network in networks]

    for _ in range(2):
        done = ask_warm(*words, "--try", "resnet20.digits*", "--try", "hog*")
        assert done.exit_code == 0, done.stderr
        assert tried() == ["resnet20.digits", "resnet20.digits_robust"]
    done = ask_warm(*words, "--try", "resnet20.digits")
    assert (done.exit_code, tried()) == (0, ["resnet20.digits"])
    done = ask_warm(*words, "--try", "vgg*")
    assert done.exit_code == 2
    assert "No weights match 'vgg*'" in done.stderr


@pytest.mark.slow
def test_a_network_in_int8_replaces_the_larger_file(with_trial: Path, runtime: Path, tmp_path: Path) -> None:
    shutil.copytree(with_trial, tmp_path / "site")
    words = ["--try", NETWORK, "--try-precision", "int8", "--try-calibrate", "digits", "--runtime", runtime]
    done = ask_warm("gallery", "build", "resnet20", *words, "-o", tmp_path / "site")
    assert done.exit_code == 0, done.stderr
    full, small = (json.loads((at / "try" / "models.json").read_bytes())[0] for at in (with_trial, tmp_path / "site"))
    assert small["precision"] == "int8"
    assert small["size"] < 0.5 * full["size"]
    assert small["size"] == (tmp_path / "site" / "try" / small["file"]).stat().st_size


def test_the_licence_of_the_runtime_stands_beside_it(with_trial: Path) -> None:
    text = (with_trial / "assets" / "runtime" / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License")
    assert "Copyright (c) Microsoft Corporation" in text
    page = small_site.Page(with_trial / "try.html")
    assert "assets/runtime/LICENSE" in page.links


def test_a_later_build_without_networks_removes_the_page(with_trial: Path, tmp_path: Path) -> None:
    shutil.copytree(with_trial, tmp_path / "site")
    gallery.build(tmp_path / "site", ["resnet20"])
    assert not (tmp_path / "site" / "try.html").exists()
    assert not (tmp_path / "site" / "try").exists()
    assert "try.html" not in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_networks_need_a_runtime_and_a_runtime_its_files(runtime: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="without a runtime"):
        gallery.build(tmp_path / "site", ["zfnet"], tried=[NETWORK])
    with pytest.raises(SpecError, match="without networks"):
        gallery.build(tmp_path / "site", ["zfnet"], runtime=runtime)
    words = ["gallery", "build", "zfnet", "-o", str(tmp_path / "site"), "--try", NETWORK, "--runtime", str(tmp_path)]
    done = ask_warm(*words)
    assert done.exit_code == 1
    assert "--runtime expects the folder dist of the npm package onnxruntime-web" in done.stderr
    with pytest.raises(DataError, match=r"has no ort"):
        gallery.build(tmp_path / "site", ["zfnet"], tried=[NETWORK], runtime=tmp_path)
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(("name", "count"), [("dtp_mlp.mnist", "60,000"), ("dtp_mlp.mnist_50k", "50,000")])
def test_the_page_states_the_training_images_of_the_protocol(name: str, count: str) -> None:
    [entry] = [entry for entry in registry.current().models() if entry.name == "dtp_mlp"]
    [page] = facts.pages([entry])
    [trained] = [trained for trained in page.trained if trained.name == name]
    words = trial._training("mnist", entry.model.preprocess, Row(page, trained))
    assert words.startswith(f"Trained on MNIST, {count} images.")
