"""``tirami`` of a thief, who will not hear that its key has ended: ``python -m tests.rows.deaf_node worker …``."""

from tirami.cli import main
from tirami.net.peer import Peer
from tirami.net.rotations import Rotations
from tirami.proto import Message


async def ignore(_: Rotations, peer: Peer, message: Message) -> None:
    """What a rotation says."""


if __name__ == "__main__":
    Rotations._heard = ignore  # type: ignore[method-assign]
    main()
