"""What a token may do. A higher scope satisfies a lower one."""

from enum import IntEnum


class Scope(IntEnum):
    """Ordered; ``PUBLIC`` needs no token at all."""

    PUBLIC = 0
    READ_ONLY = 1
    INFERENCE = 2
    ECONOMY = 3
    ADMIN = 4

    @property
    def wire(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> "Scope":
        """From its wire name (``readonly`` too). Raises ``ValueError``."""
        names = {scope.wire: scope for scope in cls if scope is not cls.PUBLIC} | {"readonly": cls.READ_ONLY}
        if text not in names:
            raise ValueError(f"scope must be one of {', '.join(sorted(names))}")
        return names[text]
