"""This node's place on the mesh, for whoever shows or commands it. A node without a mesh loads nothing of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tirami.node.mesh.view import MeshView


@dataclass(slots=True)
class Membership:
    """``view`` is ``None`` while this node is on no mesh."""

    view: "MeshView | None" = None
