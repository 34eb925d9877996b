"""The two records every session starts with: the provider's quote and the payer's acceptance."""

from dataclasses import dataclass
from typing import Final

from tirami.core.keys import Digest, PublicKey
from tirami.core.units import MICRO, Trm, UnixMs
from tirami.infer import ModelCard, Sampling
from tirami.ledger import HOLD_LIFETIME_MS, Heads, HoldOpened, Ledger, Payer, Price
from tirami.proto import Acceptance, Quote, Signed, SignedBody, signed

QUOTE_LIFETIME_MS = 30_000
INFERENCE: Final = "inference"
"""What a hold is for, unless its order says otherwise."""


@dataclass(frozen=True, slots=True)
class Parties:
    """Who serves whom; ``scope`` is 0 for the network, 1 for local use (B14)."""

    provider: PublicKey
    payer: PublicKey
    scope: int


def quote(
    ledger: Ledger,
    heads: Heads,
    parties: Parties,
    card: ModelCard,
    prompt_tokens: int,
    prompt_hash: Digest,
    sampling: Sampling,
    price: Price,
    nonce: bytes,
) -> Quote:
    """What ``parties.provider`` offers now, with the newest head of its log. ``nonce`` is 16 random bytes (B12)."""
    published = heads.published
    return Quote(
        network=ledger.network.id,
        scope=parties.scope,
        provider=parties.provider,
        payer=parties.payer,
        nonce=nonce,
        model_digest=card.digest,
        tokenizer_digest=card.tokenizer_digest,
        prompt_tokens=prompt_tokens,
        prompt_hash=prompt_hash,
        max_tokens=sampling.max_tokens,
        seed=sampling.seed,
        temperature_ppm=round(sampling.temperature * MICRO),
        top_p_ppm=round(sampling.top_p * MICRO),
        top_k=sampling.top_k,
        price_in=price.prompt,
        price_out=price.completion,
        lifetime_ms=QUOTE_LIFETIME_MS,
        log_size=published.head.size if published else 0,
        log_root=published.head.root if published else bytes(32),
        at_ms=ledger.now(),
    )


def accept(
    ledger: Ledger, payer: Payer, provider: bytes, quote_hash: Digest, ceiling: Trm
) -> tuple[Acceptance, Signed]:
    """The payer's next number under its covered totals as they stand now (B2); journal it before it leaves (B7)."""
    books, holds = ledger.books(payer.key), ledger.state.holds
    acceptance = Acceptance(
        network=ledger.network.id,
        scope=payer.scope,
        payer=payer.key,
        provider=provider,
        incarnation=holds.incarnation,
        number=holds.next_number(payer.key),
        settled=books.settled,
        open=books.open_list(),
        quote_hash=quote_hash,
        ceiling=ceiling,
        at_ms=ledger.now(),
    )
    return acceptance, signed(acceptance, payer.signer)


def hold(
    hold_id: bytes,
    acceptance: Acceptance,
    accepted: Signed,
    offered: SignedBody,
    request_id: str,
    now: UnixMs,
    purpose: str = INFERENCE,
) -> HoldOpened:
    """The journal's entry of a session that begins."""
    return HoldOpened(
        id=hold_id,
        account=acceptance.payer,
        scope=acceptance.scope,
        incarnation=acceptance.incarnation,
        number=acceptance.number,
        ceiling=acceptance.ceiling,
        purpose=purpose,
        expires_ms=now + HOLD_LIFETIME_MS,
        request_id=request_id,
        acceptance=accepted.body,
        acceptance_signature=accepted.signature,
        quote=offered.body,
        quote_signature=offered.signature,
    )
