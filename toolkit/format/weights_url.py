"""Weights from elsewhere: ``https://`` and ``hf://``, checked by a hash, fetched once.

::

    https://HOST/PATH/FILE.safetensors#sha256=HEX
    hf://OWNER/REPO/PATH/FILE.safetensors@REVISION#sha256=HEX      # a file on the Hugging Face Hub

The hash, 64 digits, stands in the URL's fragment, as pip has it, and must be there: who else could
tell one set of numbers from another? Files are kept under their hash, in the cache folder; neither
the server nor the line in between is trusted.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from toolkit.download import cache_folder, read_url
from toolkit.errors import InputError, MissingError, UsageError
from toolkit.format.files import write_bytes_atomically

HUB = "https://huggingface.co"
"""Where ``hf://`` leads; ``$HF_ENDPOINT`` names a mirror, as for the Hub's own tools."""
LIMIT = 4 << 30
"""Bytes that a file may have."""
_FORMS = (
    "https://HOST/FILE#sha256=HEX or hf://OWNER/REPO/FILE@REVISION#sha256=HEX, HEX of 64 digits"
)
_HASH = re.compile(r"sha256=([0-9a-fA-F]{64})")
_HUB_FILE = re.compile(r"hf://([^/@?]+/[^/@?]+)/([^@?]+?)(?:@([^?]+))?")
_ODD = re.compile(r"[^A-Za-z0-9._+-]")


def is_url(name: str) -> bool:
    """Whether weights of this name are from elsewhere, not a path or the name of a model."""
    return "://" in name


@dataclass(frozen=True)
class WeightsUrl:
    """Where weights are, and what they must be."""

    text: str
    """As it was given, without the hash."""
    url: str
    """What is fetched."""
    sha256: str

    @classmethod
    def parse(cls, text: str) -> WeightsUrl:
        """Raises UsageError for another form, and where the hash is missing."""
        name, _, fragment = text.partition("#")
        hub = _HUB_FILE.fullmatch(name)
        if hub is None and not re.match(r"https?://[^/]", name):
            raise UsageError(f"weights '{text}': weights from elsewhere are written {_FORMS}")
        digest = _HASH.fullmatch(fragment)
        if digest is None:
            raise UsageError(
                f"weights '{text}': the file's SHA-256 is missing, by which it is known to be the "
                f"right one (the Hub shows it; else: sha256sum FILE); write {_FORMS}"
            )
        url = name
        if hub is not None:
            repository, path, revision = hub[1], hub[2], hub[3] or "main"
            endpoint = os.environ.get("HF_ENDPOINT") or HUB
            url = f"{endpoint.rstrip('/')}/{repository}/resolve/{quote(revision, '')}/{quote(path)}"
        return cls(name, url, digest[1].lower())

    @property
    def path(self) -> Path:
        """Where the file is kept."""
        name = _ODD.sub("_", unquote(urlsplit(self.url).path).rpartition("/")[2])[-100:]
        return _kept() / self.sha256 / (name.lstrip(".") or "weights")


def locate_weights(name: str, download: bool = True) -> Path:
    """The file that a path or URL means, fetched where it isn't there yet.

    Arguments:
        name: a path; or a URL as above.
        download: whether it may be fetched.

    Raises:
        UsageError: a URL that is none of weights.
        MissingError: no such file; one that can't be fetched, or may not.
        InputError: another file than the hash says.
    """
    if is_url(name):
        return _fetch(WeightsUrl.parse(name), download)
    path = Path(name)
    if not path.is_file():
        raise MissingError(f"{path}: no such weights file")
    return path.absolute()


def fetched_weights() -> Iterator[Path]:
    """All files that were fetched and kept."""
    for folder in sorted(_kept().glob("*")):
        if re.fullmatch("[0-9a-f]{64}", folder.name):
            yield from sorted(path for path in folder.glob("[!.]*") if path.is_file())


def _kept() -> Path:
    return cache_folder() / "weights"


def _fetch(source: WeightsUrl, download: bool) -> Path:
    path = source.path
    if path.is_file() and _is_whole(path, path.stat().st_mtime_ns, source.sha256):
        return path
    if not download:
        raise MissingError(
            f"{source.text}: these weights aren't here yet, and decoding fetches none unless "
            "told to (--download)"
        )
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / ".lock"):  # of several processes, one fetches
            if not (path.is_file() and _is_whole(path, path.stat().st_mtime_ns, source.sha256)):
                _fetch_into(path, source)
    except OSError as error:
        raise InputError(f"{path.parent}: can't write there ({error.strerror})") from None
    return path


def _fetch_into(path: Path, source: WeightsUrl) -> None:
    print(f"fetching {source.text}", file=sys.stderr, flush=True)
    data = read_url(source.url, LIMIT, "fetch it elsewhere and name the file instead of the URL")
    found = hashlib.sha256(data).hexdigest()
    if found != source.sha256:
        raise InputError(
            f"{source.text}: its SHA-256 is {found}, not {source.sha256}: another file, or "
            "damaged on the way; it was not kept"
        )
    write_bytes_atomically(path, data)


@lru_cache(maxsize=64)
def _is_whole(path: Path, written: int, sha256: str) -> bool:
    """Whether a file is what it was when it was fetched; asked once for each time of writing."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
