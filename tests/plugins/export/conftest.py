"""Exported files run in this process, but in the tests of the sandbox."""

from support.sandboxed import _sandboxed  # noqa: F401  # for all tests here
