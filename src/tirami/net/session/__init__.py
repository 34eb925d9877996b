"""One answer between two nodes: quote, acceptance, chunks and vouchers, settlement (ARCHITECTURE §5)."""

from tirami.net.session.consumer import Purchase, purchase
from tirami.net.session.counted import Canon
from tirami.net.session.desk import Desk, Terms
from tirami.net.session.provider import Provider
from tirami.net.session.quoted import Wanted
from tirami.net.session.sale import Sale
from tirami.net.session.terms import ASKS, IDLE_S, IMPATIENT_S, SESSION_S

__all__ = [
    "ASKS",
    "IDLE_S",
    "IMPATIENT_S",
    "SESSION_S",
    "Canon",
    "Desk",
    "Provider",
    "Purchase",
    "Sale",
    "Terms",
    "Wanted",
    "purchase",
]
