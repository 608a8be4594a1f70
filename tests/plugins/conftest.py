"""Large networks run most conformance checks behind ``slow``.

Their families have smaller networks that run the same code, and tests that compare them with reference implementations.
"""

import pytest

LARGE_MACS = 1_000_000_000
ALWAYS_QUICK = {"row", "parameters", "macs", "weights"}
"""Checks of what a row or an entry declares about one network."""


@pytest.hookimpl(tryfirst=True)  # before pytest deselects what is slow
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from zoo import registry
    from zoo.testing import Check

    plugins = [row.plugin for row in registry.current().plugins if row.plugin]
    macs = {model.name: model.macs for plugin in plugins for model in plugin.models}
    for item in items:
        check = item.callspec.params.get("check") if hasattr(item, "callspec") else None
        if isinstance(check, Check):
            model, _, kind = check.name.rpartition("-")
            if macs.get(model, 0) >= LARGE_MACS and kind not in ALWAYS_QUICK:
                item.add_marker(pytest.mark.slow)
