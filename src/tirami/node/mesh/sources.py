"""Where this node looks for others beside what peers tell, as its settings say. Each brings its library with it."""

from random import SystemRandom

from tirami.net import Endpoint, HostPort
from tirami.node.mesh.finding import Source
from tirami.node.parts import Parts


def sources(parts: Parts, endpoint: Endpoint) -> list[Source]:
    """Of a node at this endpoint. Raises ``ConfigError``."""
    config, network = parts.config.mesh, parts.ledger.network
    chosen: list[Source] = []
    if config.lan:
        from tirami.net.lan import LanSource

        ip = HostPort.parse(config.bind, lowest_port=0).ip
        chosen.append(LanSource(endpoint.address(), network.id, loopback=ip is not None and ip.is_loopback))
    if config.dns:
        from tirami.net.dns import DnsSource

        chosen.append(DnsSource(config.dns))
    if relays := config.nostr.split():
        from tirami.net.nostr import NostrSource

        chosen.append(NostrSource(relays, endpoint.address, network.id, parts.key, parts.ledger.now, SystemRandom()))
    return chosen
