"""A network between nodes and a store that fails on command: toxiproxy, one proxy per node."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.servers import DIRECT, binary, free_port

_START_SECS = 20.0


class Proxy:
    """One listening port and what may happen to what passes through it. Blocking calls, of a millisecond or two."""

    def __init__(self, control: str, name: str, listen: str) -> None:
        self.endpoint = f"http://{listen}"
        self._control, self._name = control, name

    def refuse(self) -> None:
        """The server is gone: connections end, new ones are refused."""
        self._call("POST", f"/proxies/{self._name}", {"enabled": False})

    def hang(self) -> None:
        """Connections stay and are accepted; nothing passes any more, either way."""
        for stream in ("upstream", "downstream"):
            self._toxic("timeout", stream, {"timeout": 0})

    def cut_answers(self, count: int) -> None:
        """Requests arrive; each connection ends once `count` bytes of answers passed."""
        self._toxic("limit_data", "downstream", {"bytes": count})

    def delay(self, latency_ms: int, jitter_ms: int) -> None:
        self._toxic("latency", "downstream", {"latency": latency_ms, "jitter": jitter_ms})

    def heal(self) -> None:
        for toxic in self._call("GET", f"/proxies/{self._name}/toxics"):
            self._call("DELETE", f"/proxies/{self._name}/toxics/{toxic['name']}")
        self._call("POST", f"/proxies/{self._name}", {"enabled": True})

    def _toxic(self, kind: str, stream: str, attributes: dict[str, int]) -> None:
        body = {"name": f"{kind}-{stream}", "type": kind, "stream": stream, "attributes": attributes}
        self._call("POST", f"/proxies/{self._name}/toxics", body)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        return call(self._control, method, path, body)


def call(control: str, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(control + path, data, {"Content-Type": "application/json"}, method=method)
    with DIRECT.open(request, timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else None


@contextmanager
def proxies(upstreams: Sequence[str], folder: Path) -> Iterator[list[Proxy]]:
    """A proxy in front of each of the servers at these URLs."""
    port = free_port()
    control = f"http://127.0.0.1:{port}"
    command = [binary("toxiproxy"), "-host", "127.0.0.1", "-port", str(port)]
    with (folder / "toxiproxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(control, process, folder / "toxiproxy.log")
        yield [_made(control, f"way{n}", urlsplit(upstream).netloc) for n, upstream in enumerate(upstreams)]
    finally:
        process.terminate()
        process.wait()


def _made(control: str, name: str, upstream: str) -> Proxy:
    body = {"name": name, "listen": "127.0.0.1:0", "upstream": upstream, "enabled": True}
    return Proxy(control, name, call(control, "POST", "/proxies", body)["listen"])


def _wait(control: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECS
    while True:
        assert process.poll() is None, log.read_text()
        try:
            call(control, "GET", "/proxies")
            return
        except OSError:
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
