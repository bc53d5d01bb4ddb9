"""Text from the data, such as the names of classes, as people are to see it."""

# Joiners of letters and emoji, and spaces of other scripts: not "printable" to Python.
_HARMLESS = "\u200c\u200d\u00a0\u3000"
_IN_TABLE = 40  # characters of a name


def escaped(text: str) -> str:
    """Text with Python's escapes for control characters, lone surrogates and what turns text."""
    return "".join(c if c.isprintable() or c in _HARMLESS else ascii(c)[1:-1] for c in text)


def shortened(text: str, longest: int) -> str:
    """Escaped text of at most ``longest`` characters: an ellipsis stands for its middle.

    Names that begin alike differ at their ends.
    """
    text = escaped(text)
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 1]}…{text[-tail:]}"


def table_cell(text: str) -> str:
    """Shortened text for a cell of a Markdown table, which a bar would end."""
    return shortened(text, _IN_TABLE).replace("|", r"\|")
