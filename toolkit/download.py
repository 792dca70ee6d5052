"""Files from elsewhere: the folder that keeps them, and how they are fetched."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from toolkit.errors import InputError, MissingError

FOLDER_VARIABLE = "TOOLKIT_DATA"
TIMEOUT = 30.0
"""Seconds without a word from the other side."""
_CHUNK = 1 << 20


def cache_folder() -> Path:
    """Where fetched files lie: ``$TOOLKIT_DATA``, or ``toolkit`` in the user's cache folder, which
    is ``$XDG_CACHE_HOME``, else ``~/Library/Caches`` on macOS and ``~/.cache`` on Linux."""
    if own := os.environ.get(FOLDER_VARIABLE):
        return Path(own)
    usual = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or usual).expanduser() / "toolkit"


def read_url(url: str, limit: int, instead: str) -> bytes:
    """The content of an ``https://`` or ``http://`` URL.

    Arguments:
        url: what to fetch.
        limit: bytes that it may have.
        instead: what else a person can do, for the error where nothing can be fetched.

    Raises:
        MissingError: no answer, or another one than the whole content.
        InputError: more than ``limit`` bytes.
    """
    import http.client
    import urllib.error
    import urllib.request

    parts: list[bytes] = []
    left = limit
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "compression-toolkit"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            while part := answer.read(_CHUNK):
                parts.append(part)
                left -= len(part)
                if left < 0:
                    raise InputError(f"{url}: more than the {limit} bytes that it may have")
            if getattr(
                answer, "length", None
            ):  # read with a size, a connection that breaks off raises nothing
                raise http.client.IncompleteRead(b"")
    except urllib.error.HTTPError as error:
        reason: object = f"{error.code} {error.reason}"
    except http.client.IncompleteRead:
        reason = "the connection broke off"
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
    else:
        return b"".join(parts)
    raise MissingError(f"{url}: can't be fetched ({reason}); {instead}")
