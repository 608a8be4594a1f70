"""The house: who may import whom, where torch may be, what the core must not know."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from support import visited

import zoo
from zoo import errors, registry
from zoo.cli import cli
from zoo.registry import extensions

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
STUBS = sorted(file for file in (ROOT / "zoo").rglob("*.pyi") if file.with_suffix(".py").exists())
CORE = sorted([*(ROOT / "zoo").rglob("*.py"), *STUBS])
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))

LAYERS = (
    "errors",
    "statistics",
    "system",
    "names",
    "spec",
    "manifest",
    "registry",
    "hub",
    "trust",
    "modules",
    "data",
    "loading",
    "evaluation",
    "results",
    "verify",
    "training",
    "scaffold",
    "testing",
    "cli",
    "__main__",
)
"""Lowest first; a file imports only what stands before its own module or package, or lies within it."""

WITH_TORCH = {"data", "loading", "evaluation", "verify"}
WITH_TORCH |= {"modules", "training", "testing"}
"""May import torch when they are imported themselves; the others, inside functions."""

WITHOUT = ("data.augmentation", "data.classes")
WITHOUT += ("evaluation.by_name", "evaluation.hook")
WITHOUT += ("loading.create", "loading.resolve")
WITHOUT += (
    "training.by_name",
    "training.choice",
    "training.recipe",
    "training.reproduce",
)
WITHOUT += ("verify.worker",)
"""Modules of those that import none, for what answers without torch."""

OPTIONAL = {"captum", "cv2", "jinja2", "mahotas", "matplotlib", "pyarrow", "s3fs", "skimage", "sklearn", "tensorboard"}
OPTIONAL |= {"accelerate", "datasets", "h5py", "kymatio", "model_signing", "onnx", "timm", "tomlkit", "torchvision"}
OPTIONAL |= {"onnxruntime", "onnxscript", "pyautoattack", "ray", "submitit", "webdataset"}
"""What the extras bring: imported inside functions, where their absence gets a hint."""

OF_PLUGINS = {"zoo", "zoo.data", "zoo.errors", "zoo.evaluation", "zoo.manifest", "zoo.registry", "zoo.spec"}
OF_PLUGINS |= {"zoo.training.classifiers", "zoo.modules", "zoo.training"}
"""The public modules that a family may use."""


TOOLS = {
    f"zoo_{row.name}" for row in registry.current().plugins if row.is_builtin and row.plugin and row.plugin.commands
}
"""Packages of plugins that bring commands, not networks."""


ALSO_A_TERM = {"gabor"}
"""Families named after something that the core may speak of: a filter."""


class Import(NamedTuple):
    module: str
    line: int
    is_lazy: bool
    """Inside a function, in a stub, or for type checkers alone."""


def imports(file: Path) -> Iterator[Import]:
    """Yields every module that ``file`` imports; ``from zoo import names`` is ``zoo.names``."""
    is_module = {".".join(("zoo", *parts_of(file))) for file in CORE}

    def walk(node: ast.AST, is_lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            is_lazy = True
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            is_lazy = True
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, is_lazy)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield Import(whole if whole in is_module else str(node.module), node.lineno, is_lazy)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, is_lazy)

    yield from walk(ast.parse(file.read_text(encoding="utf-8")), file in STUBS)


def parts_of(file: Path) -> tuple[str, ...]:
    """Returns ``("hub", "cache")`` of ``zoo/hub/cache.py``; of a package, without its ``__init__``."""
    parts = file.relative_to(ROOT / "zoo").with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def layer_of(file: Path) -> str:
    return file.relative_to(ROOT / "zoo").parts[0].partition(".")[0]


def for_each(files: list[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Returns a test of all ``files`` in one: a test for each would cost more than what it checks."""

    def decorate(test: Callable[[Path], None]) -> Callable[[], None]:
        def whole() -> None:
            assert files
            for file in files:
                test(file)

        whole.__name__, whole.__doc__ = test.__name__, test.__doc__
        return whole

    return decorate


def test_every_module_of_the_core_has_its_place_in_the_order() -> None:
    assert {layer_of(file) for file in CORE} - {"__init__"} == set(LAYERS)


@for_each(CORE)
def test_imports_run_one_way(file: Path) -> None:
    own = layer_of(file)
    allowed = set(LAYERS[: LAYERS.index(own) + 1]) if own != "__init__" else set(LAYERS)
    # The package itself binds everything: only what stands above everything may ask it.
    may_ask_package = own in ("__init__", *LAYERS[LAYERS.index("training") :])
    for found in imports(file):
        top, _, rest = found.module.partition(".")
        is_plugin = top.startswith(("zoo_", "weights_manifest")) and file not in STUBS
        assert not is_plugin, f"{file}:{found.line} imports a family: {found.module}"
        if top == "zoo":
            layer = rest.partition(".")[0]
            assert layer in allowed or (not layer and may_ask_package), f"{file}:{found.line} imports {found.module}"


@for_each(CORE)
def test_torch_and_optional_libraries_are_imported_only_where_they_may_be(file: Path) -> None:
    own = layer_of(file)
    for found in imports(file):
        if found.is_lazy:
            continue
        top, _, rest = found.module.partition(".")
        assert top not in OPTIONAL, f"{file}:{found.line} imports {top} before anyone asked for it"
        assert top != "pytest" or own == "testing", f"{file}:{found.line} imports pytest"
        if own not in WITH_TORCH:
            assert top not in ("torch", "numpy", "safetensors"), f"{file}:{found.line} imports {top}"
            is_free = rest.partition(".")[0] not in WITH_TORCH or rest in WITHOUT
            assert top != "zoo" or is_free, f"{file}:{found.line} brings torch"


def test_tests_stand_where_the_code_stands() -> None:
    """The tests of ``zoo/hub`` in ``tests/hub``; of a module alone at the top, beside it."""
    packages = {layer for layer in LAYERS if (ROOT / "zoo" / layer).is_dir()}
    folders = {folder.name for folder in (ROOT / "tests").iterdir() if any(folder.glob("test_*.py"))}
    assert folders == packages | {"plugins"}
    families = {folder.name.removeprefix("zoo_") for folder in (ROOT / "plugins").iterdir() if folder.is_dir()}
    files = {file.stem.removeprefix("test_") for file in (ROOT / "tests" / "plugins").iterdir()}
    assert families <= files


def test_every_folder_of_plugins_is_an_entry_point() -> None:
    """What is written there and not here is found once Zoo is installed again: ``pip install -e .``."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    folders = {folder.name for folder in (ROOT / "plugins").iterdir() if any(folder.glob("*.py"))}
    assert declared["zoo.plugins"] == {folder.removeprefix("zoo_"): f"{folder}:plugin" for folder in folders}
    assert folders == {f"zoo_{row.name}" for row in registry.current().plugins if row.is_builtin}


def test_the_page_on_architecture_names_every_layer_in_order() -> None:
    section = PAGE.partition("## The tree")[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)/?` \|", section, re.MULTILINE)) == LAYERS


def test_the_page_on_architecture_lists_the_files_that_a_call_visits() -> None:
    found = visited.everything()
    create, fetch, batch, *_ = found.values()
    for title, files in (("The path of a name", create), ("The path of a batch", batch)):
        section = PAGE.partition(f"## {title}")[2].partition("\n## ")[0]
        assert re.findall(r"^\| `([\w/]+\.py)` \|", section, re.MULTILINE) == files
    before = create[: create.index("zoo/loading/network.py")]
    assert set(fetch) == {*before} - {"zoo/registry/hooks.py"}
    assert "visits those before `zoo/loading/network.py`, without `zoo/registry/hooks.py`" in PAGE


def test_asking_imports_no_torch() -> None:
    free = [f"zoo.{part}" for part in (*LAYERS, *WITHOUT) if part not in WITH_TORCH and part != "__main__"]
    code = (
        f"import sys, zoo, {', '.join(free)}; print(sorted({{'torch', 'numpy', 'timm', 'rich'}} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@for_each(CORE)
def test_the_core_names_no_family(file: Path) -> None:
    """In identifiers, and in strings that are no prose; documentation may give an example."""
    plugins = [plugin for plugin in builtin() if plugin.models or plugin.collection]
    models = {model.name for plugin in plugins for model in plugin.models}
    # "ror" is no part of "error", and a library that a collection stands for is one that the core may use.
    own = (plugin.name for plugin in plugins if plugin.name not in OPTIONAL | ALSO_A_TERM)
    families = (rf"(?<![a-z]){name}(?![a-z])" for name in own)
    named = re.compile("|".join([*families, *(rf"\b{model}\b" for model in models)]))
    tree = ast.parse(file.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        words = [getattr(node, field, None) for field in ("id", "attr", "name", "arg", "value")]
        for word in words:
            if isinstance(word, str) and " " not in word and id(node) not in docstrings:
                assert not named.search(word.lower()), f"{file}:{getattr(node, 'lineno', 0)} names a family: {word!r}"


def builtin() -> list[zoo.Plugin]:
    return [row.plugin for row in registry.current().plugins if row.plugin and row.is_builtin]


@for_each(CORE)
def test_the_core_names_no_tool(file: Path) -> None:
    """It imports none, and no string of it is the address of one: a stub alone says what editors complete."""
    if file in STUBS:
        return
    packages = {folder.name for folder in (ROOT / "plugins").iterdir()}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = {word for word in re.findall(r"\w+", node.value) if word in packages}
            assert not named, f"{file}:{node.lineno} names {', '.join(named)}"


def test_the_core_has_no_command_of_a_tool() -> None:
    brought = {command for plugin in builtin() for command in plugin.commands}
    assert brought
    assert not brought & cli.homes.keys()


@for_each(PLUGINS)
def test_plugins_import_zoo_and_torch_and_never_each_other(file: Path) -> None:
    """A family imports the public modules alone; a tool, whatever the core offers to tools of third parties."""
    own = file.relative_to(ROOT / "plugins").parts[0]
    module = ".".join(file.relative_to(ROOT / "plugins").with_suffix("").parts)
    is_tool = own in TOOLS or module in {address for plugin in builtin() for address in plugin.modules.values()}
    for found in imports(file):
        top = found.module.partition(".")[0]
        is_public = (
            is_tool
            or found.module in OF_PLUGINS
            or found.module.startswith(("zoo.data.", "zoo.modules.", "zoo.training."))
        )
        others = sys.stdlib_module_names | {own, "torch", "numpy", "msgspec"} | OPTIONAL
        is_other = top.startswith("zoo_") and top != own
        allowed = is_public if top == "zoo" else not is_other if is_tool else top in others
        assert allowed, f"{file}:{found.line} imports {found.module}"
        if file.parent.name == own and file.name in ("__init__.py", "key_maps.py"):
            is_row = found.module in ("zoo.spec", f"{own}.key_maps") or (is_tool and top == "zoo")
            assert is_row or top in sys.stdlib_module_names, f"{file}:{found.line}: rows alone here"


@for_each(CORE)
def test_a_core_file_holds_one_idea(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 500
    assert file.stem not in ("base", "common", "helpers", "manager", "utils")


@for_each([*CORE, *PLUGINS])
def test_every_silenced_check_says_why(file: Path) -> None:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if re.search(r"# (noqa|type: ignore)", line):
            assert re.search(r"# (noqa: [A-Z0-9, ]+|type: ignore\[[\w, -]+\]) +# \w", line), f"{file}:{number}: {line}"


def test_the_tree_of_errors_is_complete() -> None:
    kinds = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.ZooError)
    }
    assert set(errors.__all__) == kinds
    assert kinds <= set(re.findall(r"\w+Error", errors.__doc__ or ""))
    for name in kinds - {"ZooError"}:
        parents = [kind for kind in getattr(errors, name).__bases__ if issubclass(kind, errors.ZooError)]
        assert len(parents) == 1, f"{name} stands at {len(parents)} places of the tree"


def test_the_public_names_are_complete() -> None:
    assert len(zoo.__all__) == len(set(zoo.__all__))
    assert dir(zoo) == sorted({*zoo.__all__, *extensions.modules()})
    for name in zoo.__all__:
        assert callable(getattr(zoo, name)) or inspect.ismodule(getattr(zoo, name))
    for name in errors.__all__:
        assert getattr(zoo, name) is getattr(errors, name)


@for_each(STUBS)
def test_what_type_checkers_see_is_what_is_bound(stub: Path) -> None:
    package = importlib.import_module(".".join(("zoo", *parts_of(stub))))
    found = [node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: str(node.module) for node in found for alias in node.names if alias.name != "*"}
    assert set(package.__all__) <= homes.keys()
    for name, home in homes.items():
        value = getattr(package, name)
        assert value is (sys.modules[f"{home}.{name}"] if home == package.__name__ else vars(sys.modules[home])[name])


@for_each(CORE)
def test_names_in_all_exist(file: Path) -> None:
    parts = file.relative_to(ROOT).with_suffix("").parts
    if parts[-1] == "__main__":
        return
    module = importlib.import_module(".".join(part for part in parts if part != "__init__"))
    missing = [name for name in getattr(module, "__all__", []) if not hasattr(module, name)]
    assert not missing
