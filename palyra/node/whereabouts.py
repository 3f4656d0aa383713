"""Where the gateways of a pairing are: one address or several, in the order of trying."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from palyra.config.addresses import HostPort, listed
from palyra.node.files import HostFile, KeptRoute


def gateways_of(host: HostFile) -> tuple[HostPort, ...]:
    """Where they serve nodes.

    :raises Malformed: what is on disk is no list of addresses.
    """
    if host.gateway_urls:
        return listed(host.gateway_urls, "gateway_urls")
    return listed((host.grpc_url,), "grpc_url")


def enrolments_of(host: HostFile) -> tuple[HostPort, ...]:
    """Where the same gateways enrol, in the same order; empty where that was never learnt.

    The one that paired this device is where it was then; the others have that port too.

    :raises Malformed: what is on disk is no address.
    """
    if not host.enrolment_address:
        return ()
    known = HostPort.parse(host.enrolment_address, "enrolment_address")
    alike = [each.with_port(known.port) for each in gateways_of(host)]
    if known not in alike:
        alike[0] = known  # as behind a tunnel: its two listeners are under two names
    return tuple(dict.fromkeys(alike))


def moved(host: HostFile, urls: Sequence[str]) -> HostFile:
    """The same pairing, whose gateways are at ``urls`` from now on; unchanged where that is so
    already, or where none is named.

    What was learnt of an address that stays is kept.  A first gateway that enrolled on the host
    where it served is expected to do so at its new one.

    :raises Malformed: they are no list of addresses.
    """
    now = listed(urls, "--grpc-url")
    if not now or now == gateways_of(host):
        return host
    old, first = HostPort.parse(host.grpc_url, "grpc_url"), now[0]
    learnt = {**host.other_routes, str(old): KeptRoute(host.quic_address, host.last_transport)}
    known = learnt.get(str(first), KeptRoute())
    enrolment = host.enrolment_address
    if enrolment and HostPort.parse(enrolment, "enrolment_address").host == old.host:
        port = HostPort.parse(enrolment, "enrolment_address").port
        enrolment = str(first.with_port(port))
    return msgspec.structs.replace(
        host,
        grpc_url=str(first),
        gateway_urls=urls_of(now),
        enrolment_address=enrolment,
        quic_address=known.quic_address,
        last_transport=known.last_transport,
        other_routes={str(each): learnt[str(each)] for each in now[1:] if str(each) in learnt},
    )


def urls_of(gateways: Sequence[HostPort]) -> tuple[str, ...]:
    """What ``gateway_urls`` has of them: nothing, where ``grpc_url`` says it all."""
    return tuple(map(str, gateways)) if len(gateways) > 1 else ()


def learnt_of(host: HostFile, gateway: HostPort) -> KeptRoute:
    """What is known of the routes to one of them."""
    if str(gateway) == host.grpc_url:
        return KeptRoute(host.quic_address, host.last_transport)
    return host.other_routes.get(str(gateway), KeptRoute())


def with_learnt(host: HostFile, gateway: HostPort, route: KeptRoute) -> HostFile:
    """The same, which knows that of the routes to one of them.

    :raises Malformed: what is on disk is no list of addresses any more.
    """
    if str(gateway) == host.grpc_url:
        return msgspec.structs.replace(
            host, quic_address=route.quic_address, last_transport=route.last_transport
        )
    known = {**host.other_routes, str(gateway): route}
    named = {str(each) for each in gateways_of(host)}
    others = {each: known[each] for each in known if each in named}
    return msgspec.structs.replace(host, other_routes=others)
