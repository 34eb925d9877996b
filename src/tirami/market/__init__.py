"""Ledger-as-Brain: who serves, at what price, and how an answer becomes a trade."""

from tirami.market.inference import DEFAULT_MAX_TOKENS, InferenceMarket, Order
from tirami.market.load import Load
from tirami.market.room import WaitingRoom
from tirami.market.session import VOUCHER_TOKENS, MeteredSession, Settlement
from tirami.market.tickets import Ticket, TicketOffice

__all__ = [
    "DEFAULT_MAX_TOKENS",
    "VOUCHER_TOKENS",
    "InferenceMarket",
    "Load",
    "MeteredSession",
    "Order",
    "Settlement",
    "Ticket",
    "TicketOffice",
    "WaitingRoom",
]
