"""Official archives from the network: several mirrors, resumed downloads, and nothing taken for data that isn't.

An archive counts when its md5 is the one published, or, where a mirror has packed the files anew, when the md5 of
every file in it is. CHID has no published md5: its archive must hold every file, whole. Archives are kept as they are
and read in place.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from cluebench.benchmark.tasks import Task
from cluebench.data.archive import check_archive, find_member, md5_of, open_member
from cluebench.data.official import OfficialFile, official_files
from cluebench.foundation.errors import DataError, DiskFull, NetworkError
from cluebench.foundation.notices import notice, progress

if TYPE_CHECKING:
    import requests


#: Where the archives are, in the order in which they are tried: PaddleNLP's own mirror, CLUE's, the hub.
MIRRORS = (
    "{archive_url}",
    "https://storage.googleapis.com/cluebenchmark/tasks/{task}_public.zip",
    # Only with HF_ENDPOINT: the data set `clue` of the public hub holds a conversion, from which the official files
    # can't be made again (ids, files and disputed rows are lost), but a hub of one's own may keep the archives in it.
    "{hub}/datasets/clue/clue/resolve/main/{task}_public.zip",
)


@dataclass(frozen=True)
class Patience:
    """How long to wait for what, in seconds. A machine without network must be told so within ten."""

    reach: float = 7.0  # for any mirror's host to accept a connection, all asked at once
    connect: float = 10.0
    read: float = 30.0  # without a single byte arriving
    pauses: tuple[float, ...] = (1.0, 4.0, 15.0)  # before each further try of errors that can heal
    window: float = 30.0  # in which at least LEAST_RATE bytes a second must come, else the next mirror is tried


#: Larger than any CLUE archive; what is longer is something else.
MAX_DOWNLOAD_BYTES = 1 << 30

#: Bytes a second below which a mirror is given up for the next: the largest archive would take four hours.
LEAST_RATE = 10_000

#: Answers that may be different a moment later; other failures of a request won't.
_TEMPORARY_STATUS = {408, 425, 429, 500, 502, 503, 504}


def data_home() -> Path:
    """``datasets/clue`` in PaddleNLP's own home: PPNLP_HOME, else ~/.paddlenlp."""
    return Path(os.environ.get("PPNLP_HOME") or "~/.paddlenlp").expanduser() / "datasets" / "clue"


def mirror_addresses(task: Task) -> list[str]:
    """Where a task's archive may be had, best first."""
    parts = {"task": task.name, "hub": os.environ.get("HF_ENDPOINT", "").rstrip("/")}
    parts["archive_url"] = next((file.archive_url for file in _files_of(task)), "")
    addresses = [mirror.format(**parts) for mirror in MIRRORS]
    return [address for address in addresses if urlsplit(address).scheme]


def fetch_archive(
    task: Task, directory: Path, *, addresses: Sequence[str] | None = None, patience: Patience = Patience()
) -> Path:
    """Brings ``<directory>/<task>_public.zip`` from the first of ``addresses`` that has it whole; returns its path.

    One process downloads, others wait for it. Interrupted downloads are taken up where they stopped.
    Raises NetworkError when no mirror has it, DiskFull when it doesn't fit, and DataError when ``directory`` can't be
    written.
    """
    target = directory / f"{task.name}_public.zip"
    with _disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with _only_one(directory / f".{target.name}.lock", target.name):
            if not target.exists():  # else another process brought it while this one waited
                _fetch(task, target, addresses or mirror_addresses(task), patience)
    return target


class _Failed(Exception):
    """A mirror did not give the archive. ``heals``: another try may not fail."""

    def __init__(self, reason: str, *, heals: bool = False):
        super().__init__(reason)
        self.heals = heals


def _fetch(task: Task, target: Path, addresses: Sequence[str], patience: Patience) -> None:
    """Tries the mirrors in turn, and those that may heal again after a pause."""
    reasons = unreachable(addresses, patience.reach)
    left = [address for address in addresses if address not in reasons]
    corrupt: set[str] = set()
    for pause in (0.0, *patience.pauses):
        if not left:
            break
        time.sleep(pause)
        for address in list(left):
            part = target.with_name(f".{target.name}.{hashlib.sha256(address.encode()).hexdigest()[:8]}.part")
            try:
                notice(f"downloading {target.name} from {address}")
                _download(address, part, target.name, patience)
                _accept(task, part, address)
            except (_Failed, DataError) as error:
                reasons[address] = str(error)
                notice(f"{address}: {error}")
                # What was damaged on its way, or put together from two versions, deserves one more try.
                heals = error.heals if isinstance(error, _Failed) else address not in corrupt
                if isinstance(error, DataError):
                    corrupt.add(address)
                if not heals:
                    left.remove(address)
                continue
            os.replace(part, target)
            for other in target.parent.glob(f".{target.name}.*.part"):
                other.unlink(missing_ok=True)
            return
    told = "; ".join(f"{address}: {reasons[address]}" for address in addresses)
    raise NetworkError(
        f"{task.name}: {target.name} could not be downloaded ({told}); get it by other means and put it at {target}, "
        f"or name a directory that holds it by --data_dir or CLUE_DATA_DIR"
    )


# Reaching a mirror ----------------------------------------------------------------------------------------------------


def unreachable(addresses: Sequence[str], seconds: float) -> dict[str, str]:
    """Address → why its host, or the proxy before it, takes no connection.

    All are asked at once, in threads: name resolution has no time limit of its own and can hang for minutes.
    """
    found: dict[str, str | None] = {}

    def knock(address: str) -> None:
        try:
            socket.create_connection(_first_hop(address), timeout=seconds).close()
            found[address] = None
        except (OSError, ValueError) as error:  # ValueError: a host that is no name at all
            found[address] = getattr(error, "strerror", None) or str(error)

    threads = [threading.Thread(target=knock, args=(address,), daemon=True) for address in addresses]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    reasons = {address: found.get(address, f"no connection within {seconds:g} s") for address in addresses}
    return {address: reason for address, reason in reasons.items() if reason is not None}


def _first_hop(address: str) -> tuple[str, int]:
    """Host and port that a request to ``address`` connects to: a proxy's, when the environment names one."""
    from requests.utils import get_environ_proxies, select_proxy  # slow to import, rarely wanted

    proxy = select_proxy(address, get_environ_proxies(address))
    hop = urlsplit(address) if proxy is None else urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return hop.hostname or "", hop.port or (443 if hop.scheme == "https" else 80)


# One try --------------------------------------------------------------------------------------------------------------


def _download(address: str, part: Path, name: str, patience: Patience) -> None:
    """Leaves the whole body in ``part``, going on from what is there. Raises _Failed."""
    import requests  # slow to import, rarely wanted
    import urllib3

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    timeout = (patience.connect, patience.read)
    try:
        with requests.get(address, headers=headers, stream=True, timeout=timeout) as response:
            if response.status_code == 416:  # nothing is left to send, or what is here is of another file
                return
            start = _body_start(response, have)
            length = response.headers.get("Content-Length", "")
            total = start + int(length) if re.fullmatch("[0-9]{1,15}", length) else None
            _write_body(response, part, name, start, total, patience.window)
    except (requests.exceptions.SSLError, requests.exceptions.ProxyError, requests.TooManyRedirects) as error:
        raise _Failed(_reason(error)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, ValueError) as error:
        # ValueErrors, requests' own among them, are of an address, or one it is sent on to, that is none
        raise _Failed(_reason(error), heals=not isinstance(error, ValueError)) from error


def _body_start(response: requests.Response, have: int) -> int:
    """Position in the file of the body's first byte. A mirror may ignore the wish for a range and send everything."""
    status = response.status_code
    if status == 200:
        return 0
    if status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        return have
    if status == 206:
        raise _Failed(f"sent another range than asked for ({response.headers.get('Content-Range')})")
    raise _Failed(f"{status} {response.reason}".strip(), heals=status in _TEMPORARY_STATUS)


def _write_body(
    response: requests.Response, part: Path, name: str, start: int, total: int | None, window: float
) -> None:
    if (total or 0) > MAX_DOWNLOAD_BYTES:
        raise _Failed(f"offers {total} bytes: not a CLUE archive")
    bar = progress(name, total, "B", initial=start, unit_scale=True)
    with open(part, "r+b" if start else "wb") as stream, bar:
        stream.seek(start)
        stream.truncate()
        # read1 hands over what has arrived: iter_content would keep back, and lose, what comes just before a break.
        since, counted = time.monotonic(), start
        while block := response.raw.read1(1 << 16, decode_content=True):
            if (seconds := time.monotonic() - since) > window:
                if stream.tell() - counted < LEAST_RATE * seconds:
                    raise _Failed(f"sends less than {LEAST_RATE:,} bytes a second", heals=True)
                since, counted = time.monotonic(), stream.tell()
            stream.write(block)
            bar.update(len(block))
            if stream.tell() > MAX_DOWNLOAD_BYTES:
                raise _Failed("sends without end: not a CLUE archive")
        size = stream.tell()
        stream.flush()
        os.fsync(stream.fileno())
    if total is not None and size < total:
        raise _Failed(f"the connection ended after {size} of {total} bytes", heals=True)


def _reason(error: Exception) -> str:
    """The innermost cause, in one line."""
    innermost: BaseException = error
    while (cause := innermost.__cause__ or innermost.__context__) is not None:
        innermost = cause
    return " ".join(f"{type(innermost).__name__}: {innermost}".split())[:200]


# Whether it is the archive --------------------------------------------------------------------------------------------


def _accept(task: Task, part: Path, address: str) -> None:
    """Raises DataError, with ``part`` removed, unless it is the official archive and harmless."""
    files = _files_of(task)
    try:
        check_archive(part)
        with open(part, "rb") as stream:
            is_official = bool(files) and md5_of(stream) == files[0].archive_md5
        if not is_official:
            _check_members(task, part)
    except DataError as error:
        part.unlink(missing_ok=True)
        raise DataError(str(error).replace(str(part), "what it sent")) from error
    if not any(file.md5 for file in files):
        notice(f"no md5 is published for {task.title}: its files are taken as they came from {address}")


def _check_members(task: Task, part: Path) -> None:
    """Raises DataError unless every file of the task is there, with the published md5 where there is one."""
    known = {file.file: file.md5 for file in _files_of(task)}
    for name in task.files:
        member = find_member(part, name)
        if member is None:
            raise DataError(f"{part} has no {name}")
        with open_member(part, member) as stream:
            md5 = md5_of(stream)
        if known.get(name) not in (None, md5):
            raise DataError(f"{part} is not the official archive: the md5 of {name} is {md5}, not {known[name]}")


def _files_of(task: Task) -> list[OfficialFile]:
    return [file for (name, _), file in official_files().items() if name == task.name]


# The data home --------------------------------------------------------------------------------------------------------


@contextmanager
def _only_one(lock: Path, what: str) -> Iterator[None]:
    """Holds a lock between processes; says so when it has to wait."""
    guard = FileLock(lock)
    try:
        guard.acquire(timeout=0.2)
    except Timeout:
        notice(f"waiting for another process that downloads {what}")
        guard.acquire()
    try:
        yield
    finally:
        guard.release()


@contextmanager
def _disk_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space left for data sets in {directory}: free some, or set PPNLP_HOME") from error
        message = f"the data home {directory} can't be written ({error.strerror or error}): set PPNLP_HOME to another"
        raise DataError(message) from error
