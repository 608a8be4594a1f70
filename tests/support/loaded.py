"""Scripts that are not in a package, as modules."""

import importlib.util
from pathlib import Path
from types import ModuleType


def load(script: Path) -> ModuleType:
    """Returns the module in ``script``, under the name of the file."""
    specification = importlib.util.spec_from_file_location(script.stem, script)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
