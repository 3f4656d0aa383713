"""What operators ask about codes: their picture, and taking them back."""

from __future__ import annotations

import pytest

from palyra.console import models
from palyra.core.identifiers import short_id
from palyra.errors import NotFound
from palyra.gateway.pairingcontrol import qr_matrix
from tests.callers import ANA
from tests.gateway.enrolling import HOME, Gateway
from tests.gateway.house import result_of


def minted(gateway: Gateway, method: str, qr_matrix: bool = False) -> models.MintedCode:
    body = models.MintCode(method=method, qr_matrix=qr_matrix)
    answer: models.MintedCode = result_of(gateway.control.mint(body, ANA))
    return answer


def test_the_picture_of_a_pairing_line(gateway: Gateway) -> None:
    """It comes to who asks for it, as a square of dark and light."""
    assert minted(gateway, "qr").qr_matrix == []
    asked = minted(gateway, "qr", qr_matrix=True)
    assert asked.qr_matrix == qr_matrix(asked.uri)
    size = len(asked.qr_matrix)
    assert size % 4 == 1 and {len(row) for row in asked.qr_matrix} == {size}
    assert all(row.startswith("1111111") for row in (asked.qr_matrix[0], asked.qr_matrix[-1]))
    assert set("".join(asked.qr_matrix)) == {"0", "1"}


def test_a_pin_has_no_picture(gateway: Gateway) -> None:
    """It is typed."""
    assert minted(gateway, "pin", qr_matrix=True).qr_matrix == []


@pytest.mark.parametrize("method", ["pin", "qr"])
def test_a_code_is_taken_back(gateway: Gateway, method: str) -> None:
    """No device can use it from then on, and it is listed no more; the others stay."""
    kept, taken = minted(gateway, method), minted(gateway, method)
    answer = result_of(gateway.control.withdraw_code(short_id(taken.code.code_id, 10), ANA))
    assert (answer.code.code_id, answer.code.state) == (taken.code.code_id, "withdrawn")
    listed = result_of(gateway.control.pairing_requests(None, None, 50, None)).codes
    assert [each.code_id for each in listed] == [kept.code.code_id]
    if method == "pin":
        assert taken.code.nameplate is not None
        assert gateway.codes.by_nameplate(taken.code.nameplate, HOME) is None


def test_a_code_that_is_over_is_not_taken_back(gateway: Gateway) -> None:
    """There is nothing to take."""
    code = minted(gateway, "qr").code.code_id
    result_of(gateway.control.withdraw_code(code, ANA))
    for target in (code, "", "pi"):
        with pytest.raises(NotFound):
            result_of(gateway.control.withdraw_code(target, ANA))
