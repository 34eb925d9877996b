"""``Idempotency-Key``: a request that is sent again, because nobody knows what became of it, takes effect once."""

import re
from hashlib import sha256

from tirami.core.errors import InvalidRequest, StorageUnavailable
from tirami.ledger import Asked
from tirami.node.http.handlers import Call

HEADER = "idempotency-key"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def asked_by(call: Call) -> Asked | None:
    """The request as its caller named it; ``None`` without the header. Raises ``InvalidRequest``."""
    text = call.request.headers.get(HEADER)
    if text is None:
        return None
    if not _KEY.fullmatch(text):
        raise InvalidRequest("an idempotency key is 1 to 255 visible ASCII characters", param=HEADER)
    operation = call.request.scope["tirami.operation"]
    named = b"\n".join((operation.encode(), text.encode(), call.caller.key))
    return Asked(sha256(named).digest(), sha256(call.body.model_dump_json().encode()).digest())


async def answer_to(call: Call, asked: Asked | None) -> bytes | None:
    """What the same request led to before, durable by now; ``None`` when it has to be done.

    Gives the event loop away only in the first case: who then acts at once acts once.
    Raises ``IdempotencyKeyReused``; ``StorageUnavailable`` when what it led to has been lost.
    """
    if asked is None:
        return None
    ledger = call.parts.ledger
    result = ledger.state.settings.answers.find(asked, ledger.now())
    if result is not None:
        await ledger.durable()
        if ledger.state.settings.answers.find(asked, ledger.now()) != result:
            raise StorageUnavailable("the journal lost what this request did; it may be sent again", retry_after=5)
    return result
