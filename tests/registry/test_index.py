"""The index of the installed plugins: what it saves, and that it is never wrong."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.distributions import HEAD, forget, install, plugin, run

import zoo
from zoo import registry
from zoo.errors import ManifestError, StorageError
from zoo.registry import PluginRow, discovery
from zoo.registry import index as written

TRIES = "with open(__path__[0] + '.tries', 'a') as tries: tries.write('x')\n"
"""So that a test can count how often the plugin was imported; beside its package, which must not change."""

GOOD = plugin("pet", "pet_net")


def put(site: Path, text: str = GOOD, **files: str) -> Path:
    install(site, "zoo-pet", {"pet": "pet:plugin"}, {"pet/__init__.py": TRIES + text, **files})
    return site / "pet"


def tries(site: Path) -> int:
    return len((site / "pet.tries").read_text())


def row(site: Path) -> PluginRow:
    """Returns the plugin as a new process finds it."""
    forget(site)
    return next(row for row in registry.current().plugins if row.name == "pet")


def test_asking_imports_no_plugin_that_is_in_the_index(site: Path) -> None:
    put(site)
    assert run("list", "pet*", site=site).stdout.split()[-3:][0] == "pet"
    code = (
        "import sys; from zoo import registry; import zoo; registry.current().models();"
        "assert zoo.info('pet_net')['family'] == 'pet';"
        "print([name for name in sys.modules if name.startswith(('zoo_', 'pet', 'subprocess', 'importlib.metadata'))])"
    )
    assert run_python(code, site) == "[]"
    assert tries(site) == 1


def run_python(code: str, site: Path) -> str:
    import subprocess

    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def unchanged_but_for_its_bytes(file: Path) -> None:
    """Writes other bytes of the same number into ``file`` and sets its time back, as rsync -t does."""
    status = file.stat()
    file.write_text(file.read_text().replace("pet_model", "pot_model"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


CHANGES: dict[str, Callable[[Path], object]] = {
    "its module": lambda folder: (folder / "__init__.py").write_text(f"{TRIES}{GOOD}# changed"),
    "the time of its module": lambda folder: os.utime(folder / "__init__.py", ns=(1, 1)),
    "the bytes of its module alone": lambda folder: unchanged_but_for_its_bytes(folder / "__init__.py"),
    "a module that it imports": lambda folder: (folder / "rows.py").write_text("changed = True"),
    "a file in a folder of its package": lambda folder: (folder / "parts" / "new").write_text(""),
    "its manifest": lambda folder: (folder.parent / "pet_files" / "weights.toml").write_text("# changed"),
    "a library that it requires": lambda folder: (folder.parent / "pet_library.py").write_text("# new"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_plugin_is_imported_again_if_a_file_of_its_packages_changes(
    change: Callable[[Path], object], site: Path
) -> None:
    text = "import pet.rows\n" + plugin(
        "pet", "pet_net", weights='("pet_files:weights.toml",)', requires='(Requirement("pet_library", "x"),)'
    )
    files = {"pet/rows.py": "", "pet/parts/old": "", "pet_files/__init__.py": "", "pet_files/weights.toml": ""}
    folder = put(site, text, **files)
    assert [row(site).status for _ in range(2)] == ["ok", "ok"]
    assert tries(site) == 1
    change(folder)
    assert row(site).status == "ok"
    assert tries(site) == 2


def test_metadata_is_read_again_if_it_changes(site: Path) -> None:
    put(site)
    assert (row(site).distribution, row(site).version) == ("zoo-pet", "1.0")
    (site / "zoo_pet-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo-pet\nVersion: 1.1\n")
    assert row(site).version == "1.1"


def test_rows_that_depend_on_the_search_path_are_those_of_this_path(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(site)
    assert list(row(site).models) == ["pet_net"]
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "pet.py").write_text(plugin("pet", "other_net"))
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path / "before")
        assert list(row(site).models) == ["other_net"]
    forget(tmp_path / "before")
    assert list(row(site).models) == ["pet_net"]


def test_a_module_that_was_loaded_before_is_not_recorded(site: Path) -> None:
    """Its file may be another one by now; what a new process imports is recorded."""
    folder = put(site)
    assert row(site).status == "ok"
    (folder / "__init__.py").write_text(TRIES + plugin("pet", "other_net"))
    registry.clear()
    assert "pet_net" in zoo.list_models("*_net")
    assert list(row(site).models) == ["other_net"]


@pytest.mark.parametrize(
    "damage", ["cut", "noise", "empty", "folder", "link", "writable by a group", "writable by all"]
)
def test_an_index_that_cannot_be_trusted_is_made_anew(damage: str, site: Path, tmp_path: Path) -> None:
    put(site)
    assert row(site).status == "ok"
    file = written.place()
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[:-1])
    elif damage == "noise":
        file.write_bytes(content[:12] + os.urandom(len(content) - 12))
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "folder":
        file.unlink()
        (file / "x").mkdir(parents=True)
    elif damage == "link":
        shutil.move(file, tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.chmod(0o620 if damage == "writable by a group" else 0o602)
    assert list(row(site).models) == ["pet_net"]
    assert tries(site) == 2


def test_a_damaged_row_is_an_error_that_says_what_to_do(site: Path) -> None:
    put(site)
    row(site)
    file = written.place()
    content = file.read_bytes()
    start = content.rindex(b"pet_model:build")
    file.write_bytes(content[:start] + b"\xff" * 15 + content[start + 15 :])
    registry.clear()
    with pytest.raises(StorageError, match="The index of the plugins is damaged at pet_net"):
        zoo.info("pet_net")


def test_only_its_user_can_write_the_index(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0)
    try:
        put(site)
        row(site)
    finally:
        os.umask(before)
    file = written.place()
    assert file.stat().st_mode & 0o777 == 0o600
    assert written.read().plugins != {}
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert written.place() != file
    monkeypatch.setattr(written, "place", lambda: file)  # though its name were that of this user's
    assert written.read().plugins == {}


def test_another_zoo_makes_its_own_index(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(site)
    row(site)
    monkeypatch.setattr(written, "_MAKER", "another")
    assert list(row(site).models) == ["pet_net"]
    assert tries(site) == 2


@pytest.mark.parametrize("is_absent", [True, False])
def test_without_a_cache_plugins_work(is_absent: bool, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "file").touch()
    monkeypatch.setenv("ZOO_CACHE", str(site / "file" / "cache") if is_absent else "/proc/nowhere")
    put(site)
    assert list(row(site).models) == ["pet_net"]


def test_a_plugin_that_changes_while_it_is_imported_is_not_recorded(site: Path) -> None:
    put(site, "import pathlib\nfile = pathlib.Path(__file__)\nfile.write_text(file.read_text())\n" + GOOD)
    assert [row(site).status for _ in range(2)] == ["ok", "ok"]
    assert tries(site) == 2


def test_values_of_any_kind_come_back_as_they_were(site: Path) -> None:
    args = "{'sizes': (1, (2, 3), [4]), 'rate': 1.0, 'count': 1, 'name': None, 'flag': True, 'day': date(2020, 1, 2)}"
    text = f"from datetime import date\n{HEAD}from zoo.spec import KeyMap\n" + (
        f"plugin = Plugin('pet', api=1, models=(Model('pet_net', build='a:b', args={args}),),"
        f" key_maps=(KeyMap('other', args={args}),), requires=(Requirement('os', 'os'),))"
    )
    expected: dict[str, Any] = {"sizes": (1, (2, 3), [4]), "rate": 1.0, "count": 1, "name": None, "flag": True}
    expected["day"] = date(2020, 1, 2)
    put(site, text)
    for _ in range(2):
        found = row(site).plugin
        assert found is not None
        for args in (found.models[0].args, found.key_maps[0].args):
            assert args == expected
            assert [type(value) for value in args.values()] == [type(value) for value in expected.values()]
        assert len(found.models[0].requires) == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [("print", "Encoding objects of type builtin_function"), ("[{1}]", "a set, expected a list"), ("2**70", "")],
)
def test_a_value_that_is_not_data_is_the_plugins_error(value: str, said: str, site: Path) -> None:
    put(site, f"{HEAD}plugin = Plugin('pet', api=1, models=(Model('pet_net', build='a:b', args={{'x': {value}}}),))")
    assert row(site).reason.startswith(f"pet:plugin holds a value that is not data: {said}")


def test_the_index_holds_what_the_built_in_plugins_state() -> None:
    """Compared with the plugins themselves, imported here."""
    for one in registry.current().plugins:
        if one.is_builtin:
            value = __import__(one.module).plugin
            assert one.plugin == value
            assert list(one.models) == [model.name for model in value.models] or one.is_collection


# ---- any sequence of changes ---------------------------------------------------------------------

MANIFEST = '[{name}_net.{tag}]\nfile = "a.safetensors"\nsha256 = "{digest}"\n'
OPERATIONS = ("install", "weigh", "spoil", "break", "rename", "twin", "damage", "remove", "disable", "enable")


def apply(site: Path, operation: str, name: str, step: int, disabled: set[str]) -> None:
    package, info = site / name, site / f"zoo_{name}-1.0.dist-info"
    if operation in ("install", "weigh", "spoil"):
        text = plugin(name, f"{name}_net", f"{name}_net_{step}", weights=f'("{name}:weights.toml",)')
        manifest = MANIFEST.format(name=name, tag=f"t{step}", digest=f"{step:064x}" if operation != "spoil" else "12")
        files = {f"{name}/__init__.py": text, f"{name}/weights.toml": manifest if operation != "install" else ""}
        install(site, f"zoo-{name}", {name: f"{name}:plugin"}, files)
    elif operation == "remove":
        shutil.rmtree(info, ignore_errors=True)
    elif operation == "disable":
        disabled.add(name)
    elif operation == "enable":
        disabled.discard(name)
    elif operation == "twin":
        install(site, f"zoo-twin-{name}", {name: f"{name}:plugin"}, {})
    elif info.exists() and operation == "break":
        (package / "__init__.py").write_text(f"raise RuntimeError('step {step}')")
    elif info.exists() and operation == "rename":
        (info / "entry_points.txt").write_text(f"[zoo.plugins]\n{name}_{step} = {name}:plugin\n")
    elif info.exists():
        (info / "entry_points.txt").write_bytes(b"[zoo.plugins]\n\xff\n")


def everything(site: Path) -> list[tuple[object, ...]]:
    """Returns all that the rows of third parties say to a new process."""
    forget(site)
    found = []
    for one in discovery.discover():
        if not one.is_builtin:
            try:
                weights: object = dict(one.weights)
            except ManifestError as error:
                weights = str(error)
            found.append(
                (one.name, one.distribution, one.version, one.status, one.reason, one.plugin, weights, one.tags)
            )
    return found


@given(
    operations=st.lists(st.tuples(st.sampled_from(OPERATIONS), st.sampled_from(["pet", "ape"])), min_size=4, max_size=8)
)
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_any_changes_the_index_says_what_a_fresh_discovery_says(
    operations: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [one.name for one in registry.current().plugins if one.is_builtin]
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder, monkeypatch.context() as patch:
        site = Path(folder, "site")
        site.mkdir()
        patch.syspath_prepend(site)
        patch.setattr(sys, "dont_write_bytecode", True)  # Python takes files of one size and second for unchanged
        disabled: set[str] = set()
        for step, (operation, name) in enumerate([("install", "pet"), ("weigh", "ape"), *operations]):
            apply(site, operation, name, step, disabled)
            patch.setenv("ZOO_DISABLE_PLUGINS", ",".join([*own, *sorted(disabled)]))
            patch.setenv("ZOO_CACHE", f"{folder}/fresh-{step}")
            fresh = everything(site)
            patch.setenv("ZOO_CACHE", f"{folder}/kept")
            assert everything(site) == fresh
            assert everything(site) == fresh
        forget(site)
