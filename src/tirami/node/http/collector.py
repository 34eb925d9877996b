"""What ``GET /metrics`` says: the book's running totals and the node's switches, read when they are asked for.

Nothing here walks the book: every figure is a counter the ledger keeps, except those of the last 24 hours, which cost
what is new since the last scrape. The 20 names of the original are kept (spec 02 §24); ``docs/metrics.md`` lists all.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from tirami.core.keys import PublicKey
from tirami.core.units import MICRO
from tirami.ledger import Circuit
from tirami.ledger.supply import epoch_of, supply_factor, yield_rate
from tirami.node.home import journal_path
from tirami.node.parts import Parts
from tirami.node.version import VERSION

PEERS = 20
"""Keys with series of their own, beside this node's: those with the most trades of the last 24 hours."""
Sample = tuple[tuple[str, ...], float]
"""Label values and value of one sample."""
_COLLUSION = ("tight_cluster_score", "volume_spike_score", "round_robin_score", "trust_penalty")


@dataclass(frozen=True, slots=True)
class Institutions:
    """What lending, staking, referral and governance report: their counts, all zero while a node has none of them."""

    active_loans: int = 0
    pool_total: int = 0
    pool_available: int = 0
    staked: int = 0
    referral_bonus: int = 0
    active_proposals: int = 0
    votes: int = 0


class NodeCollector:
    """A Prometheus collector over one node.

    Args:
        account: the caller's own when it speaks for one; then no other key has series.
    """

    def __init__(self, parts: Parts, account: PublicKey | None = None) -> None:
        self._parts = parts
        self._account = account

    def collect(self) -> Iterator[Metric]:
        """Every family, the instruments' included; names without samples where nobody measures yet."""
        for families in (
            self._process(),
            self._accounts(),
            self._economy(),
            self._institutions(Institutions()),
            self._book(),
            self._safety(),
            self._engines(),
            self._prices(),
            self._mesh(),
            map(_without_created, self._parts.meter.registry.collect()),
        ):
            yield from families

    def _process(self) -> Iterator[Metric]:
        parts = self._parts
        yield gauge("process_started_at_secs", "Unix time of the start.", parts.started_ms / 1000)
        uptime = (parts.ledger.now() - parts.started_ms) / 1000
        yield gauge("process_uptime_secs", "Seconds since the start.", uptime)
        yield gauge("protocol_version", "Version of the protocol.", 1)
        yield gauge("build_info", "Always 1; the version is its label.", ("version",), [((VERSION,), 1)])

    def _accounts(self) -> Iterator[Metric]:
        """Per key: bounded, and gone again a day after a key's last trade."""
        parts, label = self._parts, ("node_id",)
        keys = [self._account] if self._account else [parts.key.public_key, *parts.activity.parties(PEERS)]
        keys = list(dict.fromkeys(keys))  # this node may be one of the parties
        named = {(key.hex(),): parts.ledger.balance(key) for key in keys}
        income = [(key, balance.income) for key, balance in named.items()]
        spent = [(key, balance.spent) for key, balance in named.items()]
        yield gauge("cu_contributed_total", "TRM a key has earned.", label, income)
        yield gauge("cu_consumed_total", "TRM a key has spent.", label, spent)
        held = [((key.hex(),), parts.membership.reputation(key) / MICRO) for key in keys]
        yield gauge("reputation", "Reputation, 0 to 1.", label, held)
        for name in _COLLUSION:
            yield gauge(f"collusion_{name}", "Needs a detector; this version has none.", label, ())

    def _economy(self) -> Iterator[Metric]:
        book, state = self._parts.ledger.state.book, self._parts.ledger.state
        network, local = state.network_totals, state.local_totals
        yield counter("trade_count_total", "Trades ever booked.", network.trades + local.trades)
        yield gauge("total_minted", "TRM issued.", book.minted)
        yield gauge("total_burned", "TRM destroyed.", book.burned)
        yield gauge("supply_factor", "Share of the cap not issued yet.", round(float(supply_factor(book.minted)), 9))
        yield gauge("current_epoch", "Halvings of the yield so far.", epoch_of(book.minted))
        yield gauge("yield_rate", "Yield an hour in this epoch.", round(float(yield_rate(book.minted)), 9))
        label = ("scope",)
        for name, meaning, figures in (
            ("trades_total", "Trades booked.", (network.trades, local.trades)),
            ("trade_volume_trm_total", "TRM moved by trades.", (network.volume, local.volume)),
            ("flop_total", "FLOP of all trades.", (network.flop, local.flop)),
            ("completion_tokens_total", "Tokens sold.", (network.tokens, local.tokens)),
        ):
            yield counter(name, meaning, label, zip((("network",), ("local",)), figures, strict=True))
        yield gauge("network_keys", "Keys that ever traded.", len(network.parties))
        yield gauge("credit_drawn_trm", "Credit in use.", book.drawn)

    def _institutions(self, now: Institutions) -> Iterator[Metric]:
        yield gauge("active_loan_count", "Loans running.", now.active_loans)
        yield gauge("pool_total_trm", "TRM in the lending pool.", now.pool_total)
        reserve = now.pool_available / now.pool_total if now.pool_total else 1.0
        yield gauge("pool_reserve_ratio", "Share of the lending pool not lent; 1 when it is empty.", reserve)
        yield gauge("total_staked", "TRM staked.", now.staked)
        yield gauge("referral_bonus_minted", "TRM issued as referral bonus.", now.referral_bonus)
        yield gauge("active_proposals", "Proposals open for votes.", now.active_proposals)
        yield gauge("total_votes", "Votes over all proposals.", now.votes)

    def _book(self) -> Iterator[Metric]:
        ledger, state, published = self._parts.ledger, self._parts.ledger.state, self._parts.heads.published
        yield gauge("book_imbalance_trm", "Sum over all accounts; anything but 0 is an alarm.", state.book.total)
        yield gauge("log_size", "Leaves of the log.", state.log.size)
        yield gauge(
            "published_head_size", "Leaves under the newest signed head.", published.head.size if published else 0
        )
        yield gauge("journal_entries", "Entries of the journal.", ledger.seq)
        yield gauge("journal_bytes", "Size of the journal on disk.", self._journal_bytes())
        held = sum(hold.opened.ceiling for hold in state.holds.open.values())
        yield gauge("open_holds", "Sessions whose payer has promised and not yet paid.", len(state.holds.open))
        yield gauge("held_trm", "TRM promised by open sessions.", held)
        yield gauge("hosted_accounts", "Accounts whose keys this node keeps.", len(state.settings.accounts))
        yield gauge("tokens_issued", "Tokens not revoked.", len(state.settings.tokens))

    def _journal_bytes(self) -> int:
        journal, size = journal_path(self._parts.config), 0
        for path in (journal, journal.with_name(journal.name + "-wal")):
            with suppress(OSError):
                size += path.stat().st_size
        return size

    def _safety(self) -> Iterator[Metric]:
        ledger = self._parts.ledger
        kill = ledger.gate.kill
        yield gauge("kill_switch_active", "1 while all spending is frozen.", kill is not None and kill.active)
        yield gauge("spending_halted", "1 when the node stopped spending by itself.", ledger.gate.halted is not None)
        now = ledger.now()
        open_ones = sum(books.breaker.circuit(now) is not Circuit.CLOSED for books in ledger.state.holds.all_books())
        yield gauge("breakers_open", "Accounts whose circuit breaker is not closed.", open_ones)
        yield gauge("storage_writable", "0 when the journal cannot be written.", ledger.writable)
        yield gauge("book_checked_secs", "Unix time the book was last added up anew.", ledger.checked_ms / 1000)

    def _engines(self) -> Iterator[Metric]:
        parts, label = self._parts, ("model",)
        now = [((engine.card.name,), engine.status()) for engine in parts.engines.loaded]
        yield gauge("engine_ready", "1 while it takes requests.", label, [(key, to.ready) for key, to in now])
        yield gauge("engine_slots", "Answers at once.", label, [(key, to.slots) for key, to in now])
        yield gauge("engine_busy", "Slots in use.", label, [(key, to.busy) for key, to in now])
        yield counter(
            "engine_restarts_total", "Times the engine was replaced.", label, [(key, to.restarts) for key, to in now]
        )
        speeds = [(key, parts.meter.speed(key[0])) for key, _ in now]
        known = [(key, speed) for key, speed in speeds if speed is not None]
        yield gauge("engine_tokens_per_second", "Speed of recent answers, smoothed.", label, known)
        room = parts.engines.room
        yield gauge("requests_running", "Requests at an engine.", room.running)
        yield gauge("requests_waiting", "Requests waiting for a place.", room.waiting)
        yield gauge("tokens_running", "Tokens of answers that have not ended.", parts.market.tokens_running)

    def _prices(self) -> Iterator[Metric]:
        parts = self._parts
        yield gauge(
            "demand_factor", "Load that moves the price, smoothed; 1 is a full engine.", parts.load.demand / MICRO
        )
        prices: list[Sample] = []
        for engine in parts.engines.loaded:
            price = parts.load.price(engine.card.active_parameters)
            prices.append(((engine.card.name, "prompt"), price.prompt / MICRO))
            prices.append(((engine.card.name, "completion"), price.completion / MICRO))
        yield gauge("price_trm", "TRM a token.", ("model", "tokens"), prices)
        middle = parts.activity.price_median()
        known: list[Sample] = [] if middle is None else [((), middle)]
        yield gauge("trm_per_gflop_median_24h", "Median of TRM × 10⁹ ÷ FLOP over a day's trades.", (), known)

    def _mesh(self) -> Iterator[Metric]:
        """All 0 off the mesh. No series of a peer: keys cost nothing, and anybody may have many."""
        view, settings = self._parts.membership.view, self._parts.ledger.state.settings
        now = (view.selling_now, view.buying_now) if view else (0, 0)
        ever = (view.sold, view.bought) if view else (0, 0)
        records = view.records if view else (0, 0)
        sides = (("sold",), ("bought",))
        yield gauge("mesh_enabled", "1 while this node is on the mesh.", view is not None)
        yield gauge("mesh_peers", "Peers connected.", view.connected if view else 0)
        yield gauge("mesh_signals", "Keys with a price signal.", view.signals if view else 0)
        yield gauge("mesh_selling_paused", "1 while strangers are not served.", settings.paused)
        label = ("side",)
        yield gauge("mesh_sessions_running", "Sessions with other nodes.", label, zip(sides, now, strict=True))
        yield counter("mesh_sessions_total", "Sessions sold, and bought.", label, zip(sides, ever, strict=True))
        ways = (("taken",), ("passed_on",))
        told = zip(ways, records, strict=True)
        yield counter("mesh_records_total", "Records of peers booked, copies passed on.", ("way",), told)
        yield gauge("convicted_keys", "Keys with a fraud proof against them.", len(settings.convicted))


def gauge(name: str, meaning: str, labels: tuple[str, ...] | float, samples: Iterable[Sample] = ()) -> Metric:
    """``tirami_{name}``: one sample for each set of label values; a number instead of labels is the only sample."""
    return _filled(GaugeMetricFamily, name, meaning, labels, samples)


def counter(name: str, meaning: str, labels: tuple[str, ...] | float, samples: Iterable[Sample] = ()) -> Metric:
    """The same for a counter; ``name`` ends in ``_total``."""
    return _filled(CounterMetricFamily, name, meaning, labels, samples)


def _filled(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    meaning: str,
    labels: tuple[str, ...] | float,
    samples: Iterable[Sample],
) -> Metric:
    if not isinstance(labels, tuple):
        return kind(f"tirami_{name}", meaning, value=float(labels))
    family = kind(f"tirami_{name}", meaning, labels=labels)
    for key, value in samples:
        family.add_metric(key, float(value))
    return family


def _without_created(family: Metric) -> Metric:
    """Drops when a series began: twice the series for what nobody asks."""
    kept = Metric(family.name, family.documentation, family.type, family.unit)
    kept.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
    return kept
