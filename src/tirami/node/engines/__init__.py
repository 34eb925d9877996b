"""The engines of a node: which models there are, which are in memory, and who may use them."""

from tirami.infer import Progress
from tirami.node.engines.loader import Loader
from tirami.node.engines.pool import Occupancy, Place, Pool, Served
from tirami.node.engines.pulls import Pull, Pulls, PullState
from tirami.node.engines.room import EngineRoom

__all__ = [
    "EngineRoom",
    "Loader",
    "Occupancy",
    "Place",
    "Pool",
    "Progress",
    "Pull",
    "PullState",
    "Pulls",
    "Served",
]
