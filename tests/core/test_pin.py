"""PIN codes: what the gateway shows a person can type, and a PIN is as random as it is short."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from palyra.core.pin import MAX_NAMEPLATES, PinCode, draw_pin, free_nameplate
from palyra.errors import Malformed

pins = st.from_regex(r"[0-9]{6}", fullmatch=True)
codes = st.builds(PinCode, st.integers(1, MAX_NAMEPLATES), pins)


@given(codes, st.sampled_from(["", " ", "  ", "\t", "\u00a0"]))
def test_what_is_shown_can_be_typed(code: PinCode, blank: str) -> None:
    """The code as it is shown is read back, with blanks around it and between its digits."""
    shown = str(code)
    assert PinCode.parse(shown) == code
    assert PinCode.parse(blank + blank.join(shown) + blank) == code


def test_the_usual_code_is_six_digits() -> None:
    """Nameplate 1 is not written, and a person who writes it is understood."""
    assert str(PinCode(1, "004217")) == "004217"
    assert str(PinCode(12, "004217")) == "12-004217"
    for typed in ("004217", "004 217", "004-217", "1-004217", "1004217", "01-004217"):
        assert PinCode.parse(typed) == PinCode(1, "004217")


NO_CODES = ["", " ", "12345", "0-123456", "21-123456", "99123456", "123456789", "12345x"]
OF_OTHER_CHARACTERS = ["123456\x00", "١٢٣٤٥٦", "１２３４５６", "12.3456", "+123456", "1_23456"]


@pytest.mark.parametrize("typed", [*NO_CODES, *OF_OTHER_CHARACTERS, "1" * 100_000])
def test_what_is_no_code(typed: str) -> None:
    """It is refused in words that do not repeat it: a mistyped PIN is nearly a PIN."""
    with pytest.raises(Malformed) as refused:
        PinCode.parse(typed)
    assert refused.value.sentence == "PIN: must be six digits, as the gateway shows them."


@settings(max_examples=100)
@example("1-1-123456")
@given(st.text(st.sampled_from("0123456789- \nx"), max_size=12))
def test_a_code_is_read_or_refused(typed: str) -> None:
    """What is read is a code, and stays the same one."""
    try:
        code = PinCode.parse(typed)
    except Malformed:
        return
    assert 1 <= code.nameplate <= MAX_NAMEPLATES and len(code.pin) == 6
    assert PinCode.parse(str(code)) == code


def test_a_pin_is_not_shown() -> None:
    """A log or a traceback that prints the code shows its nameplate only."""
    assert "004217" not in repr(PinCode(3, "004217"))


def test_every_pin_is_equally_likely() -> None:
    """Of the numbers drawn, the last incomplete million is drawn again; zeros are kept."""
    drawn = [b"\xff" * 4, (4_294_000_000).to_bytes(4, "big"), (4_293_999_999).to_bytes(4, "big")]
    assert draw_pin(lambda _: drawn.pop(0)) == "999999" and drawn == []
    assert draw_pin(bytes) == "000000"
    entropy = random.Random(1).randbytes
    leading = Counter(draw_pin(entropy)[0] for _ in range(5_000))
    assert len(leading) == 10 and max(leading.values()) < 600


@given(st.sets(st.integers(0, MAX_NAMEPLATES + 3)))
def test_the_lowest_free_nameplate(taken: set[int]) -> None:
    """The number that is easiest to type; none where all are taken."""
    free = free_nameplate(taken)
    if free is None:
        assert taken >= set(range(1, MAX_NAMEPLATES + 1))
    else:
        assert 1 <= free <= MAX_NAMEPLATES and free not in taken
        assert taken >= set(range(1, free))
