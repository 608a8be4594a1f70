"""What is printed steers no terminal, and JSON says all the same what there is."""

import ast
import json
import os
import socket
import sys
import threading
import unicodedata
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from support.distributions import run

import zoo
from zoo import registry
from zoo.cli import cli, output
from zoo.errors import ZooError
from zoo.loading import safetensors_file

ROOT = Path(__file__).parents[2]
HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202eevil\u2066"
SHOWN = r"\x1b]0;title\x07\x1b[2J\x9b31m\u202eevil\u2066"


def is_unsafe(character: str) -> bool:
    """Checks by Unicode's own tables: controls, surrogates, and what sets the direction of text."""
    is_control = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in "\n\t"
    directions = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return is_control or unicodedata.bidirectional(character) in directions or character in "\u200e\u200f\u061c"


def assert_harmless(text: str) -> None:
    assert [*filter(is_unsafe, text)] == []


def ask(*words: object) -> str:
    registry.clear()
    answer = CliRunner().invoke(cli, [str(word) for word in words])
    assert_harmless(answer.output)
    return answer.output


def test_every_character_that_unicode_calls_a_control_or_a_direction_is_escaped_and_no_other() -> None:
    for number in range(sys.maxunicode + 1):
        assert (output.escaped(chr(number)) != chr(number)) == is_unsafe(chr(number)), hex(number)


def test_json_holds_every_character_and_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    every = "".join(map(chr, range(0x3000))) + "\udcff\U0001f600"
    value = {"text": every, "key " + HOSTILE: [1.5, None, Path("/x"), float("nan")]}
    output.print_json(value)
    printed = capsys.readouterr().out
    assert_harmless(printed)
    assert json.loads(printed) == {"text": every, "key " + HOSTILE: [1.5, None, "/x", None]}


@pytest.mark.skipif(os.name != "posix", reason="needs paths that are bytes")
def test_a_path_that_is_not_utf8_is_in_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9")
    path.touch()
    output.print_json({"file": path})
    assert Path(json.loads(capsys.readouterr().out)["file"]).exists()


def test_cells_and_facts_stay_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(["name"], [["a\nfake row"]])
    output.print_facts([("name", "b\nfake fact")])
    assert capsys.readouterr().out.splitlines() == ["name", r"a\nfake row", r"  name  b\nfake fact"]


def test_class_names_are_escaped(tmp_path: Path) -> None:
    file, names = tmp_path / "mine.safetensors", [HOSTILE, *map(str, range(9))]
    model = zoo.create("resnet20")
    torch.nn.init.zeros_(model.fc.weight)
    about = {"model": "resnet20", "classes": "x", "class_names": names, "num_classes": 10, "in_chans": 3}
    safetensors_file.write(model.state_dict(), file, about)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    printed = ask("predict", "resnet20", "--weights", file, tmp_path / "a.png", "--top", "10")
    assert SHOWN in printed
    shown = json.loads(ask("predict", "resnet20", "--weights", file, tmp_path / "a.png", "--top", "10", "--json"))
    assert HOSTILE in {row["class"] for row in shown["predictions"][0]["classes"]}


def test_tensor_names_in_errors_are_escaped(tmp_path: Path) -> None:
    safetensors_file.write({HOSTILE: torch.zeros(1)}, tmp_path / "a.safetensors", {"model": "resnet20"})
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    for debug in ([], ["--debug"]):
        assert SHOWN in ask(*debug, "predict", "resnet20", "--weights", tmp_path / "a.safetensors", tmp_path / "a.png")


def test_a_servers_words_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve() -> None:
        with server.accept()[0] as connection:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 404 \x1b]0;title\x07\x1b[2J\x9b31m\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert r"returned 404 \x1b]0;title\x07\x1b[2J\x9b31m" in ask("fetch", "resnet20.c10", "--source", address)


def test_the_log_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = json.dumps(HOSTILE).replace("\x9b", "\\u009b")
    (tmp_path / "manifest.toml").write_text(f'[resnet20.mine]\nfile = "x"\npinned = false\n{key} = 1\n')
    said = run("list", "resnet20", site=tmp_path / "site", ZOO_HUB=str(tmp_path)).stderr
    assert "is skipped" in said
    assert SHOWN in said
    assert_harmless(said)


def test_nothing_is_printed_past_the_one_place_that_escapes() -> None:
    for file in sorted((ROOT / "zoo" / "cli").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            is_past = called in ("print", "click.secho") or (called == "click.echo" and file.name != "output.py")
            assert not is_past, f"{file}:{node.lineno}: {called}: use zoo.cli.output.echo"


def test_an_error_shows_its_hint_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    output.complain(ZooError(f"what {HOSTILE}", hint=f"do {HOSTILE}"), about="name")
    assert capsys.readouterr().err == f"error: name: what {SHOWN}\nhint: do {SHOWN}\n"
