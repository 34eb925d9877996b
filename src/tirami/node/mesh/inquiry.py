"""One request in search of a provider: whose context and price fit it, and what it is told when nobody's do."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from tirami.core.errors import ContextLengthExceeded, InvalidRequest, ModelNotFound, NoModel, TiramiError
from tirami.core.units import Trm
from tirami.infer import Prompt, Sampling
from tirami.market import DEFAULT_MAX_TOKENS, Provider
from tirami.net.session import IDLE_S, IMPATIENT_S
from tirami.node.chat import ChatCall

RETRY_AFTER_S: Final = 5
TRIES: Final = 3
"""Providers asked before a request is given up."""
TOKENIZERS: Final = 6
"""Different ones that a prompt is cut with before a request is given up."""
CALLS: Final = 6
"""Calls in vain before it asks only who is connected: whoever is made up uses up these, and no tries."""
CALLING_S: Final = 8.0
"""Of a request's time, after which none is begun either."""


class Inquiry:
    """Goes through providers, the best first, and passes over those that do not fit.

    Args:
        sampling: with ``max_tokens`` 0 for as many as there is room and money for; one token is the least of use.
        most: TRM the answer may cost (``mesh.max_trm``); 0 for no bound. An errand of the agent has its own beside it.
        found: providers, each looked for when it is asked for.
        connected: whether one is; who is not has to be called.
        estranged: connected peers that are not asked because clocks differ too much.

    Attributes:
        asked: providers that were reached, and gave an answer or failed.
    """

    def __init__(
        self,
        call: ChatCall,
        sampling: Sampling,
        most: Trm,
        found: Iterator[Provider],
        connected: Callable[[Provider], bool],
        estranged: int = 0,
    ) -> None:
        self.call = call
        self.sampling = sampling
        errand = call.errand
        self.most = most if errand is None else min(errand.most, most or errand.most)
        self.prompts: dict[bytes, Prompt] = {}
        """As each tokenizer cut it, by the tokenizer's digest; one not cut yet counts as one token."""
        self.misfits: list[Provider] = []
        self.asked = 0
        self._connected = connected
        self._estranged = estranged
        self._vain, self._vain_s = 0, 0.0
        self._found = found
        self._ahead: Provider | None = None

    @property
    def begun(self) -> bool:
        """Whether anybody was asked or called."""
        return bool(self.asked or self._vain)

    def next(self) -> Provider | None:
        """The next that fits, as far as is known; ``None`` when there is none left, or there were tries enough."""
        if self.asked >= TRIES or len(self.prompts) > TOKENIZERS:
            return None
        provider, self._ahead = self._ahead or next(self._found, None), None
        while provider is not None and not self._may_ask(provider):
            provider = next(self._found, None)
        return provider

    def has_more(self) -> bool:
        """Whether :meth:`next` would find one."""
        self._ahead = self.next()
        return self._ahead is not None

    def patience_s(self) -> float:
        """How long to wait for a provider that is connected, as things stand now: the less if others could be asked."""
        return IMPATIENT_S if self._home or (self.asked + 1 < TRIES and self.has_more()) else IDLE_S

    def call_patience_s(self) -> float:
        """The same of one that is called."""
        return IMPATIENT_S if self._home or self.has_more() else IDLE_S

    def called_in_vain(self, seconds: float) -> None:
        """A provider was not reached, in this time."""
        self._vain, self._vain_s = self._vain + 1, self._vain_s + seconds

    def _may_ask(self, provider: Provider) -> bool:
        if (here := self.call.here) is not None and provider.offering.tokenizer_digest != here.tokenizer_digest:
            return False  # its file is not the one it says: that one has this tokenizer
        if not self._connected(provider) and (self._vain >= CALLS or self._vain_s >= CALLING_S):
            return False
        if self.fits(provider):
            return True
        self.misfits.append(provider)
        return False

    def fits(self, provider: Provider, tokens: int | None = None) -> bool:
        """Whether prompt and answer fit its context, and the price what they may cost, as far as is known yet.

        ``tokens``: of the answer; the least of use by default.
        """
        return self._has_room(provider, tokens) and not (self.most and self._cost(provider, tokens) > self.most)

    def bounded(self, provider: Provider, funds: Trm | None) -> Sampling:
        """With a length: what was asked for, or the default, which context, funds and ``mesh.max_trm`` may shorten.

        Where this node can answer, too, only what would shorten it here does: its own context, and funds.
        """
        if self.sampling.max_tokens:
            return self.sampling
        here, prompt, price = self.call.here, self._prompt_tokens(provider), provider.candidate.price
        context = (here or provider.offering).context_length
        most = self.most if self.most and here is None else None
        within = [price.tokens_within(bound, prompt) for bound in (funds, most) if bound is not None]
        return replace(self.sampling, max_tokens=max(1, min(DEFAULT_MAX_TOKENS, context - prompt, *within)))

    def refusal(self, awaited: str = "") -> TiramiError:
        """What to say where nobody could be asked: which limit is in the way and the best on offer, or none was.

        ``awaited``: of whom more is to come; empty for nobody.
        """
        if not self.misfits:
            return unserved(self.call.model, self._estranged, awaited)
        roomy = [provider for provider in self.misfits if self._has_room(provider)]
        if not roomy:
            widest = max(self.misfits, key=lambda provider: provider.offering.context_length)
            prompt, context = self._prompt_tokens(widest), widest.offering.context_length
            return ContextLengthExceeded(
                f"{prompt} prompt tokens and {self._answer} of the answer exceed every context on offer,"
                f" the largest of {context} tokens",
                param="messages" if prompt >= context else "max_tokens",
                largest_context=context,
            )
        cheapest = min(map(self._cost, roomy))
        errand = self.call.errand
        bound = "mesh.max_trm is" if errand is None or errand.most > self.most else "this task may cost at most"
        return InvalidRequest(
            f"an answer of {self._answer} tokens costs {cheapest} TRM at the cheapest provider, and {bound}"
            f" {self.most}",
            param="max_tokens" if self.sampling.max_tokens else "messages",
            cheapest_trm=cheapest,
            max_trm=self.most,
        )

    @property
    def _home(self) -> bool:
        """Whether this node can answer, too."""
        return self.call.here is not None

    @property
    def _answer(self) -> int:
        return max(1, self.sampling.max_tokens)

    def _prompt_tokens(self, provider: Provider) -> int:
        prompt = self.prompts.get(provider.offering.tokenizer_digest)
        return prompt.count if prompt is not None else 1

    def _has_room(self, provider: Provider, tokens: int | None = None) -> bool:
        return self._prompt_tokens(provider) + (tokens or self._answer) <= provider.offering.context_length

    def _cost(self, provider: Provider, tokens: int | None = None) -> Trm:
        """Of the whole answer, at the price that was told."""
        return provider.candidate.cost(self._prompt_tokens(provider), tokens or self._answer)


def unserved(model: str | None, estranged: int, awaited: str) -> TiramiError:
    """What to say where a model is wanted that neither this node nor a peer serves; ``None`` is any.

    Args:
        estranged: connected peers that are not asked because clocks differ too much.
        awaited: of whom more is to come; empty for nobody.
    """
    whose, why = "", f": {awaited}" if awaited else ""
    if estranged:
        whose = " whose clock agrees with ours"
        why = f": those of {estranged} differ by more than an hour, see `tirami peers`"
    if model is None:
        return NoModel(f"no model is loaded, and no peer{whose} serves one{why}", retry_after=RETRY_AFTER_S)
    return ModelNotFound(f"the model {model!r} is neither installed nor served by a peer{whose}{why}", param="model")
