"""One request in search of a provider: whose context and price fit it, and what it is told when nobody's do."""

from collections.abc import Iterator
from typing import Final

from tirami.core.errors import ContextLengthExceeded, InvalidRequest, ModelNotFound, NoModel, TiramiError
from tirami.core.units import Trm
from tirami.infer import Prompt, Sampling
from tirami.market import Provider
from tirami.node.chat import ChatCall

RETRY_AFTER_S: Final = 5


class Inquiry:
    """Goes through providers, the best first, and passes over those that do not fit.

    Args:
        sampling: with ``max_tokens`` 0 for as many as there is room and money for; one token is the least of use.
        most: TRM the answer may cost (``mesh.max_trm``); 0 for no bound.
        found: providers, each looked for when it is asked for.
    """

    def __init__(self, call: ChatCall, sampling: Sampling, most: Trm, found: Iterator[Provider]) -> None:
        self.call = call
        self.sampling = sampling
        self.most = most
        self.prompts: dict[bytes, Prompt] = {}
        """As each tokenizer cut it, by the tokenizer's digest; one not cut yet counts as one token."""
        self.misfits: list[Provider] = []
        self._found = found
        self._ahead: Provider | None = None

    def next(self) -> Provider | None:
        """The next that fits, as far as is known; ``None`` when there is none left."""
        provider, self._ahead = self._ahead or next(self._found, None), None
        while provider is not None and not self.fits(provider):
            self.misfits.append(provider)
            provider = next(self._found, None)
        return provider

    def has_more(self) -> bool:
        """Whether :meth:`next` would find one."""
        self._ahead = self.next()
        return self._ahead is not None

    def fits(self, provider: Provider) -> bool:
        """Whether prompt and answer fit its context, and the price what they may cost, as far as is known yet."""
        return self._has_room(provider) and not (self.most and self._cost(provider) > self.most)

    def refusal(self) -> TiramiError:
        """What to say where nobody could be asked: which limit is in the way and the best on offer, or none was."""
        if not self.misfits:
            return self._unserved()
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
        return InvalidRequest(
            f"an answer of {self._answer} tokens costs {cheapest} TRM at the cheapest provider, and mesh.max_trm is"
            f" {self.most}",
            param="max_tokens" if self.sampling.max_tokens else "messages",
            cheapest_trm=cheapest,
            max_trm=self.most,
        )

    def _unserved(self) -> TiramiError:
        if self.call.model is None:
            return NoModel("no model is loaded, and no peer serves one", retry_after=RETRY_AFTER_S)
        message = f"the model {self.call.model!r} is neither installed nor served by a peer"
        return ModelNotFound(message, param="model")

    @property
    def _answer(self) -> int:
        return max(1, self.sampling.max_tokens)

    def _prompt_tokens(self, provider: Provider) -> int:
        prompt = self.prompts.get(provider.offering.tokenizer_digest)
        return prompt.count if prompt is not None else 1

    def _has_room(self, provider: Provider) -> bool:
        return self._prompt_tokens(provider) + self._answer <= provider.offering.context_length

    def _cost(self, provider: Provider) -> Trm:
        """Of the whole answer, at the price that was told."""
        return provider.candidate.cost(self._prompt_tokens(provider), self._answer)
