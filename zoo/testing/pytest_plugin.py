"""The kit as pytest sees it: the decorator, the option ``--zoo-plugin``, the marker ``slow``.

pytest imports this module in every run of an environment that has Zoo (entry point ``pytest11``), so nothing here
imports torch, or reads the registry, unless it is used.
"""

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from zoo.testing.checks import Check


def conformance(plugin: str) -> pytest.MarkDecorator:
    """Decorates a test function or class that takes ``check``: it runs once for each check of ``plugin``."""
    from zoo.testing.checks import checks_of

    marked = [
        pytest.param(check, id=check.name, marks=[pytest.mark.slow] if check.is_slow else [])
        for check in checks_of(plugin)
    ]
    return pytest.mark.parametrize("check", marked)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("zoo").addoption(
        "--zoo-plugin",
        action="append",
        default=[],
        metavar="NAME",
        help="Also run Zoo's conformance checks of this plugin. Repeatable.",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: a costly check of Zoo's conformance kit")


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    for name in config.getoption("--zoo-plugin"):
        kit = _Kit.from_parent(session, name=f"zoo-plugin/{name}", plugin=name)
        collected = [*kit.collect()]
        report = pytest.CollectReport(kit.nodeid, "passed", None, [*collected])
        config.hook.pytest_collectreport(report=report)  # for the number that is shown
        items += collected


class _Kit(pytest.Collector):
    """All checks of one plugin, without a file."""

    def __init__(self, *, plugin: str, **keywords: object) -> None:
        super().__init__(nodeid=f"zoo-plugin/{plugin}", **keywords)  # type: ignore[arg-type]  # pytest's own
        self.plugin = plugin

    def collect(self) -> Iterator[pytest.Item]:
        from zoo.testing.checks import checks_of

        for check in checks_of(self.plugin):
            yield _Item.from_parent(self, name=check.name, check=check)


class _Item(pytest.Item):
    def __init__(self, *, check: "Check", **keywords: object) -> None:
        super().__init__(**keywords)  # type: ignore[arg-type]  # pytest's own
        self.check = check
        if check.is_slow:
            self.add_marker(pytest.mark.slow)

    def runtest(self) -> None:
        self.check()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """Returns what the plugin's own code raised, if it did, and the reason; no frames of the kit."""
        cause = excinfo.value.__cause__
        shown = "".join(traceback.format_exception(cause)) + "\n" if cause else ""
        return f"{shown}{excinfo.value}"

    def reportinfo(self) -> tuple[Path, None, str]:
        return Path(self.nodeid), None, self.name
