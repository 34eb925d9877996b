"""This node's place on the mesh, for whoever shows or commands it. A node without a mesh loads nothing of it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tirami.core.units import Ppm
from tirami.market.reputation import START
from tirami.node.alerts import Alert

if TYPE_CHECKING:
    from tirami.net.kills import Kills
    from tirami.node.mesh.guests import Guests
    from tirami.node.mesh.handover import Handover
    from tirami.node.mesh.view import MeshView


@dataclass(slots=True)
class Membership:
    """``None`` each while this node is on no mesh.

    Attributes:
        kills: freezes, or releases, all nodes of this operator.
        claims: ids of what running sessions of strangers will settle.
        alarms: what the mesh has to tell the operator, by code, until the next start.
    """

    guests: "Guests | None" = None
    view: "MeshView | None" = None
    kills: "Kills | None" = None
    handover: "Handover | None" = None
    claims: Callable[[], Collection[bytes]] = tuple
    alarms: dict[str, Alert] = field(default_factory=dict)

    def reputation(self, key: bytes) -> Ppm:
        """What this node holds of a key; off the mesh, what everybody starts with."""
        return START if self.view is None else self.view.reputation(key)

    @property
    def mean_reputation(self) -> Ppm:
        """Over those of whom something is known; off the mesh, what everybody starts with."""
        return START if self.view is None else self.view.mean_reputation

    def leave(self) -> None:
        self.guests = self.view = self.kills = self.handover = None
