"""A FastAPI service whose endpoint is guarded by cached authorization decisions.

    pip install "sark-cache[prometheus]" fastapi uvicorn
    uvicorn examples.gateway:app --workers 4

* `POST /tools/{tool}` is answered only if the policy allows it. The decision is cached per user, tool and
  roles. Requests for the same decision at the same time share one evaluation.
* `PUT /users/{user}/roles` changes a user's roles, and invalidates the decisions on that user.
* `GET /metrics` is for Prometheus.

The cleanup of expired decisions is started and stopped with the service. Every worker process has its own
cache, which starts empty, even in servers that fork after loading the application. An invalidation reaches
one process only. If several processes must agree, pass a `redis_url` to `create_policy_cache`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Header, HTTPException, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from sark_cache.policy import create_policy_cache, start_cache_cleanup, stop_cache_cleanup
from sark_cache.policy.prometheus import PolicyCacheCollector

ROLES = {"alice": ["admin"], "bob": ["developer"]}
"""Which user has which roles. In a real service, a directory."""

cache = create_policy_cache(
    max_size=10_000,
    # Calls of critical tools are decided anew each time.
    optimized_ttl={"critical": 0},
    # A denial is forgotten soon, so a user who has been granted access doesn't wait long.
    deny_ttl_seconds=10,
    # A denial made because the policy engine was down is evaluated again.
    cacheable=lambda decision: not decision.get("fail_closed", False),
)

registry = CollectorRegistry()
registry.register(PolicyCacheCollector(cache))


async def ask_the_policy_engine(user: str, tool: str, roles: list[str]) -> dict[str, Any]:
    """Stands for a request to a policy engine, such as `POST /v1/data/gateway/allow` of OPA."""
    app.state.evaluations += 1
    allow = "admin" in roles or ("developer" in roles and not tool.startswith("admin-"))
    return {"allow": allow, "reason": f"{user} has the roles {roles}"}


async def may_call(
    tool: str, x_user: Annotated[str, Header()], x_sensitivity: Annotated[str | None, Header()] = None
) -> str:
    """Lets the user of a request through, or answers 403."""
    roles = ROLES.get(x_user, [])
    decision = await cache.get_or_evaluate(
        x_user,
        "tool:invoke",
        tool,
        # Whatever decides must be in the key: the same user with other roles is another question.
        {"roles": roles},
        x_sensitivity,
        evaluate=lambda: ask_the_policy_engine(x_user, tool, roles),
    )
    # `is True`: only an explicit allow grants access.
    if decision is None or decision.get("allow") is not True:
        raise HTTPException(403, detail=decision and decision["reason"])
    return x_user


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.evaluations = 0
    await start_cache_cleanup(cache, interval=30)
    yield
    await stop_cache_cleanup()
    await cache.close()


app = FastAPI(lifespan=lifespan)


@app.post("/tools/{tool}")
async def call_tool(tool: str, user: Annotated[str, Depends(may_call)]) -> dict[str, Any]:
    return {"tool": tool, "user": user, "process": os.getpid(), "evaluations": app.state.evaluations}


@app.put("/users/{user}/roles")
async def set_roles(user: str, roles: Annotated[list[str], Body()]) -> dict[str, Any]:
    # First the change, then the invalidation: evaluations after it see the new roles.
    ROLES[user] = roles
    await cache.invalidate(user)
    return {"user": user, "roles": roles}


@app.get("/health")
async def health() -> dict[str, Any]:
    return {"cache": await cache.health_check(), "backend": cache.backend, "metrics": cache.get_metrics()}


@app.get("/metrics")
async def metrics() -> Response:
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
