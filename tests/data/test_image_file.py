"""Image files as a browser shows them: turned by their EXIF, laid on white, the upper 8 bits of 16."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import zoo
from zoo.data import ImageSet, Transform, load
from zoo.data.image_file import read_image, to_channels
from zoo.data.preprocess import training_transform
from zoo.errors import DataError
from zoo.spec import Preprocess

ORIENTATION = 0x0112
SUFFIXES = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF"}


def _photograph(size: tuple[int, int] = (40, 24), seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (3, 5, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def _directory(*entries: tuple[int, int, int, int], order: str = ">", stated: int | None = None) -> bytes:
    """Returns an EXIF of one directory: a tag, a type, a count and 16 bits of value for each entry."""
    packed = b"".join(struct.pack(order + "HHIHH", *entry, 0) for entry in entries)
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "I", 8)
    count = struct.pack(order + "H", len(entries) if stated is None else stated)
    return b"Exif\0\0" + head + count + packed + bytes(4)


def _encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def _upright(file: Path) -> Image.Image:
    """Returns a photograph turned by Pillow, which turns a TIFF when it decodes it."""
    with Image.open(file) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


@pytest.fixture
def preprocess() -> Preprocess:
    return Preprocess(input_size=(3, 16, 16))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_their_exif_says(
    tmp_path: Path, preprocess: Preprocess, suffix: str, orientation: int
) -> None:
    file = tmp_path / f"photo.{suffix}"
    file.write_bytes(_encoded(_photograph(), SUFFIXES[suffix], exif=_exif(orientation)))
    expected = _upright(file)
    assert expected.size == ((24, 40) if orientation > 4 else (40, 24))
    assert np.array_equal(_pixels(read_image(file, "photo", 3)), _pixels(expected))
    transform = Transform(preprocess)
    with Image.open(file) as opened:
        assert torch.equal(transform(opened), transform(expected)), "opened by Pillow"
        opened.load()
        assert torch.equal(transform(opened), transform(expected)), "and decoded"
    assert torch.equal(zoo.transforms("resnet20.c10")(file), zoo.transforms("resnet20.c10")(expected))


@pytest.mark.parametrize("orientation", [3, 6])
def test_what_was_turned_is_not_turned_again(preprocess: Preprocess, orientation: int) -> None:
    encoded = _encoded(_photograph(), exif=_exif(orientation))
    once = read_image(encoded, "photo", 3)
    transform = Transform(preprocess)
    expected = transform(Image.fromarray(_pixels(once)))
    assert torch.equal(transform(once), expected)
    assert torch.equal(transform(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))), expected)


def test_a_users_picture_stays_as_it_is(preprocess: Preprocess) -> None:
    picture = Image.open(io.BytesIO(_encoded(_photograph(), exif=_exif(6))))
    Transform(preprocess)(picture)
    assert (picture.size, picture.getexif()[ORIENTATION]) == ((40, 24), 6)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_orders_of_bytes_are_read_and_other_tags_passed_over(order: str) -> None:
    exif = _directory((0x010E, 3, 1, 9), (ORIENTATION, 3, 1, 6), (0x0128, 3, 1, 2), order=order)
    assert read_image(_encoded(_photograph(), exif=exif), "photo", 3).size == (24, 40)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0MM\0",
        b"Exif\0\0MM\0*\0\0\0\xff",
        b"Exif\0\0XX\0*" + bytes(20),
        _directory((ORIENTATION, 3, 1, 0)),
        _directory((ORIENTATION, 3, 1, 9)),
        _directory((ORIENTATION, 3, 1, 65535)),
        _directory((ORIENTATION, 2, 1, 0x3600)),
        _directory((ORIENTATION, 4, 1, 6)),
        _directory((ORIENTATION, 3, 70_000, 6)),
        _directory((0x010E, 3, 1, 6), stated=65535),
        _directory((ORIENTATION, 3, 1, 6))[:20],
        _directory((ORIENTATION, 3, 1, 6)).replace(b"MM\0*\0\0\0\x08", b"MM\0*\xff\xff\xff\xff"),
    ],
    ids=[
        "empty", "short", "cut", "order", "0", "9", "large", "text", "long", "many", "entries", "truncated", "far",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_exif_that_says_nothing_valid_is_ignored(exif: bytes) -> None:
    for kind in ("JPEG", "WEBP", "PNG"):
        encoded = _encoded(_photograph(), kind, exif=exif)
        assert read_image(encoded, "photo", 3).size == (40, 24)


@given(st.binary(max_size=80), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_bytes_may_be_exif(content: bytes, has_head: bool) -> None:
    image = Image.new("RGB", (3, 2))
    image.info["exif"] = (b"Exif\0\0II*\0\x08\0\0\0" if has_head else b"") + content
    assert Transform(Preprocess(input_size=(3, 4, 4)))(image).shape == (3, 4, 4)


def test_exif_behind_a_pngs_pixels_is_ignored_as_browsers_do(tmp_path: Path) -> None:
    """Sizes are read from headers, so both must say the same."""
    encoded = _encoded(_photograph(), "PNG", exif=_exif(6))
    start = encoded.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(encoded[start : start + 4], "big")
    late = encoded[:start] + encoded[end:-12] + encoded[start:end] + encoded[-12:]
    assert Image.open(io.BytesIO(late)).getexif()[ORIENTATION] == 6, "Pillow reads on"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(late)
    assert load(tmp_path).pixels.shape == (1, 3, 24, 40)


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_a_set_of_one_size_once_turned_is_kept_in_memory(tmp_path: Path, kind: str) -> None:
    """Photographs of a telephone that was held upright in some of them."""
    lying = _encoded(_photograph((40, 24)), exif=_exif(6))
    standing = _encoded(_photograph((24, 40)), exif=_exif(1))
    if kind == "folder":
        (tmp_path / "train" / "a").mkdir(parents=True)
        for number, encoded in enumerate((lying, standing)):
            (tmp_path / "train" / "a" / f"{number}.jpg").write_bytes(encoded)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(
            pyarrow.table({"image": [lying, standing], "label": [0, 0]}), tmp_path / "train.parquet"
        )
    images = load(tmp_path)
    assert images.pixels is not None
    for index, encoded in enumerate((lying, standing)):
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
        assert np.array_equal(_pixels(images.image(index)), _pixels(expected))


def test_windows_are_of_the_upright_image(preprocess: Preprocess) -> None:
    picture = Image.open(io.BytesIO(_encoded(_photograph(), exif=_exif(6))))
    window = (2, 20, 22, 38)  # below the lying image
    expected = Transform(preprocess).pixels(ImageOps.exif_transpose(picture), window)
    assert torch.equal(Transform(preprocess).pixels(picture, window), expected)


def test_windows_are_drawn_for_the_upright_image() -> None:
    from zoo.data.augmentation import Augmentation, ResizedCrop
    from zoo.training.inputs import Portion, TrainTransform
    from zoo.training.recipe import Recipe

    lying = Image.open(io.BytesIO(_encoded(_photograph(), exif=_exif(6))))
    images = ImageSet("own", "train", ("a",), torch.tensor([0]), read=lambda index: lying, channels=3)
    recipe = Recipe(augment=Augmentation(resized_crop=ResizedCrop()))
    portion = Portion(1, 1, range(1))
    transform = TrainTransform(recipe, Preprocess(input_size=(3, 16, 16)), images, portion, torch.device("cpu"))
    for epoch in range(4):
        assert torch.equal(transform.cut(lying, epoch, 0), transform.cut(ImageOps.exif_transpose(lying), epoch, 0))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_training_sees_photographs_as_evaluation_does(tmp_path: Path, preprocess: Preprocess, suffix: str) -> None:
    pytest.importorskip("torchvision")
    file = tmp_path / f"photo.{suffix}"
    picture = _photograph()
    if suffix == "png":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture.save(file, exif=_exif(6))
    upright = ImageOps.exif_transpose(Image.open(file))
    if suffix == "png":
        upright = Image.fromarray(_over_white(_pixels(upright)))
    transform = training_transform(preprocess)
    for given_picture in (file, Image.open(file)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            expected = transform(upright)
            torch.manual_seed(0)
            assert torch.equal(transform(given_picture), expected)


def _transparent() -> Image.Image:
    """Returns an image of every opacity with every 15th level, in each of its colours another."""
    levels, opacities = np.meshgrid(np.arange(0, 256, 15, np.uint8), np.arange(256, dtype=np.uint8))
    return Image.fromarray(np.stack([levels, 255 - levels, levels // 2, opacities], axis=2))


def _over_white(pixels: np.ndarray) -> np.ndarray:
    """Composes by W3C Compositing and Blending, section 5.1: co = cs as + cb ab (1 - as), cb = ab = 1; rounded."""
    color, opacity = pixels[..., :-1] / 255, pixels[..., -1:] / 255
    return np.round(255 * (color * opacity + 1 - opacity)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparent_images_lie_on_white(kind: str) -> None:
    image = _transparent()
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    decoded = read_image(_encoded(image, kind, **options), "image", 3)
    assert np.array_equal(_pixels(decoded), _over_white(_pixels(image)))


def test_transparent_grey_lies_on_white() -> None:
    pixels = np.ascontiguousarray(_pixels(_transparent())[..., [0, 3]])
    encoded = _encoded(Image.fromarray(pixels, "LA"), "PNG")
    expected = _over_white(pixels)[..., 0]
    assert np.array_equal(_pixels(read_image(encoded, "image", 1)), expected)
    assert np.array_equal(_pixels(read_image(encoded, "image", 3)), np.stack([expected] * 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_transparent_colours_of_palettes_are_white(kind: str) -> None:
    palette = _photograph().quantize(8)
    expected = _pixels(palette.convert("RGB")).copy()
    expected[_pixels(palette) == 3] = 255
    decoded = read_image(_encoded(palette, kind, transparency=3), "image", 3)
    assert np.array_equal(_pixels(decoded), expected)


def test_palettes_with_opacities_lie_on_white() -> None:
    palette = _photograph().quantize(16)
    opacities = bytes(range(0, 256, 17))
    encoded = _encoded(palette, "PNG", transparency=opacities)
    indices, colors = _pixels(palette), _pixels(palette.convert("RGB"))
    pixels = np.concatenate([colors, np.frombuffer(opacities, np.uint8)[indices][..., None]], axis=2)
    assert np.array_equal(_pixels(read_image(encoded, "image", 3)), _over_white(pixels))


@pytest.mark.parametrize(("mode", "transparent"), [("L", 60), ("RGB", (60, 60, 60))])
def test_one_transparent_colour_is_white(mode: str, transparent: int | tuple[int, ...]) -> None:
    levels = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)
    pixels = levels if mode == "L" else np.stack([levels] * 3, axis=2)
    decoded = read_image(_encoded(Image.fromarray(pixels), "PNG", transparency=transparent), "image", 1)
    assert np.array_equal(_pixels(decoded), np.where(levels == 60, 255, levels))


@pytest.mark.parametrize(("bits", "step"), [(2, 85), (4, 17)])
def test_a_transparent_level_of_few_bits_is_white(bits: int, step: int) -> None:
    """PNG 1.2, section 4.2.1.1: the level is stored as the samples are, before they are scaled to 8 bits."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    levels = int("".join(f"{level:0{bits}b}" for level in range(1 << bits)), 2).to_bytes((bits << bits) // 8, "big")
    header = struct.pack(">IIBBBBB", 1 << bits, 1, bits, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"tRNS", b"\0\1"), (b"IDAT", zlib.compress(b"\0" + levels)), (b"IEND", b"")
    encoded = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)
    expected = [0, 255, *(step * level for level in range(2, 1 << bits))]
    assert _pixels(read_image(encoded, "image", 1)).tolist() == [expected]


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_comment_called_transparency_is_none(mode: str) -> None:
    from PIL.PngImagePlugin import PngInfo

    comments = PngInfo()
    comments.add_text("transparency", "glass")
    picture = _photograph().convert(mode)
    decoded = read_image(_encoded(picture, "PNG", pnginfo=comments), "image", 3)
    assert np.array_equal(_pixels(decoded), _pixels(picture.convert("RGB")))


def test_arrays_and_pictures_in_memory_lie_on_white_too(preprocess: Preprocess) -> None:
    image, transform = _transparent(), zoo.transforms("resnet20.c10")
    expected = transform(Image.fromarray(_over_white(_pixels(image))))
    assert torch.equal(transform(image), expected)
    assert torch.equal(transform(_pixels(image)), expected)
    assert torch.equal(transform(read_image(_encoded(image, "PNG"), "image", 3)), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_of_sixteen_bits_of_grey_the_upper_eight_are_taken(kind: str) -> None:
    values = np.arange(0, 65536, 13, dtype=np.uint16)[:5000].reshape(50, 100)
    encoded = _encoded(Image.fromarray(values), kind)
    assert np.array_equal(_pixels(read_image(encoded, "image", 1)), values // 256)
    assert np.array_equal(_pixels(read_image(encoded, "image", 3))[..., 2], values // 256)


def test_grey_of_sixteen_bits_may_have_a_transparent_value() -> None:
    values = np.array([[0x1234, 0x1235], [0x1134, 0xFFFF]], np.uint16)
    encoded = _encoded(Image.fromarray(values), "PNG", transparency=0x1234)
    assert _pixels(read_image(encoded, "image", 1)).tolist() == [[255, 0x12], [0x11, 255]]


def test_a_folder_of_grey_of_sixteen_bits_has_one_channel(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "a" / "1.png")
    assert load(tmp_path).pixels.tolist() == [[[[40_000 // 256] * 4] * 4]]


def test_a_photograph_without_exif_or_opacity_is_not_copied() -> None:
    image = _photograph()
    assert to_channels(image, 3) is image


def test_thirty_two_bits_a_channel_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mode F, 32 bits per channel"):
        read_image(_encoded(Image.new("F", (4, 4)), "TIFF"), "image", 1)
