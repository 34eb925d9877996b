"""The engine child: llama.cpp's own server on a loopback port, and nothing of the node.

Started by path (not as ``tirami.infer.worker``), so that the child imports none of the node's packages: it is
up 0.5 s earlier and 25 MB smaller. The conversation with the parent:

* stdin: one line of JSON, a :class:`~tirami.infer.process.WorkerSettings` plus ``api_key`` and ``parent``;
  then it
  stays open, and its end means that the parent died. Nothing secret is on the command line or in the
  environment.
* stdout: one line of JSON, ``{"port": 12345}`` or ``{"error": "reason"}``.
* stderr: what llama.cpp says while loading; silenced once ready, because later lines may hold prompt text.
"""

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
LOG_ERRORS: Final = 1
"""llama.cpp verbosity at which only errors are written."""
PREFILL_BATCH: Final = 64
"""Prompt tokens computed between two looks at the connection; larger values delay cancellation, not prefill."""


def _die_with(parent: int) -> None:
    """End this process when ``parent`` ends, whatever this process is doing then (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _isolate(memory_limit_bytes: int) -> None:
    """Bound what a failure of native code can do to the machine and to secrets."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
    parameters.n_batch = PREFILL_BATCH
    parameters.n_ubatch = PREFILL_BATCH
    parameters.cache_ram_mib = 0
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
        llama = importlib.import_module("xllamacpp")
        server = llama.Server(_parameters(llama, config))
    except MemoryError:
        _say(answer, {"error": "out of memory"})
        os._exit(1)
    except Exception as error:
        _say(answer, {"error": str(error)})
        os._exit(1)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    _say(answer, {"port": int(server.listening_address.rpartition(":")[2])})
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
