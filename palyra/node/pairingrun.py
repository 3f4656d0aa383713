"""A pairing in front of somebody: by a line, by PINs that a person types, or by one that waits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.threads import deferToThread

from palyra.config import Config
from palyra.config.addresses import HostPort, listed
from palyra.core.devices import ClientKind
from palyra.core.pairing_uri import PairingUri
from palyra.core.pin import PinCode
from palyra.core.transports import Preference
from palyra.errors import NotPaired, PairingFailed
from palyra.node.announcing import announcement, default_name
from palyra.node.files import NodeFiles
from palyra.node.finding import find_once
from palyra.node.identity import DeviceIdentity, PairingFile
from palyra.node.pairing import Pairing, unfinished
from palyra.node.screen import PairingScreen, Screen
from palyra.node.typedpins import PinPrompt, can_ask, pair_by_pin
from palyra.node.whereabouts import gateways_of, moved


@attrs.frozen
class NodeRunOptions:
    """What ``palyra node run`` was asked, or ``install`` about its pairing.

    ``gateway`` and ``pin`` come together; ``pin_typed`` where a person typed it on a terminal and
    may be asked for another one.  ``grpc_url`` is where gateways of one CA serve nodes, in
    the order of trying; of a device that is paired, where they are from now on.  ``transport`` is
    for this run, and kept where it pairs.

    :raises Malformed: ``grpc_url`` is no list of addresses.
    """

    state_root: Path
    pairing_uri: str | None = attrs.field(default=None, repr=False)
    gateway: HostPort | None = None
    pin: PinCode | None = attrs.field(default=None, repr=False)
    pin_typed: bool = False
    name: str | None = None
    device_id: str | None = None
    grpc_url: tuple[str, ...] = ()
    transport: Preference | None = None
    ca_file: Path | None = None

    def __attrs_post_init__(self) -> None:
        listed(self.grpc_url, "--grpc-url")

    @property
    def asks(self) -> bool:
        """Whether it names a gateway to be paired with."""
        return self.pairing_uri is not None or self.gateway is not None

    @property
    def config_file(self) -> Path:
        """Where the configuration of this state root is."""
        return self.state_root.absolute() / "palyra.toml"


class PairingRun:
    """Pairs with the line or the PIN that was given, goes on with a pairing that waits, or does
    nothing."""

    def __init__(
        self,
        options: NodeRunOptions,
        *,
        config: Config,
        files: NodeFiles,
        screen: Screen,
        reactor: Any,
    ) -> None:
        self._options = attrs.evolve(options, pin=None)
        self._pin = options.pin
        self._config = config
        self._files = files
        self._screen = screen
        self._reactor = reactor
        self._shown = PairingScreen(screen, reactor)

    async def pair(self) -> DeviceIdentity:
        """Pair where that was asked, or where a pairing waits; the device's identity.

        :raises NotPaired: nothing was asked, nothing waits, and the device is not paired.
        :raises PalyraError: the pairing failed, as :class:`Pairing` says.
        """
        options, files = self._options, self._files
        identity = files.identity.open(self._now_ms(), os.urandom, options.device_id)
        waiting = None if options.asks else unfinished(files)
        if options.asks or waiting is not None:
            await self._paired(identity, waiting)
        elif (host := files.host()) is None:
            raise NotPaired(str(files.state_root))
        elif (there := moved(host, options.grpc_url)) is not host:
            files.keep_host(there)
            self._screen.step("gateway", f"now {', '.join(map(str, gateways_of(there)))}")
        return identity

    async def _paired(self, identity: DeviceIdentity, waiting: PairingFile | None) -> None:
        options = self._options
        pairing = await self._pairing(identity)
        ca_pem = options.ca_file.read_bytes() if options.ca_file else None
        try:
            if options.pairing_uri is not None:
                await pairing.run(PairingUri.parse(options.pairing_uri), ca_pem)
            elif options.gateway is not None:
                await pair_by_pin(pairing, options.gateway, ca_pem, self._next_pin)
            else:
                assert waiting is not None, "one of the three is there"
                await pairing.resume(waiting)
        finally:
            self._shown.stop()

    async def _pairing(self, identity: DeviceIdentity) -> Pairing:
        options, files, node = self._options, self._files, self._config.node
        # An operator sees at the approval what there is, and grants it then.
        offered = await deferToThread(find_once, node, files.root)
        return Pairing(
            reactor=self._reactor,
            files=files,
            identity=identity,
            announcement=announcement(offered, default_name(options.name or node.name)),
            client_kind=ClientKind.NODE,
            witness=self._shown,
            entropy=os.urandom,
            now_ms=self._now_ms,
            node_rpc=options.grpc_url,
            transport=options.transport,
            environ=os.environ,
        )

    async def _next_pin(self, failed: PairingFailed | None) -> PinCode | None:
        """The PIN that was given, then what a person types; None where nobody can be asked."""
        given, self._pin = self._pin, None
        typed = self._options.pin_typed and can_ask()
        if given is not None or failed is None or not typed:
            return given
        self._shown.pin_failed(failed.sentence)
        self._screen.hold(True)
        try:
            return await PinPrompt(self._reactor).ask()
        finally:
            self._screen.hold(False)

    def _now_ms(self) -> int:
        return int(self._reactor.seconds() * 1000)
