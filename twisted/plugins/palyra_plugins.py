"""Makes ``twistd palyra``, ``twistd palyra-node`` and endpoints ``palyra:PORT`` known.

Every ``twistd`` command reads this file, so it names the modules and imports none of them: they are
loaded when their command is the one that was asked for.  The directory has no ``__init__.py``,
because ``twisted.plugins`` belongs to Twisted, which finds plugins beside its own.
"""

from twisted.application.service import ServiceMaker
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer

gateway = ServiceMaker(
    name="Palyra gateway",
    module="palyra.gateway.tap",
    description="The gateway: pairs devices, dispatches jobs and keeps the record.",
    tapname="palyra",
)

node = ServiceMaker(
    name="Palyra node host",
    module="palyra.node.tap",
    description="The node host: runs capabilities on this device for its gateway.",
    tapname="palyra-node",
)


@implementer(IPlugin, IStreamServerEndpointStringParser)
class PalyraParser:
    """``palyra:PORT:...``: see :mod:`palyra.transport.endpointstrings`."""

    prefix = "palyra"

    def parseStreamServer(self, reactor, *args, **kwargs):
        """The endpoint that the arguments describe."""
        from palyra.transport.endpointstrings import endpoint

        return endpoint(reactor, *args, **kwargs)


endpoints = PalyraParser()
