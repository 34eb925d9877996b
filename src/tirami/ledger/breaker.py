"""The circuit breaker of one account: a fold over its holds and trips.

It opens at the fifth consecutive error and when a velocity limit is overrun, stays open for five minutes, then lets
exactly one spend through: the probe. A probe that is paid closes the breaker, one that fails opens it anew, one that
merely ends (its client left) makes way for another. An *error* is a failure of the engine or of settlement after
admission; denials and clients' mistakes never count.
"""

from dataclasses import dataclass
from enum import StrEnum

from tirami.core.units import UnixMs

MAX_ERRORS = 5
OPEN_MS = 300_000


class Circuit(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Trip(StrEnum):
    """Why a breaker opened."""

    ERRORS = "errors"
    VELOCITY = "velocity"


@dataclass(slots=True)
class Breaker:
    """State of one account's breaker.

    Attributes:
        errors: consecutive errors.
        cause: why it tripped, a :class:`Trip`; empty while closed.
        tripped_ms: when, Unix milliseconds.
        probe: id of the spend on trial; empty when there is none.
        failed_ms: when the last error was counted.
    """

    errors: int = 0
    cause: str = ""
    tripped_ms: int = 0
    probe: bytes = b""
    failed_ms: int = 0

    def circuit(self, now_ms: int) -> Circuit:
        if not self.cause:
            return Circuit.CLOSED
        return Circuit.OPEN if now_ms < self.until_ms else Circuit.HALF_OPEN

    @property
    def until_ms(self) -> UnixMs:
        """When an open breaker lets a probe through; 0 while closed."""
        return UnixMs(self.tripped_ms + OPEN_MS if self.cause else 0)

    def lets_through(self, now_ms: int) -> bool:
        circuit = self.circuit(now_ms)
        return circuit is Circuit.CLOSED or (circuit is Circuit.HALF_OPEN and not self.probe)

    def trip(self, cause: str, at_ms: int) -> None:
        self.cause, self.tripped_ms, self.probe = str(cause), at_ms, b""

    def admitted(self, spend: bytes, at_ms: int) -> None:
        """A spend passed the gate; the first one through a half-open breaker is its probe."""
        if self.circuit(at_ms) is Circuit.HALF_OPEN and not self.probe:
            self.probe = spend

    def failed(self, spend: bytes, admitted_ms: int, at_ms: int) -> None:
        """Of spends that ran beside each other only the first that fails counts: one breakdown is one error."""
        if not self.cause:
            if admitted_ms < self.failed_ms:
                return
            self.errors, self.failed_ms = self.errors + 1, at_ms
            if self.errors >= MAX_ERRORS:
                self.trip(Trip.ERRORS, at_ms)
        elif spend == self.probe:
            self.trip(Trip.ERRORS, at_ms)

    def paid(self, spend: bytes) -> None:
        """What was admitted before a trip and paid after it says nothing; the probe does."""
        if not self.cause or spend == self.probe:
            self.errors, self.cause, self.tripped_ms, self.probe, self.failed_ms = 0, "", 0, b"", 0

    def released(self, spend: bytes) -> None:
        """It ended without error and without payment, which proves nothing."""
        if spend == self.probe:
            self.probe = b""
