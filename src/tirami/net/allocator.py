"""Memory given back: ``iroh`` allocates from many threads, and the C library keeps what strangers made it allocate.

glibc keeps an arena a thread, takes pieces from them that are the larger the larger those were that were freed, and
returns only what is at an arena's end. So it is told to keep two arenas and to map large pieces, and when connections
have ended it is told to let go of what is free in between: mallopt(3), malloc_trim(3). Others are left alone.
"""

import asyncio
import ctypes
from typing import Final

PAUSE_S: Final = 1.0
"""Between two times; one takes some milliseconds of a thread."""
_SETTINGS: Final = ((-8, 2), (-3, 512 * 1024), (-1, 512 * 1024))
"""M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of ``malloc.h``."""


class Allocator:
    """That of this process, told to keep little once this is made. :meth:`run` is its one task."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._known = hasattr(self._library, "gnu_get_libc_version")
        self._wanted = asyncio.Event()
        if self._known:
            for option, value in _SETTINGS:
                self._library.mallopt(option, value)

    def freed(self) -> None:
        """Something large may have been."""
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._known:
                await asyncio.to_thread(self._library.malloc_trim, 0)
            await asyncio.sleep(PAUSE_S)
