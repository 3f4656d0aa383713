"""Paired nodes as tools of AI clients, over the Model Context Protocol.

A process of its own on anyio, without our reactor.  It is a client of the console API and has the
rights of one operator who neither decides nor administers.
"""
