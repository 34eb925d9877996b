"""What a node that has a record and no secret can try, to tell which of a few answers was sold (PROTOCOL B12)."""

from tests.rows.rogues import MODEL
from tirami.api.schemas import RecordEntry
from tirami.cli.demo.pair import Member
from tirami.core.keys import sha256
from tirami.infer import MetadataBlock, Tokenizer, resolve
from tirami.proto import Acceptance, Quote, RunningHash, Trade, decode, encode, session_secret


def yes_and_no() -> dict[int, bytes]:
    """Every token of the model that says the one or the other, however it is written."""
    tokenizer = Tokenizer.from_block(MetadataBlock.of_file(resolve(MODEL).path))
    spelled = {number: tokenizer.decode([number]) for number in range(len(tokenizer))}
    return {number: text for number, text in spelled.items() if text.strip().lower() in (b"yes", b"no")}


def hashed(secret: bytes, number: int, text: bytes) -> bytes:
    running = RunningHash(secret)
    running.update([number], text)
    return running.digest()


def known_to_all(third: Member, record: RecordEntry, quote: Quote) -> set[bytes]:
    """What somebody could take for the secret: all 32 bytes of the public record, and more than he has, of the quote.

    Of each two of them also what they would give as the nonces of payer and provider.
    """
    signed = [
        bytes.fromhex(part) for part in (record.body, *(record.signatures or ()), *(record.attachments or ())) if part
    ]
    trade, acceptance = decode(Trade, signed[0]), decode(Acceptance, signed[3])
    fields = [getattr(one, field) for one in (trade, acceptance, quote) for field in one.__struct_fields__]
    words = [one for one in fields if isinstance(one, bytes)] + [bytes.fromhex(third.book.state_hash), bytes(32)]
    words += [part for piece in signed if len(piece) == 64 for part in (piece[:32], piece[32:])]
    words += [sha256(*whole) for piece in (*signed, encode(quote)) for whole in ((piece,), (Trade.TAG, piece))]
    alone = {one if len(one) == 32 else one * 2 for one in words}
    return alone | {session_secret(payer, provider) for payer in alone for provider in alone}
