"""Serving paired nodes to AI clients."""

from __future__ import annotations

import attrs

from palyra.errors.base import Category, PalyraError


@attrs.define
class McpMissing(PalyraError):
    """The libraries of the extra are not installed."""

    code = "mcp_missing"
    category = Category.PRECONDITION

    @property
    def sentence(self) -> str:
        return "The Model Context Protocol needs a package that is not installed."

    @property
    def hint(self) -> str:
        return "pip install 'palyra[mcp]'"


@attrs.define
class McpContextMissing(PalyraError):
    """AI clients come as an operator of their own, never as the gateway's local owner."""

    code = "mcp_context_missing"
    category = Category.PRECONDITION

    @property
    def sentence(self) -> str:
        return "AI clients ask a gateway as an operator of their own, and none is in use here."

    @property
    def hint(self) -> str:
        return _INVITE


@attrs.define
class McpOperatorRefused(PalyraError):
    """An operator who decides or administers could widen the rights of an AI client."""

    code = "mcp_operator_refused"
    category = Category.FORBIDDEN
    name: str
    role: str

    @property
    def sentence(self) -> str:
        return f"AI clients are not served as {self.name}, whose role is {self.role}."

    @property
    def hint(self) -> str:
        return _INVITE


@attrs.define
class McpNotLoopback(PalyraError):
    """The HTTP server is for clients of this machine."""

    code = "mcp_not_loopback"
    category = Category.INVALID
    exit_code = 2
    address: str

    @property
    def sentence(self) -> str:
        return f"{self.address} is not an address of this machine's loopback."

    @property
    def hint(self) -> str:
        return "palyra mcp --http 127.0.0.1:PORT"


@attrs.define
class McpTokenUnusable(PalyraError):
    """The bearer token of the HTTP server cannot be used; it is never shown."""

    code = "mcp_token_unusable"
    category = Category.PRECONDITION
    path: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"The token in {self.path} cannot be used: {self.problem}."

    @property
    def hint(self) -> str:
        return "remove the file; the next start makes a new one"


_INVITE = (
    "on the gateway: palyra operators invite agent-claude --role operator; here: "
    "palyra operators accept - --name agent-claude, and palyra mcp --context agent-claude"
)
