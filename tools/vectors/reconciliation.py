"""Vectors of TIP-12: fingerprints, refused messages, and whole conversations."""

from functools import partial

from tests.net.refused import REFUSED
from tests.net.sets import idset, name

from tirami.net.reconciliation import Reconciliation
from tools.vectors.case import Case, case, verdict
from tools.vectors.tables import fenced

NUMBERS = {
    "equal sets": (range(200), range(200)),
    "two empty sets": (range(0), range(0)),
    "one empty set": (range(40), range(0)),
    "the other empty": (range(0), range(40)),
    "few ids": (range(20), range(10, 30)),
    "one is missing": (range(300), range(1, 300)),
    "both lack some": (range(300), range(5, 303)),
    "nothing in common": (range(100), range(100, 200)),
}
RANGES = {
    "all": ("", ""),
    "from 40": ("40", ""),
    "below 40": ("", "40"),
    "40 to 80": ("40", "80"),
    "a longer bound": ("4000", "4f80"),
    "none in it": ("0001", "0002"),
}


def vectors() -> Case:
    small = idset(map(name, range(24)))
    return {
        "ids": {"from": "SHA-256 of a number as 8 bytes, big-endian"},
        "fingerprints": [
            case(
                title,
                numbers=[0, 24],
                lower=bytes.fromhex(low),
                upper=bytes.fromhex(high),
                count=small.count(bytes.fromhex(low), bytes.fromhex(high)),
                fingerprint=small.fingerprint(bytes.fromhex(low), bytes.fromhex(high)),
            )
            for title, (low, high) in RANGES.items()
        ],
        "conversations": [_conversation(title, *sets) for title, sets in NUMBERS.items()],
        "messages": [
            case(title, numbers=[0, 2], **_shown(data), **verdict(partial(Reconciliation(two).step, data)))
            for two in [idset(map(name, range(2)))]
            for title, data in REFUSED.items()
            if not title.startswith("too many")
        ],
    }


def _conversation(title: str, first: range, second: range) -> Case:
    """What the reference says: begun by the first, in turn."""
    sides = Reconciliation(idset(map(name, first))), Reconciliation(idset(map(name, second)))
    messages = [sides[0].begin()]
    learned: list[tuple[list[bytes], list[bytes]]] = [([], []), ([], [])]
    while True:
        turn = len(messages) % 2
        step = sides[turn].step(messages[-1])
        learned[turn][0].extend(step.lacking)
        learned[turn][1].extend(step.surplus)
        if step.reply is None:
            break
        messages.append(step.reply)
    return case(
        title,
        first=[first.start, first.stop],
        second=[second.start, second.stop],
        messages=messages,
        first_lacks=sorted(learned[0][0]),
        second_lacks=sorted(learned[1][0]),
    )


def _shown(data: bytes) -> Case:
    """Hex, or a repetition."""
    if len(set(data)) == 1 and len(data) > 64:
        return {"repeat": {"byte": data[:1], "times": len(data)}}
    return {"bytes": data}


def example() -> list[str]:
    talk = _conversation("", range(20), range(2, 21))
    who = ("first", "second")
    lines = [
        f"{who[turn % 2]:<6}  {text[:88]}{'…' if len(text) > 88 else ''}" for turn, text in enumerate(talk["messages"])
    ]
    lacks = [f"{one} lacks  {' '.join(item[:16] + '…' for item in talk[f'{one}_lacks'])}" for one in who]
    return fenced(*lines, *lacks)
