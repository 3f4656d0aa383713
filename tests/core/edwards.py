"""The curve edwards25519 as RFC 8032 has it, slowly: independent of what it is compared with."""

from __future__ import annotations

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
Point = tuple[int, int]


def add(left: Point, right: Point) -> Point:
    """Addition on edwards25519 (RFC 8032, affine)."""
    (x1, y1), (x2, y2) = left, right
    k = D * x1 * x2 * y1 * y2 % P
    x3 = (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P
    y3 = (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P
    return x3, y3


def recover_x(y: int) -> int | None:
    """An x of the point with this y, or None where there is none."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    for candidate in (x, x * SQRT_M1 % P):
        if candidate * candidate % P == square:
            return candidate
    return None


def times(point: Point, factor: int) -> Point:
    result = (0, 1)
    for bit in bin(factor)[2:]:
        result = add(result, result)
        if bit == "1":
            result = add(result, point)
    return result


def encoded(point: Point) -> bytes:
    """A point in 32 bytes: y, and the lowest bit of x in the highest."""
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decoded(data: bytes) -> Point:
    """The point of an encoding that is one."""
    whole = int.from_bytes(data, "little")
    y, sign = whole % 2**255, whole >> 255
    x = recover_x(y)
    assert x is not None, "no point has this y"
    return (x if x & 1 == sign else -x % P), y


BASE = decoded((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
