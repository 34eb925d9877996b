"""What peers make this node keep, together: bounded, and paid for by whoever has it keep the most."""

import asyncio
from contextlib import AsyncExitStack

from tests.waiting import until
from tirami.core.keys import PublicKey, SigningKey
from tirami.net import Stream
from tirami.net.burden import WINDOW, Burden, Share
from tirami.net.hello import Identity
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.proto import NetworkFile
from tirami.testing import MemoryNetwork, VirtualClock, run_virtually


class Crowd:
    """Shares of one burden by name, and who was let go."""

    def __init__(self, most: int) -> None:
        self.burden = Burden(most)
        self.gone: list[str] = []

    def share(self, name: str, *, chosen: bool = False) -> Share:
        return self.burden.share(lambda: chosen, lambda _: self.gone.append(name))


def test_who_keeps_the_most_goes_and_nobody_while_there_is_room() -> None:
    crowd = Crowd(100)
    small, large, late = crowd.share("small"), crowd.share("large"), crowd.share("late")
    small.keep("a", 10)
    large.keep("a", 40)
    large.keep("b", 40)
    assert (crowd.burden.bytes, crowd.gone) == (90, [])
    late.keep("a", 20)
    assert (crowd.burden.bytes, crowd.gone) == (30, ["large"])
    large.keep("c", 1_000)
    assert crowd.burden.bytes == 30, "it is gone"
    late.keep("a", 15)
    late.end()
    late.end()
    assert crowd.burden.bytes == 10


def test_of_equals_the_one_goes_that_has_kept_it_for_longest() -> None:
    crowd = Crowd(100)
    shares = [crowd.share(str(number)) for number in range(5)]
    for share in shares[:4]:
        share.keep("a", 25)
    shares[0].keep("a", 0)  # it was read, and fills again
    shares[0].keep("a", 25)
    shares[4].keep("a", 25)
    assert crowd.gone == ["1"]


def test_those_this_node_chose_are_never_let_go_for_it() -> None:
    crowd = Crowd(100)
    chosen, stranger = crowd.share("chosen", chosen=True), crowd.share("stranger")
    chosen.keep("a", 90)
    stranger.keep("a", 20)
    assert crowd.gone == ["stranger"]
    chosen.keep("b", 90)
    assert (crowd.gone, crowd.burden.bytes) == (["stranger"], 180)


def test_a_crowd_that_leaves_streams_unread_costs_no_more_and_harms_no_other() -> None:
    """Forty strangers with five streams each that nobody reads: 200 windows, where there is room for 60."""
    most, crowded = 60 * WINDOW, Parties(40)

    async def main() -> None:
        await crowded.meet(most)

    run_virtually(main())
    assert max(crowded.seen) <= most
    assert crowded.bytes <= most
    assert crowded.friend in crowded.left, "this node chose it, and it keeps as much as any"
    assert crowded.honest in crowded.left, "whatever it sends is read"
    assert 9 <= len(crowded.left) - 2 <= 11, "as many of the crowd as there is room for beside the friend's five"


class Parties:
    """A node in memory with a peer of its own choice, an honest stranger, and a crowd that fills what is not read."""

    def __init__(self, crowd: int) -> None:
        self.network = NetworkFile.regtest(SigningKey.generate().public_key)
        self.memory, self.clock, self.crowd = MemoryNetwork(seed=1), VirtualClock(), crowd
        self.seen: list[int] = []
        self.left: set[PublicKey] = set()
        self.bytes = 0

    async def meet(self, most: int) -> None:
        node, friend, honest = self.mesh(), self.mesh(), self.mesh()
        node._burden = Burden(most)

        async def unread(peer: Peer, stream: Stream) -> None:
            self.seen.append(node._burden.bytes)
            await (stream.read(10_000) if peer.key == honest.key else asyncio.Event().wait())

        node.on_stream(unread)
        async with node.running(), friend.running(), honest.running():
            await node.connect(friend.address())
            await honest.connect(node.address())
            await until(lambda: len(node.peers) == 2)
            crowd = [self.mesh() for _ in range(self.crowd)]
            async with AsyncExitStack() as stack:
                for each in (friend, honest, *crowd):
                    if each in crowd:
                        await stack.enter_async_context(each.running())
                        await each.connect(node.address())
                    for _ in range(5):
                        await (await each.peers[node.key].connection.open()).write(b"x")
                    await asyncio.sleep(0.1)
                await asyncio.sleep(20)
                self.left, self.bytes = set(node.peers), node._burden.bytes
                self.friend, self.honest = friend.key, honest.key

    def mesh(self) -> Mesh:
        endpoint = self.memory.endpoint(SigningKey.generate().public_key)
        return Mesh(endpoint, Identity(self.network, "test"), self.clock)
