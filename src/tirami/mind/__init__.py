"""What the node's agent may do by itself, and what it decides: pure, over what it is told.

Nothing here asks, pays or waits; :mod:`tirami.node.agent` acts on what is decided.
"""

from tirami.mind.personal import (
    NOBODY,
    Action,
    AskUser,
    Context,
    Idle,
    PersonalAgent,
    Refused,
    RejectServing,
    RunLocal,
    RunRemote,
    ServeRequest,
    ServingRequest,
    StartEarning,
    Tally,
    Task,
    TaskSize,
    default_estimate,
    default_size,
)
from tirami.mind.preferences import Preferences

__all__ = [
    "NOBODY",
    "Action",
    "AskUser",
    "Context",
    "Idle",
    "PersonalAgent",
    "Preferences",
    "Refused",
    "RejectServing",
    "RunLocal",
    "RunRemote",
    "ServeRequest",
    "ServingRequest",
    "StartEarning",
    "Tally",
    "Task",
    "TaskSize",
    "default_estimate",
    "default_size",
]
