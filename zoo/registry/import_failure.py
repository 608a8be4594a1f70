"""Explains why a plugin's module could not be imported, or should not be."""

import ast
import importlib.machinery
import importlib.util
import re
import traceback
from pathlib import Path

from zoo import spec
from zoo.spec.checked import Spec


def contract_of(target: str) -> int | None:
    """The contract version that the text of a plugin's module asks for; nothing is imported.

    None if the text has no ``Plugin(..., api=NUMBER)``.
    """
    try:
        source = _source_of(target.partition(":")[0].strip())
        tree = ast.parse(Path(str(source)).read_text(encoding="utf-8"))
    except (ImportError, AttributeError, OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Plugin":
            given = [keyword.value for keyword in node.keywords if keyword.arg == "api"] + node.args[1:2]
            for value in given:
                if isinstance(value, ast.Constant) and type(value.value) is int:
                    return value.value
    return None


def _source_of(module: str) -> str | None:
    """The file of ``module``. Unlike :func:`importlib.util.find_spec`, does not import the packages around it."""
    top, *below = module.split(".")
    found = importlib.util.find_spec(top)
    for part in below:
        if found is None:
            return None
        found = importlib.machinery.PathFinder.find_spec(f"{found.name}.{part}", found.submodule_search_locations)
    return found.origin if found else None


def explain(target: str, error: BaseException) -> str:
    """The exception raised by importing ``target``, with its file and line."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _ZOO not in Path(frame.filename).parents]
    own = [frame for frame in frames if not frame.filename.startswith("<") and "importlib" not in frame.filename]
    place = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    return f"importing {target} raised {type(error).__name__}: {error}{_nearest(str(error))}{place}"


_ZOO = Path(__file__).parents[1]


def _nearest(message: str) -> str:
    """The nearest field for a misspelt one of a row."""
    unknown = re.search(r"Unexpected keyword argument '(\w+)'", message)
    if unknown is None:
        return ""
    from difflib import get_close_matches

    kinds = [kind for kind in vars(spec).values() if isinstance(kind, type) and issubclass(kind, Spec)]
    known = {field for kind in kinds for field in kind.__struct_fields__}
    near = get_close_matches(unknown[1], known, n=1)
    return f", did you mean {near[0]}?" if near else ""
