"""Files from the model hub, asked briefly: one HEAD of at most 3 s, no retries, and no second try in this
process.

``HF_ENDPOINT`` and ``HF_HUB_OFFLINE`` are honoured; a token is sent if the user's hub client has one.
"""

import os
import queue
import re
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from tirami.core.errors import ModelLoadError
from tirami.core.keys import Digest
from tirami.infer.download import Download
from tirami.infer.sources import HubFile

HEAD_LIMIT_S: Final = 3.0
READ_TIMEOUT_S: Final = 30.0
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_Answer = TypeVar("_Answer")

_silent: dict[str, str] = {}
"""Endpoints that did not answer in this process, with the reason."""


def fetch(file: HubFile, download: Download) -> None:
    """Copy ``file`` into ``download``, which learns the hub's own digest first.

    Raises:
        ModelLoadError: the hub is switched off, silent, or does not give the file.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise ModelLoadError("the hub is switched off by HF_HUB_OFFLINE")
    import httpx2
    from huggingface_hub import constants, get_hf_file_metadata, get_session, get_token, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    # With it the client fetches a list of agent programs from the hub before its first HEAD.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    endpoint = os.environ.get("HF_ENDPOINT") or None
    place = endpoint or "hub"
    if place in _silent:
        raise ModelLoadError(_silent[place])
    url = hf_hub_url(file.repository, file.file, endpoint=endpoint)
    try:
        known = _within(HEAD_LIMIT_S, lambda: get_hf_file_metadata(url, timeout=HEAD_LIMIT_S, endpoint=endpoint))
    except HfHubHTTPError as error:
        raise ModelLoadError(f"the hub answers {error.response.status_code} for {file}") from error
    except (httpx2.HTTPError, OSError) as error:
        _silent[place] = "the hub does not answer"
        raise ModelLoadError(_silent[place]) from error
    if known.etag and _SHA256.fullmatch(known.etag):
        download.expect(Digest(bytes.fromhex(known.etag)))
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with get_session().stream(
            "GET", url, headers=headers, follow_redirects=True, timeout=READ_TIMEOUT_S
        ) as response:
            response.raise_for_status()
            for block in response.iter_bytes(1 << 20):
                download.write(block)
    except httpx2.HTTPError as error:
        raise ModelLoadError(f"the download of {file} broke off") from error


def _within(limit_s: float, call: Callable[[], _Answer]) -> _Answer:
    """The result of ``call``, or ``TimeoutError``.

    The client's own limit does not bound name resolution, which can hang for tens of seconds on a machine
    without a network; the thread is left to finish it alone.
    """
    outcome: queue.SimpleQueue[_Answer | BaseException] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(call())
        except BaseException as error:
            outcome.put(error)

    threading.Thread(target=run, name="hub", daemon=True).start()
    try:
        answer = outcome.get(timeout=limit_s)
    except queue.Empty:
        raise TimeoutError("no answer in time") from None
    if isinstance(answer, BaseException):
        raise answer
    return answer
