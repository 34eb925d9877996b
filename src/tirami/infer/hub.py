"""Files from the model hub, asked briefly: one HEAD of at most 3 s, no retries, and no second try for a moment. A body
that breaks off is gone on with, in this process and in the next.

``HF_ENDPOINT`` and ``HF_HUB_OFFLINE`` are honoured; a token is sent if the user's hub client has one.
"""

import math
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from tirami.core.errors import ModelLoadError
from tirami.core.keys import Digest
from tirami.infer.download import Download
from tirami.infer.sources import HubFile

HEAD_LIMIT_S: Final = 3.0
SILENT_S: Final = 10.0
"""How long a hub that did not answer is not asked again: a command with many files waits once, a node not for ever."""
READ_TIMEOUT_S: Final = 30.0
TRIES: Final = 4
"""Requests for a body that bring nothing new, one after another, until it is given up."""
RETRY_PAUSE_S: Final = 0.5
BLOCK: Final = 1 << 20
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_Answer = TypeVar("_Answer")

_silent: dict[str, float] = {}
"""Endpoints that did not answer, and when, monotonic seconds."""


def fetch(file: HubFile, download: Download) -> None:
    """Copy ``file`` into ``download``, which learns the hub's own digest first.

    Raises:
        ModelLoadError: the hub is switched off, silent, or does not give the file.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise ModelLoadError("the hub is switched off by HF_HUB_OFFLINE")
    import httpx2
    from huggingface_hub import constants, get_hf_file_metadata, get_token, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    # With it the client fetches a list of agent programs from the hub before its first HEAD.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    endpoint = os.environ.get("HF_ENDPOINT") or None
    place = endpoint or "hub"
    if time.monotonic() - _silent.get(place, -math.inf) < SILENT_S:
        raise ModelLoadError("the hub does not answer")
    url = hf_hub_url(file.repository, file.file, endpoint=endpoint)
    try:
        known = _within(HEAD_LIMIT_S, lambda: get_hf_file_metadata(url, timeout=HEAD_LIMIT_S, endpoint=endpoint))
    except HfHubHTTPError as error:
        raise ModelLoadError(f"the hub answers {error.response.status_code} for {file}") from error
    except (httpx2.HTTPError, OSError) as error:
        _silent[place] = time.monotonic()
        raise ModelLoadError("the hub does not answer") from error
    if known.etag and _SHA256.fullmatch(known.etag):
        download.expect(Digest(bytes.fromhex(known.etag)))
    download.resume(known.etag or "")
    if known.size:
        download.sized(known.size)
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    _receive(file, url, {"Authorization": f"Bearer {token}"} if token else {}, known.size, download)


def _receive(file: HubFile, url: str, headers: Mapping[str, str], size: int | None, download: Download) -> None:
    """The body, or what is missing of it, in as many pieces as it takes. Raises ``ModelLoadError``."""
    import httpx2

    failures, furthest = 0, download.written
    while size is None or download.written < size:
        try:
            _receive_piece(url, headers, download)
            if size is None or download.written >= size:
                return
            broken: Exception = EOFError("the body was too short")
        except httpx2.HTTPStatusError as error:
            raise ModelLoadError(f"the hub answers {error.response.status_code} for {file}") from error
        except httpx2.HTTPError as error:
            broken = error
        failures = failures + 1 if download.written < furthest + BLOCK else 1
        furthest = max(furthest, download.written)
        if failures >= TRIES:
            kept = f"; the next try goes on after {download.written:,} bytes" if download.resumable else ""
            raise ModelLoadError(f"the download of {file} broke off{kept}") from broken
        download.report(download.written)  # whoever gave up says so here
        time.sleep(RETRY_PAUSE_S * 2 ** (failures - 1))


def _receive_piece(url: str, headers: Mapping[str, str], download: Download) -> None:
    """One request for everything after what is there. A hub that sends from the beginning starts the file over."""
    import httpx2
    from huggingface_hub import get_session

    asked = {**headers, "Accept-Encoding": "identity"}
    if download.written:
        asked["Range"] = f"bytes={download.written}-"
        if download.validator:
            asked["If-Range"] = download.validator
    session: Any = get_session()
    with session.stream("GET", url, headers=asked, follow_redirects=True, timeout=READ_TIMEOUT_S) as response:
        if download.written and not _continues(response, download.written):
            download.restart()
            if response.status_code == 416:
                raise httpx2.ReadError("there is no such piece any more")
        response.raise_for_status()
        tag = response.headers.get("etag", "")
        download.validator = tag if tag.startswith('"') else ""
        for block in response.iter_bytes():  # as it comes: what a larger block still lacks would be lost
            download.write(block)


def _continues(response: Any, offset: int) -> bool:
    said = response.headers.get("content-range", "")
    return bool(response.status_code == 206 and said.startswith(f"bytes {offset}-"))


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
