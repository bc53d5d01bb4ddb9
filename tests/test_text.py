"""Text from the data, as people see it."""

import pytest

from dnl_det.text import escaped, shortened, table_cell


@pytest.mark.parametrize(
    "text", ["traffic light", "قطة", "黑　猫", "👩\u200d🚀", "می\u200cخواهم", r"$\pi$"]
)
def test_words_of_any_script_stay(text):
    assert escaped(text) == shortened(text, 24) == table_cell(text) == text


@pytest.mark.parametrize(
    "text", ["\n", "\0", "\x1b", "\x9b", "\u2028", "\u202e", "\u2066", "\ud800"]
)
def test_what_controls_a_terminal_or_turns_text_is_escaped(text):
    assert escaped(f"a{text}b") == f"a{ascii(text)[1:-1]}b"


def test_the_middle_of_long_text_is_left_out():
    assert shortened("abcdefghi", 9) == "abcdefghi"
    assert shortened("abcdefghij", 9) == "abcde…hij"
    assert shortened("\n" * 9, 9) == r"\n\n\…n\n"
    assert table_cell("a|b" * 40).replace(r"\|", "") == "ab" * 8 + "a…b" + "ab" * 4
