"""The engine child: llama.cpp's own server on a loopback port, and nothing of the node.

Either the server inside the ``xllamacpp`` wheel, or, when a ``binary`` is named, a ``llama-server`` of this machine (a
native or GPU build), into which this process turns itself: same process, same client.

Started by path (not as ``tirami.infer.worker``), so that the child imports none of the node's packages: it is
up 0.5 s earlier and 25 MB smaller. The conversation with the parent:

* stdin: one line of JSON, a :class:`~tirami.infer.process.WorkerSettings` plus ``api_key`` and ``parent``; then it
  stays open, and its end means that the parent died. Nothing secret is on the command line or in the environment,
  but for a ``binary``'s key, which llama.cpp reads from the environment: only the same user can see it there.
* stdout: one line of JSON, ``{"port": 12345, "device": "CPU (…)", "offloaded": 0}`` or ``{"error": "reason"}``.
  ``offloaded`` counts layers on a GPU, -1 stands for all; without ``device`` a ``binary`` did not tell.
* stderr: what llama.cpp says while loading; silenced once ready, because later lines may hold prompt text.
"""

import ctypes
import http.client
import importlib
import json
import os
import re
import resource
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
LOG_ERRORS: Final = 1
"""llama.cpp verbosity at which only errors are written."""
LISTEN_TO: Final = 1 << 20
"""Bytes of what a ``binary`` says while loading that are searched for its device."""
DEVICE: Final = re.compile(rb"using device (\S+ \([^)\n]*\))")
OFFLOADED: Final = re.compile(rb"offloaded (\d+)/\d+ layers to GPU")
HEALTH_EVERY_S: Final = 0.05


def _die_with(parent: int) -> None:
    """End this process when ``parent`` ends, whatever this process is doing then (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _isolate(memory_limit_bytes: int) -> None:
    """Bound what a failure of native code can do to the machine and to secrets."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["GGML_NO_BACKTRACE"] = "1"  # a debugger's pages would drown the reason, and delay the next child
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_limit_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))
    if sys.platform == "linux":
        Path("/proc/self/oom_score_adj").write_text("500")


def _parameters(llama: Any, config: dict[str, Any]) -> Any:
    """llama.cpp settings for ``config`` (module ``xllamacpp`` passed in, because it has no type stubs)."""
    parameters = llama.CommonParams()
    parameters.model.path = config["model"]
    parameters.n_parallel = config["slots"]
    parameters.n_ctx = config["slots"] * config["context"]
    parameters.kv_unified = False
    parameters.fit_params = False
    parameters.ctx_shift = False
    parameters.cont_batching = True
    parameters.n_batch = config["batch"]
    parameters.n_ubatch = config["batch"]
    parameters.cache_ram_mib = 0
    parameters.embedding = True
    pooling = (config["pooling"] or "mean").upper()
    parameters.pooling_type = getattr(llama.llama_pooling_type, f"LLAMA_POOLING_TYPE_{pooling}")
    if config["threads"]:
        parameters.cpuparams.n_threads = config["threads"]
        parameters.cpuparams_batch.n_threads = config["threads"]
    parameters.n_threads_http = config["connections"]
    parameters.api_keys = [config["api_key"]]
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.ui = False
    parameters.offline = True
    parameters.sse_ping_interval = -1
    parameters.verbosity = LOG_ERRORS
    return parameters


def _become(config: dict[str, Any], answer: int) -> None:
    """Turn this process into the ``llama-server`` of ``config``; a herald that stays behind tells when it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    complaints, voice = os.pipe()
    if os.fork() == 0:
        os.close(voice)
        _herald(complaints, answer, port)
    os.dup2(voice, 1)
    os.dup2(voice, 2)
    os.closerange(3, voice + 1)
    environment = {**os.environ, "LLAMA_API_KEY": config["api_key"]}
    os.execve(config["binary"], _arguments(config, port), environment)


def _arguments(config: dict[str, Any], port: int) -> list[str]:
    """The command line of llama.cpp's own server for what :func:`_parameters` says to the library."""
    options = {
        "--model": config["model"],
        "--parallel": config["slots"],
        "--ctx-size": config["slots"] * config["context"],
        "--batch-size": config["batch"],
        "--ubatch-size": config["batch"],
        "--cache-ram": 0,
        "--threads-http": config["connections"],
        "--host": "127.0.0.1",
        "--port": port,
    }
    if config["threads"]:
        options |= {"--threads": config["threads"], "--threads-batch": config["threads"]}
    words = [str(word) for option in options.items() for word in option]
    return [
        config["binary"],
        *words,
        "--no-context-shift",
        "--no-kv-unified",
        "--cont-batching",
        "--embeddings",
        "--pooling",
        config["pooling"] or "mean",
        "--slots",
        "--offline",
        "--no-webui",
    ]


def _herald(complaints: int, answer: int, port: int) -> None:
    """Pass on what the server says until it answers, then drop it; end with it, and end it with the node."""
    server, heard = os.getppid(), bytearray()
    threading.Thread(target=_pass_on, args=(complaints, heard), daemon=True).start()
    threading.Thread(target=_outlive_no_node, args=(server,), daemon=True).start()
    while os.getppid() == server:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                break
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(HEALTH_EVERY_S)
    else:
        os._exit(1)
    _hush()
    _say(answer, {"port": port, **_told_hardware(bytes(heard))})
    threading.Event().wait()


def _pass_on(complaints: int, heard: bytearray) -> None:
    while block := os.read(complaints, 4096):
        os.write(2, block)
        if len(heard) < LISTEN_TO:
            heard += block
    os._exit(0)


def _told_hardware(said: bytes) -> dict[str, object]:
    """Device and offloaded layers as a ``llama-server`` with a GPU tells them while it loads; nothing from others."""
    devices = [found.decode(errors="replace") for found in dict.fromkeys(DEVICE.findall(said))]
    layers = OFFLOADED.search(said)
    if not devices or layers is None:
        return {}
    return {"device": ", ".join(devices), "offloaded": int(layers[1])}


def _hardware(llama: Any) -> dict[str, object]:
    """The devices of the library: with a GPU among them it puts all layers there, without one none."""
    devices = llama.get_device_info()
    gpus = [device for device in devices if device["type"].name.endswith("GPU")]
    named = ", ".join(f"{device['name']} ({device['description']})" for device in gpus or devices)
    return {"device": named, "offloaded": -1 if gpus else 0}


def _outlive_no_node(server: int) -> None:
    while os.read(0, 4096):
        pass
    os.kill(server, signal.SIGKILL)
    os._exit(0)


def _hush() -> None:
    """Later lines may hold prompt text."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)


def _say(descriptor: int, message: dict[str, object]) -> None:
    os.write(descriptor, json.dumps(message).encode() + b"\n")
    os.close(descriptor)


def main() -> None:
    """Load, say the port, serve until the parent is gone."""
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        os._exit(0)
    config = json.loads(line)
    _die_with(config["parent"])
    answer = os.dup(1)
    os.dup2(2, 1)
    try:
        _isolate(config["memory_limit_bytes"])
        if config["binary"]:
            _become(config, answer)
        llama = importlib.import_module("xllamacpp")
        server = llama.Server(_parameters(llama, config))
        hardware = _hardware(llama)
    except MemoryError:
        _say(answer, {"error": "out of memory"})
        os._exit(1)
    except Exception as error:
        _say(answer, {"error": str(error)})
        os._exit(1)
    _hush()
    _say(answer, {"port": int(server.listening_address.rpartition(":")[2]), **hardware})
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
