"""What is said on the stream of one answer, in this order (ARCHITECTURE §5)."""

from typing import Annotated, ClassVar, Literal

import msgspec

from tirami.proto.codec import U64, Bytes32, Bytes64
from tirami.proto.message import KIB, U32, Label, Message, Shown, SignedBody, Token

MAX_PROMPT = 16_000
"""Prompt tokens of one request."""
MAX_SHAPING = 64 * KIB
"""Bytes of what shapes one answer."""
MAX_PIECE = 256
"""Tokens of one chunk."""


class Ask(Message, frozen=True):
    """A request for a quote: what is to be answered, for whom, and how.

    Attributes:
        request_id: of the exchange, for both sides' logs.
        payer: the key that will sign.
        model_digest: of the model file; nothing else names a model.
        prompt: token ids, rendered by the payer (B10).
        max_tokens: most completion tokens.
        seed, temperature_ppm, top_p_ppm, top_k: the draw, as the quote will repeat it.
        shaping: canonical JSON of what else shapes the answer; empty for nothing.
        nonce: 32 random bytes, the payer's half of the session's secret (B12).
        max_price_in, max_price_out: µTRM a token; a dearer offer is not wanted.
    """

    TYPE: ClassVar[int] = 0x0030
    LIMIT: ClassVar[int] = 192 * KIB

    request_id: Label
    payer: Bytes32
    model_digest: Bytes32
    prompt: Annotated[tuple[Token, ...], msgspec.Meta(min_length=1, max_length=MAX_PROMPT)]
    max_tokens: U32
    seed: U64
    temperature_ppm: U64
    top_p_ppm: U64
    top_k: U64
    shaping: Annotated[bytes, msgspec.Meta(max_length=MAX_SHAPING)]
    nonce: Bytes32
    max_price_in: U64
    max_price_out: U64


class ModelFacts(msgspec.Struct, frozen=True, array_like=True):
    """What the FLOP formula needs, and what people want to read. Money depends on none of it."""

    name: Annotated[str, msgspec.Meta(max_length=256)]
    context_length: U32
    parameters: U64
    active_parameters: U64
    layers: U32
    hidden: U32
    quantization: Label


class Offer(Message, frozen=True):
    """The provider's signed quote, with its half of the secret, and the highest debit it has seen of the payer (B9).

    ``shown`` is that debit, and what the payer signed last in a session with this provider; numbers without it are
    nobody's business.
    """

    TYPE: ClassVar[int] = 0x0031

    quote: SignedBody
    nonce: Bytes32
    model: ModelFacts
    seen_incarnation: U64
    seen_number: U64
    shown: Annotated[tuple[Shown, ...], msgspec.Meta(max_length=2)] = ()


class Accept(Message, frozen=True):
    """The payer's signed acceptance: the most this can ever cost."""

    TYPE: ClassVar[int] = 0x0032
    LIMIT: ClassVar[int] = 8 * KIB

    acceptance: SignedBody


class Piece(Message, frozen=True):
    """A piece of the answer: token ids with their text, the count and the running hash after it."""

    TYPE: ClassVar[int] = 0x0033
    LIMIT: ClassVar[int] = 32 * KIB

    ids: Annotated[tuple[Token, ...], msgspec.Meta(max_length=MAX_PIECE)]
    text: Annotated[bytes, msgspec.Meta(max_length=24 * KIB)]
    count: U64
    running_hash: Bytes32


class Payment(Message, frozen=True):
    """A voucher: the trade as it stands, signed by the payer (B7)."""

    TYPE: ClassVar[int] = 0x0034

    trade: SignedBody


class Finish(Message, frozen=True):
    """The answer has ended; the provider's meter reading, for the payer's records.

    ``completion_tokens`` are those sent. Before it countersigns, the provider waits for a voucher over what is due of
    them, counted as payers count (B10); not for longer than it waits for any word.
    """

    TYPE: ClassVar[int] = 0x0035

    reason: Literal[
        "stop",
        "length",
        "cancelled",
        "killed",
        "node_stopped",
        "provider_failed",
        "uncheckable",
        "idle_timeout",
        "key_barred",
    ]
    prompt_tokens: U64
    completion_tokens: U64
    flop: U64
    ttft_us: U64
    wall_us: U64


class Settled(Message, frozen=True):
    """The provider's signature under the last voucher's trade; both book it."""

    TYPE: ClassVar[int] = 0x0036

    record_id: Bytes32
    signature: Bytes64


class Cancel(Message, frozen=True):
    """The consumer wants no more; what was delivered is vouched for and settled."""

    TYPE: ClassVar[int] = 0x0037
    LIMIT: ClassVar[int] = 128

    reason: Label


class Working(Message, frozen=True):
    """Nothing to show yet, but the prompt is being read: tokens of it so far. Keeps idle time-outs away."""

    TYPE: ClassVar[int] = 0x0038
    LIMIT: ClassVar[int] = 64

    prompt_tokens: U64
