"""Ledger-as-Brain: who serves, at what price, and how an answer becomes a trade."""

from tirami.market.inference import DEFAULT_MAX_TOKENS, STOPPING_S, InferenceMarket, Order
from tirami.market.load import Load
from tirami.market.meter import Meter, Unmetered
from tirami.market.room import WaitingRoom
from tirami.market.session import Interrupted, MeteredSession, Settlement
from tirami.market.tickets import Ticket, TicketOffice

__all__ = [
    "DEFAULT_MAX_TOKENS",
    "STOPPING_S",
    "InferenceMarket",
    "Interrupted",
    "Load",
    "Meter",
    "MeteredSession",
    "Order",
    "Settlement",
    "Ticket",
    "TicketOffice",
    "Unmetered",
    "WaitingRoom",
]
