"""Virtual time: it jumps, it never runs ahead of work, and a standstill is an error."""

import asyncio
import time

import pytest

import tirami.testing.loop as loops
from tirami.testing import Deadlock, VirtualClock, run_virtually


def test_a_year_passes_in_a_moment_and_in_order() -> None:
    order: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append((name, asyncio.get_running_loop().time()))

    async def main() -> float:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sleeper("year", 365 * 86400))
            tasks.create_task(sleeper("second", 1))
            tasks.create_task(sleeper("hour", 3600))
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert run_virtually(main()) == pytest.approx(365 * 86400, abs=0.001)
    assert time.monotonic() - began < 5
    assert [name for name, _ in order] == ["second", "hour", "year"]
    assert [when for _, when in order] == pytest.approx([1, 3600, 365 * 86400], abs=0.001)


def test_timers_fire_after_months_of_odd_steps() -> None:
    async def main() -> None:
        for _ in range(1000):
            await asyncio.sleep(12345.678901234567)
        for _ in range(1000):
            await asyncio.sleep(1e-4 / 3)

    run_virtually(main())


def test_timeouts_are_virtual_and_the_clock_follows() -> None:
    async def main() -> None:
        clock = VirtualClock(epoch_ms=1_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(90):
                await asyncio.Event().wait()
        assert clock.monotonic() == pytest.approx(90)
        assert clock.now_ms() == 91_000

    run_virtually(main())


def test_time_stands_while_a_thread_works() -> None:
    async def main() -> None:
        timer = asyncio.create_task(asyncio.sleep(10))
        assert await asyncio.to_thread(lambda: time.sleep(0.05) or 7) == 7
        assert asyncio.get_running_loop().time() == 0
        assert not timer.done()
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        await timer
        assert asyncio.get_running_loop().time() == pytest.approx(10)

    run_virtually(main())


def test_files_are_read_before_time_passes() -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.write(b"hello"), "127.0.0.1", 0)
        timer = asyncio.create_task(asyncio.sleep(1))
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await timer
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        server.close()

    run_virtually(main())


def test_a_standstill_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_IDLE_S", 0.05)

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run_virtually(main())
