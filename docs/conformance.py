"""Runs every check of the conformance kit, also the slow ones: ``python docs/conformance.py [FAMILY...]``.

Without names, those of families whose files have changed since. Writes docs/conformance.json after each family;
``python docs/tables.py`` makes docs/conformance.md from it.
"""

import hashlib
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from zoo import registry
from zoo.testing.checks import checks_of

FILE = Path(__file__).with_suffix(".json")
PLUGINS = Path(__file__).parents[1] / "plugins"


def code(family: str) -> str:
    """Returns the sha256 of the family's source files, in the order of their paths."""
    digest = hashlib.sha256()
    for file in sorted((PLUGINS / f"zoo_{family}").rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def read() -> dict[str, dict[str, Any]]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def families() -> list[str]:
    """Returns the built-in plugins with models of their own: those of a collection are another library's."""
    rows = [row for row in registry.current().plugins if row.is_builtin and not row.is_collection]
    return [row.name for row in rows if row.plugin and row.plugin.models]


def measure(family: str) -> dict[str, dict[str, Any]]:
    """Returns by promise how many networks keep it, and with reasons those to which it does not apply or that fail."""
    found: dict[str, dict[str, Any]] = defaultdict(lambda: {"passed": 0, "inapplicable": {}, "failed": {}})
    for check in checks_of(family):
        name, _, promise = check.name.rpartition("-")
        result = found[f"plugin-{promise}" if name == "plugin" else promise]
        try:
            reason = check()
        except pytest.skip.Exception as skipped:
            reason = str(skipped)
        except Exception as error:
            result["failed"][name] = f"{type(error).__name__}: {error}"
            continue
        if reason:
            result["inapplicable"][name] = reason
        else:
            result["passed"] += 1
    return dict(found)


def main(*names: str) -> None:
    for family in names or [name for name in families() if read().get(name, {}).get("code") != code(name)]:
        started = time.perf_counter()
        checks = measure(family)
        done = {**read(), family: {"code": code(family), "checks": checks}}
        FILE.write_text(json.dumps(dict(sorted(done.items())), indent=1) + "\n", encoding="utf-8")
        failed = {promise: part["failed"] for promise, part in checks.items() if part["failed"]}
        print(f"{family}: {failed or 'all kept'}, {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
