"""What this node earns from payers elsewhere: acceptances checked, vouchers kept, the last one countersigned.

Each step is checked against what this node itself offered, and is on disk before anything is served on the strength of
it (PROTOCOL B7). Nothing here is a debit of this node; opening a claim is refused while its kill switch is thrown
(B13), settling one never is.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from tirami.core.clock import APART_MS
from tirami.core.errors import (
    AccountDisabled,
    CounterLost,
    InsufficientFunds,
    InvalidProof,
    InvalidSignature,
    StorageUnavailable,
    TiramiError,
    UnpaidLimit,
    UnwitnessedLimit,
)
from tirami.core.keys import PublicKey, Signature, Signer, sha256, verify
from tirami.core.units import DAY_MS, Trm, UnixMs
from tirami.ledger.accounts import key_account
from tirami.ledger.admission import NETWORK, Admitted, admit
from tirami.ledger.claims import OpenClaim
from tirami.ledger.countersigner import countersigned
from tirami.ledger.entries import ClaimDropped, ClaimOpened, ClaimSettled, ClaimVouched, Content, RestartSeen
from tirami.ledger.evidence import Evidence
from tirami.proto import Acceptance, Cited, Quote, SignedBody, Trade, amount_due, decode
from tirami.verify import check_bill

if TYPE_CHECKING:
    from tirami.ledger.ledger import Ledger

_log = structlog.get_logger()


FORGIVEN: Final = 10
"""What part of U one payer may leave unpaid in 24 hours, beside as much as it paid."""
CONTRADICTS: Final = "this acceptance contradicts what the same key has signed before"
Seen = Callable[[Sequence[Cited]], bool]


class Receivables:
    """The provider's side of one ledger."""

    def __init__(self, ledger: "Ledger", node: Signer) -> None:
        self._ledger = ledger
        self._node = node
        self._unpaid: dict[bytes, int] = {}
        """TRM, of claims whose end the disk refused."""

    def open(
        self,
        claim_id: bytes,
        quote: Quote,
        offered: SignedBody,
        accepted: SignedBody,
        seen: Seen = lambda _: False,
    ) -> tuple[Acceptance, Awaitable[None]]:
        """Take a payer's acceptance of a quote this node gave; the awaitable ends when it is durable.

        Whether it came within the quote's lifetime, a duration, is known to who sent the quote and waited.

        Args:
            seen: shown what makes or might make a proof against the payer: an acceptance that would be taken, or that
                contradicts what is open here. Whether it is known to prove anything.

        Raises:
            InvalidProof, InvalidSignature, NonCanonical: the acceptance is not one of this quote.
            SpendDenied: this node's own switches.
            AccountDisabled: a fraud proof against the payer is known, this acceptance makes one, or its key has ended.
            CounterLost: the payer's incarnation is over, or begins too soon after its last (B9).
            InsufficientFunds: the payer's funding, as this book knows it, does not cover all it says it has promised.
            UnwitnessedLimit: more than U a day of one payer without witnesses (B6).
            UnpaidLimit: the payer was given too much in the last 24 hours that it never paid.
        """
        ledger = self._ledger
        ledger.gate.check_open()
        acceptance = decode(Acceptance, accepted.body)
        self._check_acceptance(acceptance, accepted, quote, offered)
        now = ledger.now()
        self._check_incarnation(acceptance, accepted, now)
        self._check_key(acceptance.payer)
        said = Cited("acceptance", accepted.body, accepted.signature)
        self._check_consistent(acceptance.payer, said, seen)
        self._check_means(acceptance, now)
        self._check_unpaid(acceptance.payer, now)
        if seen([said]):
            raise AccountDisabled(CONTRADICTS)
        opened = ClaimOpened(
            id=claim_id,
            payer=acceptance.payer,
            incarnation=acceptance.incarnation,
            number=acceptance.number,
            ceiling=acceptance.ceiling,
            acceptance=accepted.body,
            acceptance_signature=accepted.signature,
            quote=offered.body,
            quote_signature=offered.signature,
        )
        return acceptance, ledger.append([opened])

    def take(self, claim_id: bytes, expected: Trade, paid: SignedBody) -> Awaitable[None]:
        """Take a voucher; await it before serving past it.

        Args:
            expected: the trade as this node counts it at the piece whose running hash the voucher names; the payer may
                have counted fewer tokens, never more. Time, amount and FLOP are those of the voucher's own count.

        Raises ``InvalidProof`` naming the field, ``InvalidSignature``, ``NonCanonical``, ``StorageUnavailable``,
        ``AccountDisabled`` for a key that was convicted or has ended since the session began.
        """
        claim = self._claim(claim_id)
        self._check_key(claim.opened.payer)
        trade = decode(Trade, paid.body)
        acceptance = decode(Acceptance, claim.opened.acceptance)
        check_bill(trade, acceptance, sha256(Acceptance.TAG, claim.opened.acceptance))
        last = decode(Trade, claim.vouched.trade_body) if claim.vouched else None
        least = last.completion_tokens if last else 1
        now = self._ledger.now()
        for good, problem, field in (
            (trade.model_digest == expected.model_digest, "names another model", "model_digest"),
            (trade.tokenizer_digest == expected.tokenizer_digest, "names another tokenizer", "tokenizer_digest"),
            (
                (trade.price_in, trade.price_out) == (expected.price_in, expected.price_out),
                "has other prices than the quote",
                "price_out",
            ),
            (trade.prompt_tokens == expected.prompt_tokens, "counts another prompt", "prompt_tokens"),
            (trade.flop == expected.flop, "computes other FLOP", "flop"),
            (trade.running_hash == expected.running_hash, "is about other tokens", "running_hash"),
            (least <= trade.completion_tokens <= expected.completion_tokens, "counts wrongly", "completion_tokens"),
            (abs(now - trade.at_ms) <= APART_MS, "is dated more than an hour apart from here", "at_ms"),
        ):
            if not good:
                raise InvalidProof(f"the voucher {problem}", param=field)
        if not verify(PublicKey(acceptance.payer), Signature(paid.signature), Trade.TAG + paid.body):
            raise InvalidSignature("the signature of the payer does not verify", param="payer")
        return self._ledger.append([ClaimVouched(claim_id, trade.amount, paid.body, paid.signature)])

    async def settle(self, claim_id: bytes, reason: str, unpaid: int = 0) -> Admitted | None:
        """Countersign the last voucher and book the trade, or drop the claim when there is none. Durable on return.

        ``unpaid``: what was handed out beyond that voucher; the payer is remembered by it for a day. Where the disk
        refuses, :meth:`expire_claims` will write it down.
        """
        voucher, admitted = self._claim(claim_id).voucher, None
        end: list[Content] = [ClaimDropped(claim_id, reason, unpaid)]
        if voucher is not None:
            envelope = countersigned(voucher, self._node)
            admitted = admit(envelope, self._ledger.network, own_acceptance=True)
            end = [envelope, ClaimSettled(claim_id, admitted.record_id, unpaid)]
        try:
            await self._ledger.append(end, admitted)
        except StorageUnavailable:
            self._unpaid[claim_id] = unpaid
            raise
        self._unpaid.pop(claim_id, None)
        return admitted

    async def expire_claims(self, live: Collection[bytes]) -> int:
        """Settle every claim that is nobody's, as after a disk that was full; returns how many.

        Args:
            live: ids of claims that a running session will end.

        Raises ``StorageUnavailable``.
        """
        ended = 0
        for claim_id in list(self._ledger.state.claims.open):
            if claim_id in live or claim_id not in self._ledger.state.claims.open:
                continue
            try:
                await self.settle(claim_id, "expired", self._unpaid.get(claim_id, 0))
            except StorageUnavailable:
                raise
            except TiramiError as error:
                _log.warning("claim_not_settled", claim=claim_id.hex(), code=error.code, reason=error.message)
            else:
                ended += 1
        return ended

    def _claim(self, claim_id: bytes) -> OpenClaim:
        claim = self._ledger.state.claims.open.get(claim_id)
        if claim is None:
            raise StorageUnavailable("this claim was lost when the journal could not be written", retry_after=5)
        return claim

    def _check_acceptance(
        self, acceptance: Acceptance, accepted: SignedBody, quote: Quote, offered: SignedBody
    ) -> None:
        least = amount_due(quote.price_in, quote.price_out, quote.prompt_tokens, 1)
        most = amount_due(quote.price_in, quote.price_out, quote.prompt_tokens, quote.max_tokens)
        for good, problem, field in (
            (acceptance.network == self._ledger.network.id, "belongs to another network", "network"),
            (acceptance.scope == NETWORK, "is of a local session", "scope"),
            (acceptance.provider == self._node.public_key, "is of another provider", "provider"),
            (acceptance.payer == quote.payer, "is of another payer", "payer"),
            (acceptance.payer != acceptance.provider, "pays itself", "payer"),
            (acceptance.quote_hash == sha256(Quote.TAG, offered.body), "cites another quote", "quote_hash"),
            (least <= acceptance.ceiling <= most, "has a ceiling outside the quote", "ceiling"),
            (all(session.number < acceptance.number for session in acceptance.open), "lists itself as open", "open"),
        ):
            if not good:
                raise InvalidProof(f"the acceptance {problem}", param=field)
        message = Acceptance.TAG + accepted.body
        if not verify(PublicKey(acceptance.payer), Signature(accepted.signature), message):
            raise InvalidSignature("the signature of the payer does not verify", param="payer")

    def _check_incarnation(self, acceptance: Acceptance, accepted: SignedBody, now: UnixMs) -> None:
        """The key's old incarnations are over; a new one has a day without credit, which begins here (B9)."""
        payer, incarnation = acceptance.payer, acceptance.incarnation
        seen = self._ledger.state.sightings
        if (objection := seen.objection(payer, incarnation, now)) is not None:
            raise CounterLost(objection)
        known = seen.get(payer)
        if known is None and not self._ledger.gate.line(payer):
            return  # a stranger without credit has none to lose, and costs no entry
        if incarnation > (known.incarnation if known else 0):
            restarted = RestartSeen(payer, incarnation, acceptance.number, accepted.body, accepted.signature)
            self._ledger.append([restarted])

    def _check_key(self, payer: bytes) -> None:
        if payer in self._ledger.state.settings.convicted:
            raise AccountDisabled("this key has signed what contradicts itself, and nothing more is taken from it")
        if self._ledger.state.succession.ended(payer):
            raise AccountDisabled("this key was rotated or revoked, and nothing more is taken from it")

    def _check_consistent(self, payer: bytes, said: Cited, seen: Seen) -> None:
        """Against what the payer has signed in the sessions it has open here (B8)."""
        pieces = [piece for claim in self._ledger.state.claims.of(payer) for piece in claim.pieces] + [said]
        evidence = Evidence(self._ledger.network.id)
        if any([evidence.see(piece) for piece in pieces]):
            seen(pieces)
            raise AccountDisabled(CONTRADICTS)

    def unpaid_bound(self, payer: bytes) -> Trm:
        """TRM that may be unpaid in 24 hours before a payer is served no more: a tenth of U, and as much as it paid.

        Who leaves an answer owes nothing for what was still on its way, and who loses its connection cannot pay at
        once: with those who pay, that stays below what they pay.
        """
        since = self._ledger.now() - DAY_MS
        forgiven = self._ledger.network.parameters.unwitnessed_daily_limit // FORGIVEN
        return Trm(forgiven + self._ledger.state.claims.debtor(payer).paid_since(since))

    def refuses(self, payer: bytes) -> bool:
        """Whether the payer owes so much. Never for one session alone, whose prompt may be large."""
        debtor, since = self._ledger.state.claims.debtor(payer), self._ledger.now() - DAY_MS
        several = sum(at_ms > since for at_ms, _ in debtor.unpaid) > 1
        return several and debtor.unpaid_since(since) >= self.unpaid_bound(payer)

    def _check_unpaid(self, payer: bytes, now: UnixMs) -> None:
        if self.refuses(payer):
            debtor = self._ledger.state.claims.debtor(payer)
            unpaid, limit = debtor.unpaid_since(now - DAY_MS), self.unpaid_bound(payer)
            later = next(at for at, _ in debtor.unpaid if at > now - DAY_MS) + DAY_MS - now
            raise UnpaidLimit(
                f"{unpaid} TRM of answers were not paid in 24 hours, and {limit} are put up with",
                retry_after=max(1, later // 1000),
                limit=limit,
            )

    def _check_means(self, acceptance: Acceptance, now: UnixMs) -> None:
        """B2 as far as this book knows it, and U. What is open here and listed is listed at its ceiling or more."""
        ledger, payer = self._ledger, acceptance.payer
        book, claims = ledger.state.book, ledger.state.claims
        declared = acceptance.settled + sum(session.ceiling for session in acceptance.open)
        listed = {session.number for session in acceptance.open}
        unlisted = sum(
            claim.opened.ceiling
            for claim in claims.of(payer)
            if claim.opened.incarnation == acceptance.incarnation and claim.opened.number not in listed
        )
        account = key_account(payer)
        promised = max(declared, book.known(account)) + unlisted
        line = ledger.gate.line(payer)
        cover = book.income(account) + line
        if cover < promised + acceptance.ceiling:
            available = Trm(max(0, cover - promised))
            raise InsufficientFunds(
                f"{acceptance.ceiling} TRM are promised, {available} are covered as far as this node knows",
                needed=acceptance.ceiling,
                available=available,
            )
        daily = ledger.network.parameters.unwitnessed_daily_limit
        if claims.within_day(payer, now) + acceptance.ceiling > daily:
            raise UnwitnessedLimit(
                f"one payer and one provider trade at most {daily} TRM a day without witnesses", limit=daily
            )
