"""Who is shown every record of the network: the watch for frauds, and what counts who trades with whom."""

from dataclasses import dataclass

from tirami.core.keys import sha256
from tirami.ledger import Ledger
from tirami.market import Reputation
from tirami.net.watch import Watch
from tirami.proto import Envelope, Trade, decode


@dataclass(frozen=True, slots=True)
class Onlookers:
    """A :class:`~tirami.net.gossip.Onlooker` for both."""

    watch: Watch
    ledger: Ledger
    reputation: Reputation

    def see(self, record: Envelope) -> None:
        """A trade nothing covers weighs nothing: whoever cannot pay would be an observer for free."""
        self.watch.see(record)
        if record.kind == "trade" and self.ledger.state.book.is_applied(sha256(Trade.TAG, record.body)):
            self.reputation.traded(decode(Trade, record.body))
