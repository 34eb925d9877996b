"""The owner's agent: what it may spend, and what it decides to do next. Pure; the clock and the book are told to it."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, Final

from tirami.core.keys import PublicKey
from tirami.core.units import DAY_MS, Ppm, Trm, UnixMs, ceil_div
from tirami.mind.preferences import Preferences

LOCAL_TOKENS: Final = 256
"""Longer answers are bought, unless the owner says where."""
TOKENS_A_TRM: Final = 100
"""Of an estimate nobody made."""
NOBODY: Final = "nobody is known who would do this"
"""Why the owner is asked where there is no provider."""


class TaskSize(StrEnum):
    """Where a task is to run. A hybrid one is bought too, but of a peer that the owner names only."""

    LOCAL = "local"
    REMOTE = "remote"
    HYBRID = "hybrid"


def default_size(max_tokens: int) -> TaskSize:
    return TaskSize.LOCAL if max_tokens <= LOCAL_TOKENS else TaskSize.REMOTE


def default_estimate(max_tokens: int) -> Trm:
    return Trm(max(1, ceil_div(max_tokens, TOKENS_A_TRM)))


@dataclass(frozen=True, slots=True)
class Task:
    """What the owner wants done.

    Attributes:
        estimate: the most it may cost.
        provider: who would be paid for it; ``None`` when nobody is there to ask.
        forbidden: why this node's own rules keep it from the peer that was named; ``None`` for no reason.
    """

    id: str
    size: TaskSize
    estimate: Trm
    provider: PublicKey | None = None
    forbidden: str | None = None


@dataclass(frozen=True, slots=True)
class ServingRequest:
    """Somebody wants to be served.

    Attributes:
        reputation: of the peer, 0 … 10⁶.
        passes_filter: whether its prompt may be answered.
        reward: TRM it would pay; 0 where that is not known yet.
    """

    peer: PublicKey
    task_id: str
    reputation: Ppm
    passes_filter: bool = True
    reward: Trm = Trm(0)


@dataclass(frozen=True, slots=True)
class Context:
    """What is the case when the agent decides.

    Attributes:
        utilization: share of the node's places in use, 0 … 10⁶.
        idle_s: seconds since anything was served.
        balance: TRM the node's key could promise now.
    """

    now_ms: UnixMs
    utilization: Ppm = Ppm(0)
    idle_s: int = 0
    balance: Trm = Trm(0)
    request: ServingRequest | None = None
    task: Task | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """One day's sums in TRM. ``reserved`` is what tasks under way may still cost, beside what was ``spent``."""

    day_started_ms: UnixMs
    spent: Trm = Trm(0)
    reserved: Trm = Trm(0)
    earned: Trm = Trm(0)

    @property
    def net(self) -> int:
        return self.earned - self.spent

    @property
    def committed(self) -> Trm:
        return Trm(self.spent + self.reserved)

    def on(self, now_ms: UnixMs) -> "Tally":
        """As it stands on the day of ``now_ms``: a new day begins with nothing but what is still under way."""
        days = max(0, now_ms - self.day_started_ms) // DAY_MS
        return self if not days else Tally(UnixMs(self.day_started_ms + days * DAY_MS), reserved=self.reserved)


@dataclass(frozen=True, slots=True)
class RejectServing:
    tag: ClassVar[str] = "reject_serve"
    reason: str


@dataclass(frozen=True, slots=True)
class ServeRequest:
    tag: ClassVar[str] = "serve"
    peer: PublicKey
    task_id: str
    reward: Trm


@dataclass(frozen=True, slots=True)
class RunLocal:
    tag: ClassVar[str] = "run_local"
    task_id: str


@dataclass(frozen=True, slots=True)
class AskUser:
    tag: ClassVar[str] = "ask_user"
    task_id: str
    reason: str
    cost: Trm


@dataclass(frozen=True, slots=True)
class Refused:
    tag: ClassVar[str] = "refused"
    task_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunRemote:
    tag: ClassVar[str] = "run_remote"
    task_id: str
    provider: PublicKey
    cost: Trm


@dataclass(frozen=True, slots=True)
class StartEarning:
    tag: ClassVar[str] = "start_earning"


@dataclass(frozen=True, slots=True)
class Idle:
    tag: ClassVar[str] = "idle"


Action = RejectServing | ServeRequest | RunLocal | AskUser | Refused | RunRemote | StartEarning | Idle


@dataclass(frozen=True, slots=True)
class PersonalAgent:
    """Preferences and the day so far."""

    preferences: Preferences
    tally: Tally

    def can_auto_spend(self, amount: Trm) -> bool:
        """Whether one task may cost this, and the day has it left."""
        return self._beyond(amount) is None

    def spending(self, amount: Trm) -> "PersonalAgent":
        """After this was spent."""
        return replace(self, tally=replace(self.tally, spent=Trm(self.tally.spent + amount)))

    def earning(self, amount: Trm) -> "PersonalAgent":
        """After this was earned."""
        return replace(self, tally=replace(self.tally, earned=Trm(self.tally.earned + amount)))

    def approval_needed(self, task: Task) -> str | None:
        """Why the owner is asked first; ``None`` for no reason."""
        if not self.preferences.auto_spend_enabled and task.size is not TaskSize.LOCAL:
            return "auto_spend_enabled is off, so nothing is bought without asking"
        return self._beyond(task.estimate)

    def decide(self, context: Context) -> Action:
        """What to do now. The day rolls first: a task of a new day finds a new tally (weak spot 31 of the original)."""
        agent = replace(self, tally=self.tally.on(context.now_ms))
        if context.request is not None:
            return agent._judged(context.request)
        if context.task is not None:
            return agent._assigned(context.task, context.balance)
        wanted = self.preferences
        idle = context.utilization <= wanted.idle_utilization_threshold and context.idle_s >= wanted.idle_grace_seconds
        return StartEarning() if wanted.auto_earn_enabled and idle else Idle()

    def _judged(self, request: ServingRequest) -> Action:
        if not self.preferences.auto_earn_enabled:
            return RejectServing("this node's owner lets it serve nobody now (auto_earn_enabled is off)")
        if request.reputation < self.preferences.min_peer_reputation:
            least = _fraction(self.preferences.min_peer_reputation)
            return RejectServing(
                f"a reputation of {_fraction(request.reputation)} is below {least}, the least served here"
            )
        if not request.passes_filter:
            return RejectServing("the prompt does not pass this node's filter")
        return ServeRequest(request.peer, request.task_id, request.reward)

    def _assigned(self, task: Task, balance: Trm) -> Action:
        if task.size is TaskSize.LOCAL:
            return RunLocal(task.id)
        if task.forbidden is not None:
            return Refused(task.id, task.forbidden)
        reason = self.approval_needed(task)
        if reason is None and balance < task.estimate:
            reason = f"the node can spend {balance} TRM, and this may cost {task.estimate}"
        if reason is None and task.provider is None:
            reason = NOBODY
        if reason is not None or task.provider is None:
            return AskUser(task.id, reason or "", task.estimate)
        return RunRemote(task.id, task.provider, task.estimate)

    def _beyond(self, amount: Trm) -> str | None:
        """Which limit this is beyond."""
        limits, tally = self.preferences, self.tally
        if amount > limits.per_task_budget_trm:
            return f"{amount} TRM are more than the per-task budget of {limits.per_task_budget_trm}"
        if tally.committed + amount > limits.daily_spend_limit_trm:
            return (
                f"{amount} TRM more than {tally.committed} spent and reserved today are beyond the daily limit of"
                f" {limits.daily_spend_limit_trm}"
            )
        return None


def _fraction(ppm: Ppm) -> str:
    """0.25 for 250 000, with as many decimals as it takes."""
    whole, rest = divmod(ppm, 1_000_000)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
