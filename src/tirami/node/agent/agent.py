"""The owner's agent of a running node: one loop that looks around, one judge of who is served, one runner of tasks."""

import asyncio
import secrets
from dataclasses import dataclass

import structlog

from tirami.core.config import AgentConfig
from tirami.core.keys import PublicKey
from tirami.core.units import MICRO, Ppm, UnixMs
from tirami.ledger import Ledger
from tirami.market import InferenceMarket
from tirami.mind import Action, Context, RejectServing, ServingRequest, StartEarning
from tirami.node.agent.errands import Assigned, Done, Errands
from tirami.node.agent.purse import Purse
from tirami.node.chat import Chat
from tirami.node.engines import EngineRoom
from tirami.node.membership import Membership
from tirami.node.payers import Payers

_log = structlog.get_logger()


@dataclass(slots=True)
class Stats:
    """Since the start. ``last_action``: what was decided last, for whomever."""

    ticks: int = 0
    last_action: str | None = None
    last_tick_ms: UnixMs | None = None


class Agent:
    """Decides for the owner, by :mod:`tirami.mind`, and acts.

    Its wallet is the node's own key: local tasks are the owner's own use, what it buys is paid as all that this node
    buys for its owner.
    """

    def __init__(
        self,
        config: AgentConfig,
        ledger: Ledger,
        market: InferenceMarket,
        chat: Chat,
        engines: EngineRoom,
        payers: Payers,
        membership: Membership,
    ) -> None:
        self._interval_s = config.tick_interval_s
        self._ledger = ledger
        self._engines = engines
        self._membership = membership
        self.stats = Stats()
        self.wallet = payers.node.key
        self.purse = Purse(ledger, self.wallet)
        self._errands = Errands(market, chat, engines, payers, self.purse, self._decide)

    # --- whom to serve -----------------------------------------------------------------------------------------

    @property
    def earns(self) -> bool:
        return self.purse.preferences.auto_earn_enabled

    def objection(self, payer: PublicKey) -> str | None:
        """Why this payer of another node is not served; ``None`` for no reason."""
        request = ServingRequest(payer, secrets.token_hex(8), self._membership.reputation(payer))
        action = self._decide(Context(self._ledger.now(), request=request))
        return action.reason if isinstance(action, RejectServing) else None

    # --- what the owner asks for -------------------------------------------------------------------------------

    def new_task_id(self) -> str:
        return f"agent-task-{self._ledger.now()}-{secrets.token_hex(4)}"

    async def run_task(self, assigned: Assigned) -> Done:
        """Raises what :meth:`Errands.run` does."""
        return await self._errands.run(assigned, self.context())

    # --- what it does by itself --------------------------------------------------------------------------------

    def context(self) -> Context:
        """What is the case on this node now."""
        room = self._engines.room
        return Context(
            now_ms=self._ledger.now(),
            utilization=Ppm(MICRO * room.running // room.slots if room.slots else 0),
            idle_s=int(self._engines.pool.idle_s),
            balance=self.purse.balance,
        )

    async def run(self) -> None:
        """Look around every ``agent.tick_interval_s`` seconds until cancelled. A look that fails is logged."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                self.tick()
            except Exception:
                _log.exception("agent_tick_failed")

    def tick(self) -> None:
        """Look around once and act on what is decided."""
        action = self._decide(self.context())
        self.stats.ticks += 1
        self.stats.last_tick_ms = self._ledger.now()
        if isinstance(action, StartEarning):
            self._engines.retry()

    def _decide(self, context: Context) -> Action:
        action = self.purse.agent.decide(context)
        self.stats.last_action = action.tag
        return action
