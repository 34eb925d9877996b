"""Waiting with something to say."""

import asyncio

import pytest

from tirami.net.session.meanwhile import meanwhile
from tirami.testing import run_virtually


def test_it_speaks_until_the_work_is_done() -> None:
    said: list[float] = []

    async def say() -> None:
        said.append(asyncio.get_running_loop().time())

    async def work() -> str:
        await asyncio.sleep(1.7)
        return "done"

    async def main() -> str:
        return await meanwhile(work(), 0.5, say)

    assert run_virtually(main()) == "done"
    assert len(said) == 3


def test_what_either_raises_ends_both() -> None:
    ended = []

    async def broken() -> None:
        raise ValueError("nobody listens")

    async def work() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(True)

    async def failing() -> None:
        raise KeyError("work")

    async def main() -> None:
        with pytest.raises(ValueError, match="nobody listens"):
            await meanwhile(work(), 0.5, broken)
        with pytest.raises(KeyError):
            await meanwhile(failing(), 0.5, broken)

    run_virtually(main())
    assert ended == [True]
