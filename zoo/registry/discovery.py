"""The installed plugins as rows: from the index, and what is not in it, or has changed, by importing it.

Every plugin is found through the entry-point group ``zoo.plugins``, the built-in ones too. These are
what the distribution of Zoo itself declares, whatever another one calls its own. An entry point of the group
``zoo.weights`` names a manifest, ``"package"`` or ``"package:file.toml"``: a plugin of data alone, which is read in
place of an import.
"""

import contextlib
import importlib.machinery
import importlib.util
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from zoo import names, spec
from zoo.errors import PluginError
from zoo.registry import index
from zoo.registry.contents import contents_of, packages_of, top_of
from zoo.registry.index import Index, Indexed, stamp_of
from zoo.registry.plugin_row import DISTRIBUTION, Distribution, Key, PluginRow, Stamp, encode
from zoo.spec import API, Plugin
from zoo.spec.checked import Spec
from zoo.system import progress, storage, terminal
from zoo.system.terminal import bounded

if TYPE_CHECKING:  # it imports a parser of e-mails: too slow for every command
    import importlib.metadata

GROUP = "zoo.plugins"
DATA_GROUP = "zoo.weights"
WITHOUT = "ZOO_DISABLE_PLUGINS"
PATIENCE = 2.0
"""Seconds after which a plugin that is being imported is named."""

_MANY = 8
"""Imports that take long enough for a bar."""

_LONGEST = 500
"""Characters of an exception that are shown."""

_LONGEST_TRACEBACK = 20_000
_MOST_FILES = 1000
_TICK = 20_000_000
"""Nanoseconds: file systems date changes no finer than this."""

_ZOO = Path(__file__).parents[1]
_SUFFIXES = frozenset(importlib.machinery.all_suffixes())
_INFOS = (".dist-info", ".egg-info")
_HEAD = "# Plugins that Zoo does not import. zoo plugins disable NAME and zoo plugins enable NAME change it.\n"

log = logging.getLogger("zoo")


def discover() -> list[PluginRow]:
    """Returns all plugins of this environment."""
    path, last = SearchPath(), index.read()
    installed = _distributions(path, last.distributions)
    rows = _rows(_with_plugins(installed), path)
    missing = []
    for row in rows:
        if row.status == "ok":
            indexed = last.plugins.get(row.key)
            if indexed and all(path.state_of(module) == state for module, state in indexed.files.items()):
                row.fill(indexed.rows)
            else:
                missing.append(row)
    now = {distribution.folder: distribution for distribution in installed}
    imported: dict[Key, Indexed] = {}
    try:
        _import_all(missing, path, imported)
    finally:  # what was learned before an interrupt is worth keeping
        if imported or now != {folder: last.distributions.get(folder) for folder in now}:
            index.write(_updated(last, now, imported))
    return rows


def installed_names() -> set[str]:
    """Returns the names of all plugins, and of distributions whose entry points cannot be read. Imports none."""
    found = _with_plugins(_distributions(SearchPath(), index.read().distributions))
    return {name for one in found for name in ([one.key] if one.damage else [name for name, _ in one.every_point])}


def _rows(installed: Iterable[Distribution], path: "SearchPath") -> list[PluginRow]:
    """Returns a row for each entry point; those that are disabled, damaged or have rivals are refused."""
    rows = []
    for distribution in installed:
        rows += [PluginRow(name, target, distribution) for name, target in distribution.every_point]
        if distribution.damage:
            rows.append(row := PluginRow(distribution.key, "", distribution))
            row.refuse("broken", distribution.damage)
    chosen = choice()
    by_name: dict[str, list[PluginRow]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    chosen.warn_of_unknown(by_name)
    for row in rows:
        rivals = [other for other in by_name[row.name] if other is not row]
        if reason := chosen.why_disabled(row.name):
            row.refuse("disabled", reason)
        elif row.is_builtin:
            if stranger := path.stranger(top_of(row.target)):
                row.refuse("broken", f"{stranger} hides Zoo's own {top_of(row.target)}: rename or remove it")
        elif rivals:
            of = ", ".join(sorted(other.distribution for other in rivals))
            row.refuse("set aside", f"{of} also has a plugin {row.name!r}: uninstall one of them")
    return sorted(rows, key=lambda row: (names.natural(row.name), not row.is_builtin))


def _updated(last: Index, now: dict[str, Distribution], imported: Mapping[Key, Indexed]) -> Index:
    """Returns ``last`` with what was found now. What other processes have on their paths stays while it exists."""
    others = {
        folder: distribution
        for folder, distribution in last.distributions.items()
        if folder not in now and stamp_of(f"{folder}/entry_points.txt") is not None
    }
    every = {**others, **now}
    plugins = {**last.plugins, **imported}
    return Index(
        every,
        {
            key: indexed
            for key, indexed in plugins.items()
            if key.folder in every and (key.name, key.target) in every[key.folder].every_point
        },
    )


# ---- what lies on the path ----------------------------------------------------------------------


class SearchPath:
    """The folders of ``sys.path`` at one moment: names in them, read once, without importing anything.

    ``infos`` are the folders that describe installed distributions, in the order of the path.
    """

    def __init__(self) -> None:
        self.infos: list[str] = []
        self._places: dict[str, list[str]] = {}
        self._states: dict[str, bytes] = {}
        for folder in dict.fromkeys(os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)):
            try:
                names = sorted(os.listdir(folder))
            except OSError:  # there is none, or it is an archive
                continue
            for name in names:
                stem, dot, suffix = name.partition(".")
                if not dot or f".{suffix}" in _SUFFIXES:
                    self._places.setdefault(stem, []).append(f"{folder}/{name}")
                elif name.endswith(_INFOS):
                    self.infos.append(f"{folder}/{name}")

    def state_of(self, module: str) -> bytes:
        """Returns the files of a top-level ``module``, wherever it may be on the path, with their stamps."""
        if module not in self._states:
            self._states[module] = msgspec.msgpack.encode(self.files_of(module))
        return self._states[module]

    def files_of(self, module: str) -> list[tuple[str, Stamp]]:
        """Returns the same, looked up now."""
        return [*islice((file for place in self._places_of(module) for file in _files_of(place)), _MOST_FILES)]

    def stranger(self, module: str) -> str:
        """Returns the file or package that Python imports instead of Zoo's own ``module``; empty if none hides it."""
        places = self._places_of(module)
        if len(places) < 2:
            return ""
        places = [place for place in places if os.path.isfile(place) or os.path.isfile(f"{place}/__init__.py")]
        root = os.path.realpath(os.path.dirname(_ZOO)) + os.sep
        are_own = [os.path.realpath(place).startswith(root) for place in places]
        return places[0] if any(are_own) and not are_own[0] else ""

    def text_of(self, module: str) -> str:
        """Returns the text of a module; empty if it has none."""
        for place in self._places_of(top_of(module))[:1]:
            base = f"{os.path.dirname(place)}/{module.replace('.', '/')}"
            for file in (f"{base}.py", f"{base}/__init__.py"):
                with contextlib.suppress(OSError, ValueError):  # it need not be UTF-8
                    return Path(file).read_text(encoding="utf-8")
        return ""

    def _places_of(self, module: str) -> list[str]:
        """Returns every file and folder that the module may be: the first is the one, if it has Python files."""
        if module not in self._places:
            try:
                # An import hook may know, as of an editable installation.
                module_spec = importlib.util.find_spec(module)
            except (ImportError, ValueError):
                module_spec = None
            places = [*(module_spec.submodule_search_locations or ()), module_spec.origin] if module_spec else []
            self._places[module] = [place for place in places[:1] if place]
        return self._places[module]


def _files_of(place: str) -> Iterator[tuple[str, Stamp]]:
    """Yields the files in a folder, or the file, with their stamps; compiled ones follow their source."""
    try:
        with os.scandir(place) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != "__pycache__":
                        yield from _files_of(entry.path)
                elif stamp := stamp_of(entry.path):  # not of a link to nothing
                    yield entry.path, stamp
    except NotADirectoryError:
        if stamp := stamp_of(place):
            yield place, stamp
    except OSError:
        return


# ---- distributions ------------------------------------------------------------------------------


def _distributions(path: SearchPath, known: Mapping[str, Distribution]) -> list[Distribution]:
    """Returns the distributions with entry points, those that are unchanged as they are ``known`` by their folders."""
    return [found for folder in path.infos if (found := _look(folder, known.get(folder)))]


def _with_plugins(distributions: list[Distribution]) -> list[Distribution]:
    """Returns those that have plugins or may have; of several with one name, the first on the path."""
    first: dict[str, Distribution] = {}
    for distribution in distributions:
        if distribution.every_point or distribution.damage:
            used = first.setdefault(distribution.key, distribution)
            if used is not distribution and used.is_builtin and not os.path.samefile(used.folder, distribution.folder):
                log.warning("%s is used: %s is a second %s", used.folder, distribution.folder, DISTRIBUTION)
    return [*first.values()]


def _look(folder: str, last: Distribution | None) -> Distribution | None:
    metadata = f"{folder}/{'METADATA' if folder.endswith('.dist-info') else 'PKG-INFO'}"
    entry_points = stamp_of(f"{folder}/entry_points.txt")
    if entry_points is None:
        return None
    if last is not None and last.entry_points == entry_points:
        has_plugins = last.every_point or last.damage
        if not has_plugins or last.metadata == stamp_of(metadata):
            return last
    _settle((file, stamp_of(file)) for file in (f"{folder}/entry_points.txt", metadata))
    return _read(folder, Distribution(folder, stamp_of(f"{folder}/entry_points.txt"), stamp_of(metadata)))


def _read(folder: str, bare: Distribution) -> Distribution:
    import importlib.metadata

    about = importlib.metadata.Distribution.at(Path(folder))
    points: tuple[tuple[str, str], ...] = ()
    data: tuple[tuple[str, str], ...] = ()
    damage = ""
    try:
        # Most have none: looking for the group's name is cheaper than parsing all that they have.
        text = about.read_text("entry_points.txt") or ""
        if GROUP not in text and DATA_GROUP not in text:
            return bare
        every = about.entry_points
        points = tuple((point.name, point.value) for point in every if point.group == GROUP)
        data = tuple((point.name, _manifest_at(point.value)) for point in every if point.group == DATA_GROUP)
    except Exception as error:  # not UTF-8, or no entry points: the standard library raises what it runs into
        content = getattr(error, "object", GROUP.encode())
        if GROUP.encode() not in content and DATA_GROUP.encode() not in content:  # it has no plugins
            return bare
        damage = f"its entry_points.txt cannot be read: {error}"
    stem, _, version = os.path.splitext(os.path.basename(folder))[0].partition("-")
    name, version = _stated(about, "Name") or stem, _stated(about, "Version") or version
    return msgspec.structs.replace(bare, name=name, version=version, points=points, damage=damage, data=data)


def _manifest_at(target: str) -> str:
    """Returns the address of the manifest that an entry point of the group ``zoo.weights`` names."""
    return target if ":" in target else f"{target}:manifest.toml"


def _stated(about: "importlib.metadata.Distribution", field: str) -> str:
    try:
        return str(about.metadata[field] or "")
    except Exception:  # missing or not UTF-8: the standard library raises what it runs into
        return ""


def _settle(files: Iterable[tuple[str, Stamp | None]]) -> None:
    """Waits until a change of ``files`` would be seen: of those that were changed just now, a moment."""
    age = time.time_ns() - max((stamp[2] for _, stamp in files if stamp), default=0)
    if 0 <= age < _TICK:
        time.sleep((_TICK - age) / 1e9)


# ---- the import of a plugin ---------------------------------------------------------------------


def _import_all(rows: list[PluginRow], path: SearchPath, imported: dict[Key, Indexed]) -> None:
    """Imports the plugins of ``rows``, built-in ones first, and adds to ``imported`` what belongs into the index."""
    if not rows:
        return
    importlib.invalidate_caches()  # a distribution may have been installed since this process began
    with contextlib.ExitStack() as stack:
        show = stack.enter_context(progress.bar("Importing plugins")) if len(rows) > _MANY else None
        for place, row in enumerate(sorted(rows, key=lambda row: not row.is_builtin)):
            if show:
                show(place, len(rows))
            with _attended(row):
                indexed = _import(row, path)
            if indexed:
                imported[row.key] = indexed


@contextlib.contextmanager
def _attended(row: PluginRow) -> Iterator[None]:
    """Names the plugin of ``row`` if it takes long or is interrupted, and guards what it prints."""
    import threading

    about = f"plugin {row.name!r} ({row.target}, of {row.distribution})"
    advice = f"zoo plugins disable {row.name} disables it"
    with terminal.guarded(about) as pass_on:
        warn = partial(log.warning, f"Still importing {about}; {advice}")
        timer = threading.Timer(PATIENCE, pass_on, (warn,))
        timer.daemon = True
        timer.start()
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"while {about} was imported; {advice}") from None
        finally:
            timer.cancel()


def _import(row: PluginRow, path: SearchPath) -> Indexed | None:
    """Fills ``row`` by importing its plugin, or refuses it; every error of the plugin's code becomes a reason.

    Returns what belongs into the index: nothing of a plugin that failed, or that this process had loaded before, or
    that changed meanwhile.
    """
    import importlib.metadata

    was_loaded = row.module in sys.modules and not row.is_data
    _settle(path.files_of(top_of(row.target)))
    started = time.time_ns()
    try:
        if row.is_data:
            plugin = Plugin(row.name, api=API, weights=(row.target,))
        else:
            plugin = importlib.metadata.EntryPoint(row.name, row.target, GROUP).load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit at import is a BaseException too
        asked = re.search(r"\bapi\s*=\s*(\d+)", path.text_of(row.module))
        if asked and int(asked[1]) > API:  # it failed at what is new there
            row.refuse("set aside", _needs(int(asked[1])))
        else:
            row.refuse("broken", _explain(row.target, error), _traceback_of(error))
        return None
    if not isinstance(plugin, Plugin):
        row.refuse("broken", f"{row.target} is a {type(plugin).__name__}, not a zoo.spec.Plugin")
    elif plugin.api > API:
        row.refuse("set aside", _needs(plugin.api))
    elif plugin.name != row.name:
        row.refuse("broken", f"its entry point is named {row.name!r}, the plugin {plugin.name!r}")
    else:
        try:
            contents = contents_of(plugin)
            rows = encode(plugin, contents, packages_of(row.target, plugin))
        except PluginError as error:
            row.refuse("broken", bounded(error.message, 2 * _LONGEST), _traceback_of(error))
        except (TypeError, OverflowError, ValueError) as error:
            row.refuse("broken", f"{row.target} holds a value that is not data: {error}", _traceback_of(error))
        else:
            row.fill(rows, contents.fault)
            libraries = {requirement.module.partition(".")[0] for requirement in plugin.requires}
            files = {module: path.files_of(module) for module in (*rows.entry.packages, *libraries)}
            is_settled = all(stamp[2] < started - _TICK for every in files.values() for _, stamp in every)
            if is_settled and not was_loaded and not contents.fault:
                return Indexed(rows, {module: msgspec.msgpack.encode(every) for module, every in files.items()})
    return None


def _needs(contract: int) -> str:
    return f"it needs plugin contract {contract}, this Zoo has {API}: pip install -U {DISTRIBUTION}"


def _explain(target: str, error: BaseException) -> str:
    """Returns the exception raised by importing ``target``, with its file and line."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _ZOO not in Path(frame.filename).parents]
    of_plugin = [frame for frame in frames if not frame.filename.startswith("<") and "importlib" not in frame.filename]
    place = f" ({Path(of_plugin[-1].filename).name}:{of_plugin[-1].lineno})" if of_plugin else ""
    try:
        text = str(error)
    except Exception:  # a plugin's code may raise anything
        text = "an exception without a text"
    return f"importing {target} raised {type(error).__name__}: {bounded(text, _LONGEST)}{_nearest(text)}{place}"


def _traceback_of(error: BaseException) -> str:
    return bounded("".join(traceback.format_exception(error)), _LONGEST_TRACEBACK)


def _nearest(message: str) -> str:
    """Returns the nearest field for a misspelt one of a row."""
    unknown = re.search(r"Unexpected keyword argument '(\w+)'", message)
    if unknown is None:
        return ""
    from difflib import get_close_matches

    kinds = [kind for kind in vars(spec).values() if isinstance(kind, type) and issubclass(kind, Spec)]
    near = get_close_matches(unknown[1], {field for kind in kinds for field in kind.__struct_fields__}, n=1)
    return f", did you mean {near[0]}?" if near else ""


# ---- what the user chose ------------------------------------------------------------------------


class Choice(NamedTuple):
    """The plugins in ``ZOO_DISABLE_PLUGINS``, and those that this user disabled."""

    without: frozenset[str]
    disabled: frozenset[str]

    def why_disabled(self, name: str) -> str:
        """Returns why the plugin ``name`` is disabled; empty if it is not."""
        if name in self.without:
            return f"listed in {WITHOUT}"
        return f"zoo plugins enable {name} undoes it" if name in self.disabled else ""

    def warn_of_unknown(self, installed: Collection[str]) -> None:
        """Warns of unknown names in the environment variable, which would have no effect."""
        for name in sorted(self.without - {*installed}):
            from difflib import get_close_matches

            near = get_close_matches(name, installed, n=1)
            guess = f"; did you mean {near[0]}?" if near else ""
            log.warning("%s names %r, but no such plugin is installed%s", WITHOUT, name, guess)


def choice() -> Choice:
    """Returns the choice in this process."""
    without = (name.strip() for name in os.environ.get(WITHOUT, "").split(","))
    return Choice(frozenset(filter(None, without)), disabled())


def place_of_choice() -> Path:
    """Returns where the plugins that this user disabled are written."""
    return storage.config_folder() / "plugins.toml"


def disabled() -> frozenset[str]:
    """Returns the plugins that this user disabled; raises :class:`PluginError` if their file cannot be read."""
    file = place_of_choice()
    try:
        if not file.exists():
            return frozenset()
        from zoo.system import toml  # not for a file that few have

        text = file.read_text(encoding="utf-8")
        return frozenset(msgspec.convert(toml.loads(text), _Settings).disabled)
    except (OSError, ValueError) as error:
        raise PluginError(
            f"{file} cannot be read: {error}", hint='Expected disabled = ["NAME", ...]. Repair or remove the file.'
        ) from None


def change_disabled(change: Callable[[frozenset[str]], frozenset[str]]) -> None:
    """Changes the plugins that this user disabled; raises :class:`StorageError`, or as :func:`disabled`."""
    file = place_of_choice()
    with storage.explained(file, 0), storage.lock(file.with_name(f"{file.name}.lock")):
        before = disabled()
        if (after := change(before)) != before:
            lines = "".join(f"    {msgspec.json.encode(name).decode()},\n" for name in sorted(after))
            storage.replace(file, f"{_HEAD}disabled = [\n{lines}]\n".encode())


class _Settings(msgspec.Struct, forbid_unknown_fields=True):
    disabled: list[str] = []
