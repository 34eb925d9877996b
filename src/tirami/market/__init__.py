"""Ledger-as-Brain: who serves, at what price, and how an answer becomes a trade."""

from tirami.market.counterparts import Counterpart, Offered
from tirami.market.inference import DEFAULT_MAX_TOKENS, STOPPING_S, Estimate, InferenceMarket, Order
from tirami.market.load import Load
from tirami.market.meter import Meter, Unmetered
from tirami.market.registry import KnownPeer, PeerRegistry, Provider
from tirami.market.reputation import Reputation
from tirami.market.reservations import Reservation, Reservations
from tirami.market.room import WaitingRoom
from tirami.market.routing import Candidate, RouteMode, best, route_score, schedule_score, shown
from tirami.market.session import Interrupted, MeteredSession, Settlement
from tirami.market.tickets import Ticket, TicketOffice

__all__ = [
    "DEFAULT_MAX_TOKENS",
    "STOPPING_S",
    "Candidate",
    "Counterpart",
    "Estimate",
    "InferenceMarket",
    "Interrupted",
    "KnownPeer",
    "Load",
    "Meter",
    "MeteredSession",
    "Offered",
    "Order",
    "PeerRegistry",
    "Provider",
    "Reputation",
    "Reservation",
    "Reservations",
    "RouteMode",
    "Settlement",
    "Ticket",
    "TicketOffice",
    "Unmetered",
    "WaitingRoom",
    "best",
    "route_score",
    "schedule_score",
    "shown",
]
