"""Hostile devices, relays and forgers against a real gateway over real sockets.

The client here is written from PROTOCOL's exchanges alone: it is a second opinion on the wire.
Every test asserts the refusal, and that nothing was recorded or issued.
"""
