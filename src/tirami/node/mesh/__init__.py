"""This node on the mesh: whom it serves, where it buys, what it tells."""

from tirami.node.mesh.desk import EngineDesk
from tirami.node.mesh.guests import Guests
from tirami.node.mesh.service import MeshService, opened_mesh
from tirami.node.mesh.shop import Shop
from tirami.node.mesh.view import MeshView

__all__ = ["EngineDesk", "Guests", "MeshService", "MeshView", "Shop", "opened_mesh"]
