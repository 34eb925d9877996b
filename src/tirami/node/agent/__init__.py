"""The owner's agent at work: it runs tasks within the owner's limits, judges who is served, and looks around."""

from tirami.node.agent.agent import Agent, Stats
from tirami.node.agent.errands import Assigned, Done, Errands
from tirami.node.agent.purse import Purse

__all__ = ["Agent", "Assigned", "Done", "Errands", "Purse", "Stats"]
