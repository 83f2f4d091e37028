"""Downloads from mirrors that fail in every way; the server is on this machine, so no network is needed.

No corrupt file is ever used as data, and in the end the sound mirror is used.
"""

import errno
import hashlib
import io
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data import download
from cluebench.data.download import Patience, fetch_archive, mirror_addresses
from cluebench.data.official import OfficialFile, official_files
from cluebench.data.source import open_source
from cluebench.foundation.errors import DataError, DiskFull, NetworkError

AFQMC = TASKS["afqmc"]
PATIENT = Patience()
QUICK = Patience(reach=5.0, connect=5.0, read=5.0, pauses=(0.01, 0.02, 0.03))
#: For mirrors that stall.
IMPATIENT = Patience(reach=5.0, connect=5.0, read=0.5, pauses=(0.01, 0.02, 0.03), window=0.2)


def _archive(members, extra=()):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for info, content in extra:
            archive.writestr(info, content)
    return packed.getvalue()


#: Random bytes in hexadecimal, so that the archive is tens of kilobytes and can be cut in its middle.
MEMBERS = {name: os.urandom(20_000).hex() for name in AFQMC.files}
GOOD = _archive(MEMBERS)


@pytest.fixture(autouse=True)
def official(monkeypatch):
    """MEMBERS are the official files here."""
    address, archive_md5 = "http://127.0.0.1:1/afqmc_public.zip", hashlib.md5(GOOD).hexdigest()
    facts = {}
    for name, content in MEMBERS.items():
        md5 = hashlib.md5(content.encode()).hexdigest()
        facts["afqmc", name] = OfficialFile("afqmc", name, None, None, md5, address, archive_md5)
    monkeypatch.setattr("cluebench.data.official.official_files", lambda: facts)
    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    return facts


class Mirrors:
    """A server whose paths are mirrors: each answers request after request as its script says, then as its last line."""

    def __init__(self):
        self.scripts, self.requests = {}, []
        mirrors = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                mirrors.requests.append((self.path, self.headers.get("Range")))
                script = mirrors.scripts[self.path]
                try:
                    (script.pop(0) if len(script) > 1 else script[0])(self)
                except ConnectionError:
                    pass

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def add(self, name, *script):
        self.scripts[f"/{name}/afqmc_public.zip"] = list(script)
        return f"http://127.0.0.1:{self.server.server_port}/{name}/afqmc_public.zip"

    def asked(self, name):
        """The Range headers of the requests a mirror got."""
        return [asked for path, asked in self.requests if path.startswith(f"/{name}/")]


@pytest.fixture
def mirrors():
    server = Mirrors()
    yield server
    server.server.shutdown()
    server.server.server_close()


def _send(handler, body, status=200, length=None, headers=()):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def whole(body):
    """Sends everything, whatever range is asked for."""
    return lambda handler: _send(handler, body)


def ranged(body):
    """Sends what is asked for."""

    def answer(handler):
        wish = handler.headers.get("Range")
        if wish is None:
            return _send(handler, body)
        start = int(wish.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            return _send(handler, b"", 416)
        headers = [("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")]
        _send(handler, body[start:], 206, headers=headers)

    return answer


def truncated(body, size, after=None):
    """Announces everything, sends the first ``size`` bytes, then does ``after`` and hangs up."""

    def answer(handler):
        _send(handler, body[:size], length=len(body))
        handler.wfile.flush()
        if after:
            after(handler)
        handler.close_connection = True

    return answer


def reset(handler):
    """Ends the connection with a TCP reset."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()


def stall(handler):
    time.sleep(2.0)


def drip(handler):
    """A few bytes after the other, for two seconds."""
    for start in range(1000, 3000, 10):
        handler.wfile.write(GOOD[start : start + 10])
        handler.wfile.flush()
        time.sleep(0.01)


def sent_on(location):
    return lambda handler: _send(handler, b"", 302, headers=[("Location", location)])


def with_length(length):
    """Everything, under an odd Content-Length."""
    return lambda handler: _send(handler, GOOD, length=length)


def status(code):
    return lambda handler: _send(handler, b"sorry", code)


good = ranged(GOOD)


def _fetched(tmp_path, *addresses, patience=QUICK):
    path = fetch_archive(AFQMC, tmp_path, addresses=addresses, patience=patience)
    assert path == tmp_path / "afqmc_public.zip" and path.read_bytes() == GOOD
    leftovers = {name for name in os.listdir(tmp_path)} - {"afqmc_public.zip", ".afqmc_public.zip.lock"}
    assert not leftovers
    return path


def _fails(folder, *addresses, error=NetworkError, patience=QUICK):
    """The one line of the error. Nothing that arrived counts as an archive."""
    with pytest.raises(error) as caught:
        fetch_archive(AFQMC, folder, addresses=addresses, patience=patience)
    assert not (folder / "afqmc_public.zip").exists() and "\n" not in str(caught.value)
    return str(caught.value)


def test_the_first_mirror_is_enough(mirrors, tmp_path):
    _fetched(tmp_path, mirrors.add("a", good), mirrors.add("b", good))
    assert len(mirrors.asked("a")) == 1 and not mirrors.asked("b")


BAD_MIRRORS = {
    "forbidden": [status(403)],
    "not found": [status(404)],
    "busy": [status(503)],
    "cut": [truncated(GOOD, 1000)],
    "stalled": [truncated(GOOD, 1000, stall)],
    "dripping": [truncated(GOOD, 1000, drip)],
    "sent on to nowhere": [sent_on("http://[")],
    "sent on to no address": [sent_on("http://exa mple:port/\xff")],
    "sent on to another scheme": [sent_on("file:///etc/passwd")],
    "sent on for ever": [sent_on("afqmc_public.zip")],
    "two lengths": [with_length("5, 7")],
    "reset": [truncated(GOOD, 1000, reset)],
    "reset at once": [reset],
    "web page": [whole(b"<html>please log in</html>")],
    "empty": [whole(b"")],
    "another archive": [whole(_archive({**MEMBERS, "dev.json": "changed"}))],
    "file missing": [whole(_archive({"train.json": MEMBERS["train.json"]}))],
    "escaping": [whole(_archive(MEMBERS, [(zipfile.ZipInfo("../../.bashrc"), "evil")]))],
    "absolute": [whole(_archive(MEMBERS, [(zipfile.ZipInfo("/etc/cron.d/evil"), "evil")]))],
    "bomb": [whole(_archive({**MEMBERS, "bomb.json": b"\0" * (8 << 20)}))],
    "flipped bit": [whole(GOOD[:5000] + bytes([GOOD[5000] ^ 1]) + GOOD[5001:])],
    "other range": [truncated(GOOD, 1000), lambda handler: _send(handler, GOOD[5:], 206)],
}


def patience_with(name):
    return IMPATIENT if name in ("stalled", "dripping") else QUICK


@pytest.mark.parametrize("name", BAD_MIRRORS)
def test_the_good_mirror_is_used_in_the_end(mirrors, tmp_path, name):
    """The next mirror is tried before the same mirror again."""
    addresses = mirrors.add("bad", *BAD_MIRRORS[name]), mirrors.add("good", good)
    _fetched(tmp_path, *addresses, patience=patience_with(name))
    assert len(mirrors.asked("bad")) == (31 if name == "sent on for ever" else 1)


#: Part of the reason, and how often a mirror is asked: once if it can't heal, twice if the file may have been damaged on
#: its way, the rest as often as patience goes.
REASONS = {
    "forbidden": ("403 Forbidden", 1),
    "not found": ("404 Not Found", 1),
    "busy": ("503 Service Unavailable", 4),
    "stalled": ("timed out", 4),
    "dripping": ("sends less than 10,000 bytes a second", 4),
    "sent on to nowhere": ("Invalid", 1),
    "sent on to another scheme": ("No connection adapters", 1),
    "web page": ("can't be read as a zip archive", 2),
    "another archive": ("the md5 of dev.json is", 2),
    "file missing": ("has no dev.json", 2),
    "escaping": ("'../../.bashrc' would leave the folder", 2),
    "bomb": ("like a decompression bomb", 2),
}


@pytest.mark.parametrize("name", BAD_MIRRORS)
def test_nothing_corrupt_is_used(mirrors, tmp_path, name):
    address = mirrors.add("bad", *BAD_MIRRORS[name])
    message, asked = _fails(tmp_path, address, patience=patience_with(name)), len(mirrors.asked("bad"))
    reason, times = REASONS.get(name, ("", asked))
    assert reason in message and asked == times
    assert message.startswith("afqmc: afqmc_public.zip could not be downloaded") and address in message
    assert f"put it at {tmp_path / 'afqmc_public.zip'}" in message and "CLUE_DATA_DIR" in message


@pytest.mark.parametrize("length", ["-5", "1e9", "²", "none", "", "9" * 20])
def test_an_odd_length_is_no_length(mirrors, tmp_path, length):
    def answer(handler):
        with_length(length)(handler)
        handler.close_connection = True

    _fetched(tmp_path, mirrors.add("a", answer), mirrors.add("b", good))


def test_all_mirrors_are_named_with_their_reasons(mirrors, tmp_path):
    first, second = mirrors.add("a", status(403)), mirrors.add("b", status(404))
    assert f"{first}: 403 Forbidden; {second}: 404 Not Found" in _fails(tmp_path, first, second)


def test_pauses_grow_with_every_round(mirrors, tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(download.time, "sleep", slept.append)
    _fails(tmp_path, mirrors.add("a", status(500)), mirrors.add("b", status(500)), patience=Patience())
    pauses = [pause for pause in slept if pause]
    assert pauses == list(Patience().pauses) and pauses == sorted(pauses) and len(set(pauses)) == len(pauses)


# Going on -------------------------------------------------------------------------------------------------------------


OTHER = os.urandom(2 * len(GOOD))

#: What a mirror answers, request after request, and the ranges that it is asked for.
RESUMED = {
    "cut": ([truncated(GOOD, 10_000), good], [None, "bytes=10000-"]),
    "reset": ([truncated(GOOD, 10_000, reset), good], [None, "bytes=10000-"]),
    "stalled": ([truncated(GOOD, 10_000, stall), good], [None, "bytes=10000-"]),
    "range ignored": ([truncated(GOOD, 10_000), whole(GOOD)], [None, "bytes=10000-"]),
    # The halves of two versions make no archive.
    "file changed": ([truncated(OTHER[: len(GOOD)], 10_000), good], [None, "bytes=10000-", None]),
    # A mirror's file was replaced by a shorter one.
    "part too long": ([truncated(OTHER, len(GOOD) + 5), good], [None, f"bytes={len(GOOD) + 5}-", None]),
    "busy, then well": ([status(503), reset, status(429), good], [None] * 4),
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_download_goes_on_where_it_stopped(mirrors, tmp_path, name):
    script, asked = RESUMED[name]
    _fetched(tmp_path, mirrors.add("a", *script), patience=patience_with(name))
    assert mirrors.asked("a") == asked


def test_a_killed_download_goes_on_in_the_next_process(mirrors, tmp_path):
    address = mirrors.add("a", truncated(GOOD, 30_000), status(404))
    _fails(tmp_path, address)
    mirrors.scripts["/a/afqmc_public.zip"] = [good]
    _fetched(tmp_path, address)
    assert mirrors.asked("a")[-1] == "bytes=30000-"


def test_mirrors_do_not_continue_each_others_files(mirrors, tmp_path):
    other = os.urandom(50_000)
    _fetched(tmp_path, mirrors.add("a", truncated(other, 20_000)), mirrors.add("b", good))
    assert mirrors.asked("b") == [None]


def test_a_part_that_is_complete_already(mirrors, tmp_path):
    """Killed between the last byte and the renaming."""
    address = mirrors.add("a", good)
    (tmp_path / f".afqmc_public.zip.{hashlib.sha256(address.encode()).hexdigest()[:8]}.part").write_bytes(GOOD)
    _fetched(tmp_path, address)
    assert mirrors.asked("a") == [f"bytes={len(GOOD)}-"]


# What is accepted -----------------------------------------------------------------------------------------------------


def test_another_packing_of_the_official_files(mirrors, tmp_path):
    again = _archive({f"afqmc_public/{name}": content for name, content in MEMBERS.items()})
    path = fetch_archive(AFQMC, tmp_path, addresses=[mirrors.add("a", whole(again))], patience=QUICK)
    assert path.read_bytes() == again


def test_endless_and_oversized_bodies(mirrors, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_DOWNLOAD_BYTES", 50_000)

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 10_000)

    for name, answer, needle in (("a", good, "offers"), ("b", endless, "sends without end")):
        assert needle in _fails(tmp_path, mirrors.add(name, answer))


def test_files_without_published_md5_are_used_with_a_notice(mirrors, tmp_path, monkeypatch, official, capsys):
    unknown = {key: replace(file, md5=None, archive_md5=None) for key, file in official.items()}
    monkeypatch.setattr("cluebench.data.official.official_files", lambda: unknown)
    address = mirrors.add("a", whole(_archive({"train.json": "x"})), good)
    _fetched(tmp_path, address)  # the first had no dev.json
    assert f"no md5 is published for AFQMC: its files are used as they came from {address}" in capsys.readouterr().err


# Reaching nobody ------------------------------------------------------------------------------------------------------


def _closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _unreachable(folder, reason, *addresses, patience=PATIENT):
    """The error comes at once."""
    start = time.monotonic()
    assert reason in _fails(folder, *addresses, patience=patience)
    assert time.monotonic() - start < 6


def test_refused_connections_end_at_once(tmp_path):
    _unreachable(tmp_path, "Connection refused", f"http://127.0.0.1:{_closed_port()}/afqmc_public.zip")


def test_names_that_do_not_resolve_end_at_once(tmp_path, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    _unreachable(tmp_path, "Name or service not known", "https://mirror.invalid/afqmc_public.zip")


def test_name_resolution_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(30) and [])
    addresses = [f"https://mirror{number}.invalid/afqmc_public.zip" for number in range(3)]
    _unreachable(tmp_path, "no connection within 0.2 s", *addresses, patience=Patience(reach=0.2))
    released.set()


def test_patience_with_a_dead_network_is_below_ten_seconds():
    assert Patience().reach < 10


def test_one_dead_mirror_does_not_hold_up_the_others(mirrors, tmp_path):
    _fetched(tmp_path, f"http://127.0.0.1:{_closed_port()}/afqmc_public.zip", mirrors.add("good", good))


def test_the_proxy_is_the_one_to_reach(mirrors, tmp_path, monkeypatch):
    """Behind a proxy names needn't resolve here; one that isn't there is named as the reason."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{mirrors.server.server_port}")
    address = "http://mirror.invalid/afqmc_public.zip"
    mirrors.scripts[address] = [good]  # a proxy is asked for the whole address
    _fetched(tmp_path, address)
    (tmp_path / "afqmc_public.zip").unlink()
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{_closed_port()}")
    assert "Connection refused" in _fails(tmp_path, address)


def test_a_proxy_that_refuses_is_asked_once(mirrors, tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{mirrors.server.server_port}")
    _unreachable(tmp_path, "Tunnel connection failed", "https://mirror.invalid/afqmc_public.zip")


# Files and processes --------------------------------------------------------------------------------------------------


def test_an_archive_that_is_there_is_not_asked_for(mirrors, tmp_path):
    (tmp_path / "afqmc_public.zip").write_bytes(b"placed by hand")
    assert fetch_archive(AFQMC, tmp_path, addresses=[mirrors.add("a", good)]).read_bytes() == b"placed by hand"
    assert not mirrors.requests


@pytest.mark.slow
def test_parallel_processes_download_once(mirrors, tmp_path):
    others_wait = threading.Event()

    def slow(handler):
        assert others_wait.wait(60)
        good(handler)

    address = mirrors.add("a", slow)
    code = (
        "import sys, pathlib\n"
        "from cluebench.data import download, official\n"
        "from cluebench.data.official import OfficialFile\n"
        "from cluebench.benchmark.tasks import TASKS\n"
        "facts = {('afqmc', n): OfficialFile('afqmc', n, None, None, None, '', None) for n in TASKS['afqmc'].files}\n"
        "official.official_files = lambda: facts\n"
        "download.fetch_archive(TASKS['afqmc'], pathlib.Path(sys.argv[1]), addresses=[sys.argv[2]])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), address]
    log = tmp_path / "log"
    with open(log, "w") as stream:
        running = [subprocess.Popen(command, stderr=stream) for _ in range(4)]
    deadline = time.monotonic() + 60
    while log.read_text().count("waiting for another process that downloads afqmc_public.zip") < 3:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    others_wait.set()
    assert [process.wait(60) for process in running] == [0] * 4, log.read_text()
    assert len(mirrors.requests) == 1
    assert (tmp_path / "afqmc_public.zip").read_bytes() == GOOD


def test_a_full_disk_is_named(mirrors, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    assert f"no space left for data sets in {tmp_path}" in _fails(tmp_path, mirrors.add("a", good), error=DiskFull)


def test_a_data_home_that_can_not_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    message = _fails(tmp_path / "file" / "clue", "http://127.0.0.1:1/x", error=DataError)
    assert "can't be written" in message and "set PPNLP_HOME" in message


# Mirrors and the source -----------------------------------------------------------------------------------------------


def test_mirrors_are_those_of_the_facts_and_of_the_hub_in_use(monkeypatch):
    monkeypatch.setattr("cluebench.data.official.official_files", official_files)
    assert mirror_addresses(TASKS["cmrc2018"]) == [
        "https://paddlenlp.bj.bcebos.com/datasets/cmrc2018_public.zip",
        "https://storage.googleapis.com/cluebenchmark/tasks/cmrc2018_public.zip",
    ]
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example/")
    for task in TASKS.values():
        addresses = mirror_addresses(task)
        assert len(addresses) == 3
        assert addresses[-1] == f"https://hub.example/datasets/clue/clue/resolve/main/{task.name}_public.zip"


def test_a_source_without_directory_downloads_what_it_is_asked_for(mirrors, tmp_path, monkeypatch):
    hub = f"http://127.0.0.1:{mirrors.server.server_port}"
    mirrors.scripts["/datasets/clue/clue/resolve/main/afqmc_public.zip"] = [good]
    monkeypatch.setattr(download, "MIRRORS", download.MIRRORS[-1:])
    monkeypatch.setenv("HF_ENDPOINT", hub)
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path))
    source = open_source()
    assert not source.has(AFQMC, "dev.json") and not mirrors.requests
    assert source.read(AFQMC, "dev.json") == MEMBERS["dev.json"].encode()
    assert source.read(AFQMC, "train.json") == MEMBERS["train.json"].encode()
    assert len(mirrors.requests) == 1
    assert (tmp_path / "datasets" / "clue" / "afqmc_public.zip").exists()
    assert open_source(offline=True).fingerprint(AFQMC) == source.fingerprint(AFQMC)


def test_progress_goes_to_stderr_and_stays_out_of_logs(mirrors, tmp_path, capsys):
    address = mirrors.add("a", good)
    _fetched(tmp_path, address)
    out, err = capsys.readouterr()
    assert out == "" and err == f"downloading afqmc_public.zip from {address}\n"


def test_the_table_of_official_files():
    """The table itself: no empty addresses, archives named like their task."""
    for (name, _), file in official_files().items():
        assert file.archive_url.startswith("https://") and f"{name}_public.zip" in file.archive_url
        assert file.md5 is None or len(file.md5) == 32
