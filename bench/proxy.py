"""LiteLLM's proxy, installed in an environment of its own under ``build/`` and run as a process."""

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import socket

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "build" / "litellm"
PINS = ROOT / "bench" / "litellm.txt"
START_S = 120


class Unavailable(Exception):
    """Why there is no proxy to measure."""


def installed() -> Path:
    """The proxy's command. Raises ``Unavailable`` when it cannot be installed."""
    stamp = HOME / "pins.txt"
    command = HOME / "bin" / "litellm"
    if stamp.exists() and stamp.read_bytes() == PINS.read_bytes() and command.exists():
        return command
    pip = [str(HOME / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME)], check=True, capture_output=True)
        subprocess.run([*pip, "--only-binary", ":all:", "-r", str(PINS)], check=True, capture_output=True, timeout=900)
    except (subprocess.SubprocessError, OSError) as error:
        raise Unavailable(f"LiteLLM's proxy cannot be installed here: {type(error).__name__}") from error
    stamp.write_bytes(PINS.read_bytes())
    return command


@asynccontextmanager
async def litellm_proxy(upstream: str, model: str) -> AsyncIterator[tuple[str, str, int]]:
    """Base URL, key and process number of a proxy with one worker in front of ``upstream``. Raises ``Unavailable``."""
    command = installed()
    with socket() as probe, tempfile.TemporaryDirectory() as home:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        config = Path(home) / "config.yaml"
        route = f"{{model: openai/{model}, api_base: '{upstream}', api_key: none}}"
        config.write_text(f"model_list:\n  - model_name: {model}\n    litellm_params: {route}\n")
        options = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        key = f"sk-{secrets.token_hex(32)}"
        env = {
            **os.environ,
            "LITELLM_MASTER_KEY": key,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "HOME": home,
        }
        env.pop("PYTHONPATH", None)
        with (Path(home) / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                str(command), *options, env=env, stdout=log, stderr=log, cwd=home
            )
        try:
            await _ready(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}/v1", key, process.pid
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _ready(url: str, process: asyncio.subprocess.Process) -> None:
    deadline = time.monotonic() + START_S
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < deadline and process.returncode is None:
            try:
                async with http.get(f"{url}/health/liveliness") as reply:
                    if reply.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.5)
    raise Unavailable(f"LiteLLM's proxy did not start (exit {process.returncode})")
