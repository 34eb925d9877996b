"""Signatures of settlements, made and checked in a thread: all that have come together meanwhile, at once.

The crypto library lets go of the interpreter, so other streams go on; one hand-over for many keeps it cheap.
"""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from tirami.core.keys import Signature, Signer
from tirami.ledger.admission import Admitted, admit
from tirami.proto import Envelope, NetworkFile, Trade, Voucher

_Result = Admitted | Exception


class Countersigner:
    """Turns last vouchers into trades for one provider."""

    def __init__(self, provider: Signer, network: NetworkFile) -> None:
        self._provider = provider
        self._network = network
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="signatures")
        self._waiting: deque[tuple[Voucher, asyncio.Future[Admitted]]] = deque()
        self._busy = False

    def countersign(self, voucher: Voucher) -> "asyncio.Future[Admitted]":
        """The trade of a voucher, admitted. Resolves to ``InvalidSignature`` or ``InvalidProof`` for a bad one."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Admitted] = loop.create_future()
        self._waiting.append((voucher, result))
        if not self._busy:
            self._busy = True
            self._thread.submit(self._work, loop)
        return result

    def close(self) -> None:
        self._thread.shutdown()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        done: list[tuple[asyncio.Future[Admitted], _Result]] = []
        while self._waiting:
            voucher, result = self._waiting.popleft()
            try:
                done.append((result, admit(countersigned(voucher, self._provider), self._network, own_acceptance=True)))
            except Exception as error:
                done.append((result, error))
        loop.call_soon_threadsafe(self._deliver, loop, done)

    def _deliver(self, loop: asyncio.AbstractEventLoop, done: "list[tuple[asyncio.Future[Admitted], _Result]]") -> None:
        for result, outcome in done:
            if result.done():
                continue
            if isinstance(outcome, Exception):
                result.set_exception(outcome)
            else:
                result.set_result(outcome)
        self._busy = bool(self._waiting)
        if self._busy:
            self._thread.submit(self._work, loop)


def countersigned(voucher: Voucher, provider: Signer) -> Envelope:
    """A voucher becomes a trade when the provider signs the same body."""
    return trade_of(voucher, provider.sign(Trade.TAG + voucher.trade_body))


def trade_of(voucher: Voucher, countersignature: Signature) -> Envelope:
    """A voucher with the provider's signature under its body."""
    return Envelope(
        kind="trade",
        body=voucher.trade_body,
        signatures=(voucher.payer_signature, countersignature),
        attachments=(voucher.acceptance_body, voucher.acceptance_signature),
    )
