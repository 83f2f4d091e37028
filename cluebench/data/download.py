"""Official archives from the network: several mirrors, resumed downloads, and checks of everything that arrives.

An archive counts when its md5 is the published one, or, if a mirror has packed the files differently, when every file
in it has its published md5. CHID has no published md5: its archive must hold every file, whole. Archives are kept as
they are and read in place.
"""

import errno
import hashlib
import http.client
import os
import re
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from cluebench.benchmark.tasks import Task
from cluebench.data.archive import check_archive, find_member, md5_of, open_member
from cluebench.data.official import OfficialFile, official_file
from cluebench.foundation.errors import DataError, DiskFull, NetworkError
from cluebench.foundation.notices import notice, progress
from cluebench.foundation.time_limit import answers

#: Where the archives are, the first to try first: PaddleNLP's own mirror, CLUE's, the hub.
MIRRORS = (
    "{archive_url}",
    "https://storage.googleapis.com/cluebenchmark/tasks/{task}_public.zip",
    # Only with HF_ENDPOINT: a private hub may keep the archives in the data set `clue`. The public hub does not.
    "{hub}/datasets/clue/clue/resolve/main/{task}_public.zip",
)


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds. A machine without network must get an error within ten."""

    reach: float = 7.0  # for any mirror's host to accept a connection, all asked at once
    connect: float = 10.0
    read: float = 30.0  # without a single byte arriving
    pauses: tuple[float, ...] = (1.0, 4.0, 15.0)  # before each further try after temporary errors
    window: float = 30.0  # seconds; if fewer than LEAST_RATE bytes a second come in it, the next mirror is tried


#: Larger than any CLUE archive; what is longer is something else.
MAX_DOWNLOAD_BYTES = 1 << 30

#: Bytes a second below which the next mirror is tried: the largest archive would take four hours.
LEAST_RATE = 10_000

#: Answers that may be different a moment later.
_TEMPORARY_STATUS = {408, 425, 429, 500, 502, 503, 504}


def data_home() -> Path:
    """``datasets/clue`` in PaddleNLP's own home: PPNLP_HOME, else ~/.paddlenlp."""
    return Path(os.environ.get("PPNLP_HOME") or "~/.paddlenlp").expanduser() / "datasets" / "clue"


def mirror_addresses(task: Task) -> list[str]:
    """The addresses of a task's archive, best first."""
    parts = {"task": task.name, "hub": os.environ.get("HF_ENDPOINT", "").rstrip("/")}
    parts["archive_url"] = next((file.archive_url for file in _files_of(task)), "")
    addresses = [mirror.format(**parts) for mirror in MIRRORS]
    return [address for address in addresses if urlsplit(address).scheme]


def fetch_archive(
    task: Task, directory: Path, *, addresses: Sequence[str] | None = None, patience: Patience = Patience()
) -> Path:
    """Brings ``<directory>/<task>_public.zip`` from the first of ``addresses`` that has it whole; returns its path.

    One process downloads, others wait for it. Interrupted downloads are resumed.
    Raises NetworkError when no mirror has it, DiskFull when it doesn't fit, and DataError when ``directory`` can't be
    written.
    """
    target = directory / f"{task.name}_public.zip"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / f".{target.name}.lock")
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            notice(f"waiting for another process that downloads {target.name}")
            lock.acquire()
        try:
            if not target.exists():  # else another process brought it while this one waited
                _fetch(task, target, addresses or mirror_addresses(task), patience)
        finally:
            lock.release()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space left for data sets in {directory}: free some, or set PPNLP_HOME") from error
        message = f"the data home {directory} can't be written ({error.strerror or error}): set PPNLP_HOME to another"
        raise DataError(message) from error
    return target


class _Failed(Exception):
    """A mirror did not give the archive. ``temporary``: another try may succeed."""

    def __init__(self, reason: str, *, temporary: bool = False):
        super().__init__(reason)
        self.temporary = temporary


def _fetch(task: Task, target: Path, addresses: Sequence[str], patience: Patience) -> None:
    """Tries the mirrors in turn. After a pause, those with temporary errors are tried again."""
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
                _check(task, part, address)
            except (_Failed, DataError) as error:
                # What was damaged on its way, or put together from two versions, is tried once more.
                again = error.temporary if isinstance(error, _Failed) else address not in corrupt
                if isinstance(error, DataError):
                    corrupt.add(address)
                    part.unlink(missing_ok=True)
                reasons[address] = str(error).replace(str(part), "what it sent")
                notice(f"{address}: {reasons[address]}")
                if not again:
                    left.remove(address)
                continue
            os.replace(part, target)
            for other in target.parent.glob(f".{target.name}.*.part"):
                other.unlink(missing_ok=True)
            return
    every = "; ".join(f"{address}: {reasons[address]}" for address in addresses)
    raise NetworkError(
        f"{task.name}: {target.name} could not be downloaded ({every}); get it by other means and put it at {target}, "
        f"or name a directory that holds it by --data_dir or CLUE_DATA_DIR"
    )


def unreachable(addresses: Iterable[str], seconds: float) -> dict[str, str]:
    """Address → why its host, or the proxy before it, accepts no connection.

    All are asked at once. The time limit covers name resolution, which has none of its own and can hang for minutes.
    """

    def knock(address: str) -> None:
        socket.create_connection(_first_hop(address), timeout=seconds).close()

    silence = TimeoutError(f"no connection within {seconds:g} s")
    found = answers({address: partial(knock, address) for address in addresses}, seconds)
    errors = {address: found.get(address, silence) for address in addresses}
    return {address: getattr(error, "strerror", None) or str(error) for address, error in errors.items() if error}


def _first_hop(address: str) -> tuple[str, int]:
    """Host and port that a request to ``address`` connects to: a proxy's, when the environment names one."""
    from requests.utils import get_environ_proxies, select_proxy  # slow to import, rarely wanted

    proxy = select_proxy(address, get_environ_proxies(address))
    hop = urlsplit(address) if proxy is None else urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return hop.hostname or "", hop.port or (443 if hop.scheme == "https" else 80)


def _download(address: str, part: Path, name: str, patience: Patience) -> None:
    """Leaves the whole body in ``part``, after the bytes that are already there. Raises _Failed."""
    import requests  # slow to import, rarely wanted
    import urllib3

    start = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        timeout = (patience.connect, patience.read)
        with requests.get(address, headers=headers, stream=True, timeout=timeout) as response:
            status, sent = response.status_code, response.headers.get("Content-Range")
            if status == 416:  # nothing is left to send, or the part is of another file
                return
            if status not in (200, 206):
                raise _Failed(f"{status} {response.reason}".strip(), temporary=status in _TEMPORARY_STATUS)
            if status == 206 and not (sent or "").startswith(f"bytes {start}-"):
                raise _Failed(f"sent another range than asked for ({sent})")
            # A mirror may ignore the range and send everything.
            _write_body(response, part, name, start if status == 206 else 0, patience.window)
    except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, ValueError) as error:
        # ValueErrors, also those of requests, are about an invalid address, or a redirection to one.
        lasting = (requests.exceptions.SSLError, requests.exceptions.ProxyError, requests.TooManyRedirects, ValueError)
        innermost: BaseException = error
        while (cause := innermost.__cause__ or innermost.__context__) is not None:
            innermost = cause
        reason = " ".join(f"{type(innermost).__name__}: {innermost}".split())[:200]
        raise _Failed(reason, temporary=not isinstance(error, lasting)) from error


def _write_body(response: Any, part: Path, name: str, start: int, window: float) -> None:
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if re.fullmatch("[0-9]{1,15}", length) else None
    if (total or 0) > MAX_DOWNLOAD_BYTES:
        raise _Failed(f"offers {total} bytes: not a CLUE archive")
    bar = progress(name, total, "B", initial=start, unit_scale=True)
    with open(part, "r+b" if start else "wb") as stream, bar:
        stream.seek(start)
        stream.truncate()
        since, counted = time.monotonic(), start
        # read1 gives what has arrived; iter_content would keep back, and lose, the bytes just before a break.
        while block := response.raw.read1(1 << 16, decode_content=True):
            if (seconds := time.monotonic() - since) > window:
                if stream.tell() - counted < LEAST_RATE * seconds:
                    raise _Failed(f"sends less than {LEAST_RATE:,} bytes a second", temporary=True)
                since, counted = time.monotonic(), stream.tell()
            stream.write(block)
            bar.update(len(block))
            if stream.tell() > MAX_DOWNLOAD_BYTES:
                raise _Failed("sends without end: not a CLUE archive")
        size = stream.tell()
        stream.flush()
        os.fsync(stream.fileno())
    if total is not None and size < total:
        raise _Failed(f"the connection ended after {size} of {total} bytes", temporary=True)


def _check(task: Task, part: Path, address: str) -> None:
    """Raises DataError unless it is harmless and the official archive, or holds the official files."""
    files = _files_of(task)
    check_archive(part)
    with open(part, "rb") as stream:
        if files and md5_of(stream) == files[0].archive_md5:
            return
    published = {file.file: file.md5 for file in files if file.md5}
    for name in task.files:
        member = find_member(part, name)
        if member is None:
            raise DataError(f"{part} has no {name}")
        with open_member(part, member) as stream:
            md5 = md5_of(stream)
        if md5 != published.get(name, md5):
            raise DataError(f"{part} is not the official archive: the md5 of {name} is {md5}, not {published[name]}")
    if not published:
        notice(f"no md5 is published for {task.title}: its files are used as they came from {address}")


def _files_of(task: Task) -> list[OfficialFile]:
    return [official for file in task.files if (official := official_file(task, file))]
