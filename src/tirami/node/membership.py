"""This node's place on the mesh, for whoever shows or commands it. A node without a mesh loads nothing of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tirami.node.mesh.guests import Guests


@dataclass(slots=True)
class Membership:
    """``guests`` is ``None`` while this node is on no mesh."""

    guests: "Guests | None" = None
