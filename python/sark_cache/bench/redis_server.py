"""A real Redis server of our own: on a free port of the loopback interface, in memory only, ended after use.

Never touches a server that was there before. Used by the benchmark, and by tests that need a real server.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from types import TracebackType

HOST = "127.0.0.1"
PROGRAM = "redis-server"

_STARTS = 5
_SECONDS_TO_START = 10.0


class ServerUnavailable(RuntimeError):
    """No Redis server is available. The message says why."""


class RedisServer:
    """A running server, as a context manager that ends it.

    Raises ``ServerUnavailable`` if the program isn't installed or doesn't start.
    """

    def __init__(self, *options: str) -> None:
        program = shutil.which(PROGRAM)
        if program is None:
            raise ServerUnavailable(f"{PROGRAM} is not installed")
        for _ in range(_STARTS):
            self.port = _free_port()
            arguments = [
                program,
                "--bind",
                HOST,
                "--port",
                str(self.port),
                "--save",
                "",
                "--appendonly",
                "no",
                *options,
            ]
            self._process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if self._answers():
                return
            # Another process may have taken the port since it was found free, so try another one.
            self.close()
        raise ServerUnavailable(f"{PROGRAM} did not start on any of {_STARTS} ports")

    def close(self) -> None:
        """Ends the server. May be called again."""
        self._process.terminate()
        try:
            self._process.wait(timeout=_SECONDS_TO_START)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answers(self) -> bool:
        end = time.monotonic() + _SECONDS_TO_START
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with socket.create_connection((HOST, self.port), timeout=1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(16).startswith(b"+PONG"):
                        return True
            except OSError:
                pass
            time.sleep(0.01)
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
