"""Whole files of each format, from the libraries that write them; the same cut, and what servers send instead."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from support.pinned import safetensors_of

from zoo.hub import formats


def of_torch(**settings: bool) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save({"weight": torch.zeros(100)}, stream, **settings)
    return stream.getvalue()


def of_h5py(libver: str) -> bytes:
    h5py = pytest.importorskip("h5py")
    stream = io.BytesIO()
    with h5py.File(stream, "w", libver=libver) as file:
        file["weights"] = [0.0] * 100
    return stream.getvalue()


def of_onnx() -> bytes:
    """Returns a model of ONNX's protobuf: ir_version, producer_name, an empty graph of 300 bytes, an opset."""
    return b"\x08\x08\x12\x05torch" + b"\x3a\xac\x02" + bytes(300) + b"\x42\x04\x0a\x00\x10\x11"


WHOLE: dict[str, Callable[[], bytes]] = {
    "net.safetensors": lambda: safetensors_of(1000),
    "net.pth": of_torch,
    "net.pt": of_torch,
    "older.pth": lambda: of_torch(_use_new_zipfile_serialization=False),
    "net.h5": lambda: of_h5py("earliest"),
    "newer.h5": lambda: of_h5py("latest"),
    "net.onnx": of_onnx,
    "other.weights": lambda: b"anything",
    "config.json": lambda: b"{}",
}


def fault(tmp_path: Path, name: str, content: bytes, **settings: bool) -> str:
    (tmp_path / "file").write_bytes(content)
    return formats.fault(tmp_path / "file", name, **settings)


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_has_no_fault(name: str, tmp_path: Path) -> None:
    assert fault(tmp_path, name, WHOLE[name]()) == ""


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth", "net.h5", "newer.h5", "net.onnx"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_is_none(name: str, share: float, tmp_path: Path) -> None:
    content = WHOLE[name]()
    assert fault(tmp_path, name, content[: int(share * len(content))])


@pytest.mark.parametrize("name", ["older.pth", "other.weights"])
def test_where_neither_format_nor_source_states_the_end_the_file_may_be_cut(name: str, tmp_path: Path) -> None:
    assert "may be cut" in fault(tmp_path, name, WHOLE[name](), has_end=False)


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth", "net.h5", "net.onnx"])
def test_a_format_that_shows_its_end_needs_no_source_that_does(name: str, tmp_path: Path) -> None:
    assert fault(tmp_path, name, WHOLE[name](), has_end=False) == ""


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html>", b"\n <html>", b"\xef\xbb\xbf<HTML lang='en'>", b"<?xml version='1'?>"]
)
def test_a_web_page_is_never_weights(name: str, page: bytes, tmp_path: Path) -> None:
    assert fault(tmp_path, name, page + b"<p>Log in</p>") == "is a web page, not a file of weights"


@pytest.mark.parametrize(
    "name", ["net.safetensors", "net.pth", "net.th", "net.h5", "net.hdf5", "net.keras", "net.npz", "net.onnx"]
)
@pytest.mark.parametrize("content", [b"", b'{"error": "not found"}', b"Not found\n", bytes(1000)])
def test_other_bytes_are_no_file_of_a_known_format(name: str, content: bytes, tmp_path: Path) -> None:
    assert fault(tmp_path, name, content)


def test_tensors_that_end_elsewhere_than_the_file_are_a_fault(tmp_path: Path) -> None:
    assert fault(tmp_path, "net.safetensors", safetensors_of(1000) + b"x") == (
        "is no whole safetensors file: 1,001 bytes of 1,000"
    )
