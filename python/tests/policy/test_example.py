"""The example in `examples/gateway.py`, run as a service: in one process, and forked."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import PROJECT, wait_until

for needed in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(needed)

EXAMPLE = PROJECT / "examples" / "gateway.py"


@pytest.fixture
def gateway() -> Any:
    spec = importlib.util.spec_from_file_location("gateway", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gateway"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gateway"]


class Client:
    """Sends requests to a service at a port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json", "connection": "close"}
            | {name.replace("_", "-"): value for name, value in headers.items()},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def call(self, user: str, tool: str, **headers: str) -> int:
        return self("POST", f"/tools/{tool}", x_user=user, **headers)[0]


@contextmanager
def served(app: Any) -> Iterator[Client]:
    """Serves the application in a thread, from its start to its end."""
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield Client(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
    assert not thread.is_alive()


@pytest.fixture
def client(gateway: Any) -> Iterator[Client]:
    with served(gateway.app) as client:
        yield client


def test_an_endpoint_is_guarded_by_decisions_that_are_evaluated_once(client: Any, gateway: Any) -> None:
    for _ in range(3):
        assert client.call("alice", "admin-reset") == 200
        assert client.call("bob", "admin-reset") == 403
        assert client.call("eve", "search") == 403
    assert gateway.app.state.evaluations == 3


def test_a_change_of_roles_is_seen_by_the_next_request(client: Any) -> None:
    assert client.call("bob", "admin-reset") == 403
    assert client("PUT", "/users/bob/roles", ["admin"])[0] == 200
    assert client.call("bob", "admin-reset") == 200
    client("PUT", "/users/bob/roles", ["developer"])
    assert client.call("bob", "admin-reset") == 403


def test_critical_tools_are_decided_each_time(client: Any, gateway: Any) -> None:
    for _ in range(3):
        assert client.call("alice", "deploy", x_sensitivity="critical") == 200
    assert gateway.app.state.evaluations == 3


def test_metrics_are_served_and_the_cleanup_runs_with_the_service(client: Any, gateway: Any) -> None:
    from sark_cache.policy import get_cleanup_task

    client.call("alice", "search")
    client.call("alice", "search")
    exported = client("GET", "/metrics")[1]
    assert "sark_cache_policy_hits_total 1.0" in exported.splitlines()
    assert 'sark_cache_policy_hit_seconds_bucket{le="1e-07"}' in exported
    assert json.loads(client("GET", "/health")[1])["cache"] is True
    task = get_cleanup_task()
    assert task is not None and task.running


def test_the_cleanup_ends_with_the_service(gateway: Any) -> None:
    from sark_cache.policy import get_cleanup_task

    with served(gateway.app):
        assert get_cleanup_task() is not None
    assert get_cleanup_task() is None


PREFORK = """
import os, signal, socket, sys
sys.path.insert(0, sys.argv[1])
import asyncio, uvicorn
from gateway import app, cache

# Loaded, and used, before the fork, as a prefork server does.
denial = {"allow": False, "reason": "of the parent"}
asyncio.run(cache.set("alice", "tool:invoke", "search", denial, {"roles": ["admin"]}))
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
        os._exit(0)
    children.append(child)
sys.stdin.read()
for child in children:
    os.kill(child, signal.SIGTERM)
# Workers end well, or by the signal that they were sent, which uvicorn passes on when it is done.
sys.exit(any(os.waitpid(child, 0)[1] not in (0, signal.SIGTERM) for child in children))
"""


@contextmanager
def prefork() -> Iterator[int]:
    command = [sys.executable, "-c", PREFORK, str(Path(EXAMPLE).parent)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdin is not None and server.stdout is not None and server.stderr is not None
    try:
        yield int(server.stdout.readline())
    finally:
        server.stdin.close()
        code = server.wait(30)
        errors = server.stderr.read()
        server.stdout.close()
        server.stderr.close()
    assert code == 0, errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_forked_workers_start_empty_and_serve() -> None:
    with prefork() as port:
        answers: dict[int, int] = {}

        def ask() -> bool:
            status, body = Client(port)("POST", "/tools/search", x_user="alice")
            assert status == 200, "the parent's denial was served"
            answer = json.loads(body)
            answers[answer["process"]] = answer["evaluations"]
            return len(answers) == 2

        wait_until(ask)
    assert list(answers.values()) == [1, 1]
