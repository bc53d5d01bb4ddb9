"""Text from the data, such as the names of classes, as people are to see it."""

from typing import Any

# Joiners of letters and emoji, and spaces of other scripts: not "printable" to Python.
_HARMLESS = "\u200c\u200d\u00a0\u3000"
_LONGEST = 300  # characters of a text from the data; a hostile one may have millions
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


def printable(value: Any) -> str:
    """A value from the data in a terminal: no control characters, not endless."""
    text = value if isinstance(value, str) else repr_shortly(value)
    text = escaped(text[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def repr_shortly(value: Any) -> str:
    """``repr`` of a value from JSON; of lists and objects their type and length alone."""
    if isinstance(value, list):
        short = len(value) <= 6 and all(isinstance(v, (int, float)) for v in value)
        if not short:
            return f"a list of {len(value):,}"
    if isinstance(value, dict):
        return f"an object of {len(value):,} keys"
    if isinstance(value, int) and abs(value) > 10**18:
        return "a number of more than 18 digits"
    if isinstance(value, list) and any(isinstance(v, int) and abs(v) > 10**18 for v in value):
        return f"a list of {len(value)} with a number of more than 18 digits"
    return printable(ascii(value)) if isinstance(value, str) else repr(value)
