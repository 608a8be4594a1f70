"""The ten tasks of the first hour run, and docs/first_hour.md counts what they take."""

import ast
import os
import re
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "first_hour.sh"
TIMM = ROOT / "examples" / "first_hour_timm.py"
LOOP = ROOT / "examples" / "first_hour_loop.py"
TASKS = ["choose", "predict", "photographs", "tune", "resume", "probe", "export_", "loop", "look", "publish"]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs sh")


def run(folder: Path, *tasks: str) -> str:
    """Returns what the script prints for ``tasks``, with weights that ship."""
    pytest.importorskip("matplotlib")
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("ZOO_CACHE", "ZOO_HUB"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "NETWORK": "resnet20.c10", "WORK": str(folder), "OMP_NUM_THREADS": "1", "ZOO_OFFLINE": "1"}
    done = subprocess.run(["sh", str(SCRIPT), *tasks], env=outer | own, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_photograph_is_classified_and_looked_into(tmp_path: Path) -> None:
    printed = run(tmp_path, "predict", "look")
    assert "coffee.jpg" in printed
    assert (tmp_path / "coffee.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_ten_tasks_run_from_an_empty_folder(tmp_path: Path) -> None:
    for module in ("onnxscript", "twine"):
        pytest.importorskip(module)
    if util.find_spec("pypiserver") is None:  # not imported: it changes how this process imports
        pytest.skip("needs pypiserver")
    printed = run(tmp_path)
    assert [line.removeprefix("# ") for line in printed.splitlines() if line.startswith("# ")] == TASKS
    assert len(re.findall(r"^\$ ", printed, re.MULTILINE)) == sum(int(row[1].split()[0]) for row in rows())
    assert (tmp_path / "runs/photos/test/mistakes.csv").is_file()
    assert (tmp_path / "runs/digits/log.jsonl").read_text().count("\n") == 3, "each epoch once, as if not interrupted"
    assert "the same count on the same images" in printed
    assert "in 2 processes" in printed
    [wheel] = (tmp_path / "index").iterdir()
    assert wheel.name == "zoo_weights_resnet20_photos-1.0-py3-none-any.whl"
    [weights] = (tmp_path / "elsewhere").rglob("zoo_weights_resnet20_photos/model.safetensors")
    assert weights.read_bytes() == (tmp_path / "runs/photos/model.safetensors").read_bytes()
    answers = printed.rpartition("$ python -m zoo predict resnet20.photos ")[2]
    assert answers.count("photos/test/") == 3 * 6, "each image of another environment's weights"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_timms_code_runs(tmp_path: Path) -> None:
    """Runs with the weights that a small network of timm is initialised with: the hub is out of reach."""
    import safetensors.torch
    import timm

    safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.safetensors")
    environment = os.environ | {"NETWORK": "test_resnet", "WEIGHTS": str(tmp_path / "weights.safetensors")}
    for words in (
        [str(ROOT / "examples/first_hour_photos.py")],
        [str(TIMM), *(task for task in TASKS if task != "loop")],
    ):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "timm.onnx").is_file()


def rows() -> list[list[str]]:
    page = (ROOT / "docs" / "first_hour.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    return [[cells[0].split("`")[1], *cells[1:]] for cells in lines]


def functions(file: Path) -> dict[str, int]:
    """Returns the number of statements in each function, docstrings left out, and of the imports at the top, ``""``."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    counts = {"": sum(isinstance(row, ast.Import | ast.ImportFrom) for row in tree.body)}
    for function in tree.body:
        if isinstance(function, ast.FunctionDef):
            statements = [row for row in ast.walk(function) if isinstance(row, ast.stmt) and row is not function]
            counts[function.name] = len(statements) - (ast.get_docstring(function) is not None)
    return counts


def test_the_page_counts_the_commands_and_statements_of_the_scripts() -> None:
    commands = {
        name: len(re.findall(r"^ +run ", body, re.MULTILINE))
        for name, body in re.findall(
            r"^(\w+)\(\) \{(.*?)^\}", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
    }
    statements = functions(TIMM)
    statements |= {"photographs": statements["fit"], "tune": statements["fit"]}
    loop = f"1 + {functions(LOOP)['main'] + functions(LOOP)['']}"
    assert [row[0] for row in rows()] == TASKS
    for name, ours, theirs, _ in rows():
        assert ours == (loop if name == "loop" else str(commands[name])), name
        assert theirs == (loop if name == "loop" else str(statements[name])), name
