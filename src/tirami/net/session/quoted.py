"""What a payer asks one provider for, and the check that a quote says just that (PROTOCOL B10)."""

from dataclasses import dataclass

from tirami.core.clock import APART_MS, apart
from tirami.core.errors import BadQuote, NonCanonical
from tirami.core.keys import Digest, PublicKey, Signature, sha256, verify
from tirami.infer import CountedBy, ModelCard, ModelSize, Prompt, Sampling, flop
from tirami.ledger import Price
from tirami.proto import Ask, NetworkFile, Offer, Quote, decode, prompt_hash
from tirami.proto.message import MAX_LABEL

LONGEST_MS = 120_000
"""How long a quote may ask to be waited for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a payer wants from one provider.

    Attributes:
        provider: whose key must sign the quote.
        prompt: rendered and cut by the payer.
        most: the price above which it is not wanted.
        size: of the model, as its metadata block has it; ``None`` believes the provider.
    """

    network: NetworkFile
    provider: PublicKey
    payer: PublicKey
    model_digest: Digest
    tokenizer_digest: Digest
    prompt: Prompt
    sampling: Sampling
    most: Price
    request_id: str
    size: ModelSize | None = None


def wire_id(request_id: str) -> str:
    """An id as it stands in an :class:`Ask`: the same one each time, and another for every other id.

    HTTP allows 128 characters and the wire 64: of a longer one its beginning, for the reader of a log, and half a hash.
    """
    if len(request_id) <= MAX_LABEL:
        return request_id
    hashed = sha256(request_id.encode()).hex()[:32]
    return f"{request_id[: MAX_LABEL - 1 - len(hashed)]}-{hashed}"


def checked_quote(wanted: Wanted, ask: Ask, offer: Offer, secret: bytes, now_ms: int) -> Quote:
    """The quote says what was asked, under the provider's signature. Raises ``BadQuote``."""
    try:
        quote = decode(Quote, offer.quote.body)
    except NonCanonical as error:
        raise BadQuote(f"this is no quote: {error.message}", param="quote") from error
    if abs(quote.at_ms - now_ms) > APART_MS:
        raise BadQuote(f"the quote's clock is {apart(quote.at_ms - now_ms)} ours", param="at_ms")
    prompt = wanted.prompt
    hashed = prompt_hash(secret, prompt.tokens, "", ask.shaping)
    for good, field in (
        (quote.network == wanted.network.id, "network"),
        (quote.scope == 0, "scope"),
        (quote.provider == wanted.provider, "provider"),
        (quote.payer == wanted.payer, "payer"),
        (quote.model_digest == wanted.model_digest, "model_digest"),
        (quote.tokenizer_digest == wanted.tokenizer_digest, "tokenizer_digest"),
        (quote.prompt_tokens == len(prompt.tokens), "prompt_tokens"),
        (quote.prompt_hash == hashed, "prompt_hash"),
        (quote.max_tokens == ask.max_tokens, "max_tokens"),
        (quote.seed == ask.seed, "seed"),
        (quote.temperature_ppm == ask.temperature_ppm, "temperature_ppm"),
        (quote.top_p_ppm == ask.top_p_ppm, "top_p_ppm"),
        (quote.top_k == ask.top_k, "top_k"),
        (quote.price_in <= ask.max_price_in, "price_in"),
        (quote.price_out <= ask.max_price_out, "price_out"),
        (0 < quote.lifetime_ms <= LONGEST_MS, "lifetime_ms"),
        (flop(card_of(quote, offer), quote.prompt_tokens, quote.max_tokens) < 1 << 64, "model"),
    ):
        if not good:
            raise BadQuote(f"the quote says something else than was asked: {field}", param=field)
    if wanted.size is not None and (other := wanted.size.contradicted(offer.model)) is not None:
        raise BadQuote(f"the model's own metadata says something else than the provider: {other}", param=other)
    if not verify(PublicKey(quote.provider), Signature(offer.quote.signature), Quote.TAG + offer.quote.body):
        raise BadQuote("the provider's signature under its quote does not verify", param="signature")
    return quote


def card_of(quote: Quote, offer: Offer) -> ModelCard:
    """The model as quote and offer describe it."""
    facts = offer.model
    return ModelCard(
        name=facts.name,
        digest=Digest(quote.model_digest),
        tokenizer_digest=Digest(quote.tokenizer_digest),
        context_length=facts.context_length,
        parameters=facts.parameters,
        active_parameters=facts.active_parameters,
        layers=facts.layers,
        hidden=facts.hidden,
        quantization=facts.quantization,
        size_bytes=0,
        counted_by=CountedBy.ENGINE,
    )
