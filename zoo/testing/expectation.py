"""How checks say that a promise is broken, and by which field."""


class CheckError(AssertionError):
    """A plugin breaks a promise. The exception that its own code raised, if any, is the cause.

    Args:
        reason: What is wrong, what was expected.
        field: What to change: a field of a row or a manifest, or a method of the network. Checks leave it empty if it
            is the one that they are about.
        of: The model, the weights or the plugin. Checks leave it empty.
        hint: What to do.
    """

    def __init__(self, reason: str, field: str = "", of: str = "", hint: str = "") -> None:
        self.reason = reason if reason.startswith(field) else f"{field}: {reason}"
        self.field, self.of, self.hint = field, of, hint
        super().__init__((f"{of}: " if of else "") + self.reason + (f"\n{hint}" if hint else ""))


def expect(condition: object, reason: str, *, field: str = "") -> None:
    """Raises :class:`CheckError` unless ``condition`` is true. Unlike ``assert``, also under ``python -O``."""
    if not condition:
        raise CheckError(reason, field)
