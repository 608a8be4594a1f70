"""Elements of HTML and SVG. Everything that is not markup already is escaped."""

from html import escape


class Markup(str):
    """Text that is markup: neither :func:`element` nor a template escapes it."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def plain(text: object) -> str:
    """Returns ``text`` without control characters and direction marks, which have U+FFFD in their place."""
    text = str(text)
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(character: str) -> str:
    if character.isspace():
        return character if character == "\n" else " "
    return character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"


def finish(value: object) -> object:
    """Returns what a template writes for ``value``."""
    if isinstance(value, Markup) or hasattr(value, "__html__"):
        return value
    return "" if value is None else plain(value)


def element(name: str, /, *content: object, **attributes: object) -> Markup:
    """Returns an element with ``content``; attributes ``class_`` and ``stroke_width`` are written ``class``,
    ``stroke-width``.

    Numbers have at most one decimal place; attributes that are None are left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(part if isinstance(part, Markup) else escape(plain(part)) for part in content)
    return Markup(f"<{name}{written}>{inner}</{name}>")


def _value(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else plain(value)


def breakable(text: object) -> Markup:
    """Returns ``text`` with places where a line may end, before dots and after underscores, as names have them."""
    return Markup(escape(plain(text)).replace(".", "<wbr>.").replace("_", "_<wbr>"))


def web_address(text: str) -> str:
    """Returns ``text`` if a link may lead there: an http or https address; else nothing."""
    return text if text.startswith(("https://", "http://")) and text.isprintable() and " " not in text else ""
