"""What the owner asks the agent to do: decided, paid for within its limits, done here or by a peer."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from tirami.core.errors import InvalidRequest, ModelNotFound, NoModel
from tirami.core.keys import PublicKey
from tirami.core.units import Trm
from tirami.market import InferenceMarket
from tirami.mind import NOBODY, Action, AskUser, Context, RunLocal, RunRemote, Task, TaskSize
from tirami.node.agent.purse import Purse
from tirami.node.answer import Answer, written
from tirami.node.chat import Chat, ChatCall, Errand
from tirami.node.engines import EngineRoom
from tirami.node.payers import Payers

TEMPERATURE: Final = 0.7
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Assigned:
    """A task as the owner gives it.

    Attributes:
        id: names the task in the journal; no two have the same.
        model: ``None`` for any.
        estimate: TRM it may cost, at least 1.
        peer: who is to do it; ``None`` for whoever is best.
        permit: the approval it shows, empty for none.
    """

    id: str
    prompt: str
    max_tokens: int
    model: str | None
    size: TaskSize
    estimate: Trm
    peer: PublicKey | None = None
    permit: bytes = b""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a task; ``answer`` where it was run."""

    action: Action
    answer: Answer[str] | None = None


class Errands:
    """Runs tasks, each in the call of who assigned it.

    Args:
        decide: the agent's decision, noted.
    """

    def __init__(
        self,
        market: InferenceMarket,
        chat: Chat,
        engines: EngineRoom,
        payers: Payers,
        purse: Purse,
        decide: Callable[[Context], Action],
    ) -> None:
        self._market = market
        self._chat = chat
        self._engines = engines
        self._payers = payers
        self._purse = purse
        self._decide = decide

    async def run(self, assigned: Assigned, context: Context) -> Done:
        """Decide and act, or say why the owner is asked. What was bought before the caller gave up is paid.

        Raises ``SpendDenied``, also where nothing would have been bought, and what :meth:`Chat.answer` and
        :meth:`Chat.bought` do.
        """
        self._market.check(self._payers.owner)
        provider, forbidden = self._provider(assigned), self._forbidden(assigned)
        task = Task(assigned.id, assigned.size, assigned.estimate, provider, forbidden)
        action = self._decide(replace(context, task=task))
        if isinstance(action, RunRemote):
            with self._purse.aside(task.id, task.estimate):  # in the step of the decision: nobody decides in between
                done = await self._remote(action, assigned)
        elif isinstance(action, RunLocal):
            done = Done(action, await self._local(assigned))
        elif isinstance(action, AskUser) and action.reason == NOBODY:
            done = Done(replace(action, reason=f"{NOBODY}: {self._why_nobody(assigned)}"))
        else:
            done = Done(action)
        _log.info("agent_task", task=assigned.id, action=done.action.tag)
        return done

    def _provider(self, assigned: Assigned) -> PublicKey | None:
        """Who would be asked first. A hybrid task is bought of a peer that the owner names only."""
        shop = self._chat.shop
        if assigned.size is TaskSize.LOCAL or shop is None or not shop.open:
            return None
        if assigned.size is TaskSize.HYBRID and assigned.peer is None:
            return None
        call = self._call(assigned, Errand(assigned.estimate, assigned.peer))
        found = next(filter(call.may_ask, shop.providers(call.model, assigned.max_tokens)), None)
        return PublicKey(found.peer.signal.node) if found is not None else None

    def _forbidden(self, assigned: Assigned) -> str | None:
        shop = self._chat.shop
        return None if shop is None or assigned.peer is None else shop.refusal(assigned.peer)

    def _why_nobody(self, assigned: Assigned) -> str:
        shop = self._chat.shop
        if shop is None:
            return "this node is on no mesh (mesh.enabled)"
        if not shop.open:
            return "no prompt leaves this machine (mesh.consume = off)"
        if assigned.peer is not None:
            return shop.objection(assigned.peer) or "the peer does not offer it now"
        if assigned.size is TaskSize.HYBRID:
            return "name a peer for it"
        return "no peer offers it now"

    async def _local(self, assigned: Assigned) -> Answer[str]:
        """On this node's own engines, or not at all: what is bought is the day's, and this is not."""
        return await self._chat.answer(replace(self._call(assigned), own=True), written)

    async def _remote(self, action: RunRemote, assigned: Assigned) -> Done:
        """Of a peer, for its estimate at most; the owner is asked where nobody does it for that."""
        errand = Errand(assigned.estimate, assigned.peer)
        try:
            answer = await self._chat.bought(self._call(assigned, errand), written)
        except (ModelNotFound, NoModel) as error:  # whoever was there a moment ago is not any more
            return Done(AskUser(assigned.id, f"{NOBODY}: {error.message}", assigned.estimate))
        except InvalidRequest as error:
            if not isinstance(cheapest := error.data.get("cheapest_trm"), int):
                raise
            return Done(AskUser(assigned.id, error.message, Trm(cheapest)))
        return Done(replace(action, provider=answer.ticket.provider), answer)

    def _call(self, assigned: Assigned, errand: Errand | None = None) -> ChatCall:
        return ChatCall(
            payer=replace(self._payers.owner, permit=assigned.permit),
            model=assigned.model,
            messages=[{"role": "user", "content": assigned.prompt}],
            max_tokens=assigned.max_tokens,
            temperature=TEMPERATURE,
            top_p=1.0,
            top_k=0,
            seed=None,
            request_id=assigned.id,
            errand=errand,
        )
