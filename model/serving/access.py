"""Who may ask the server, and what every answer carries.

Safe by default: a web page that somebody visits must not reach the model of the machine it is shown on. A
request has to name this machine as its host (or a name would be enough, resolved to 127.0.0.1 by a stranger's
DNS server), and one that a browser sends for another page's sake is refused.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from model_cli import warn
from serving.answers import error_body

if TYPE_CHECKING:
    from starlette.applications import Starlette

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

RETRY_SECONDS = "1"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Where nothing is computed and nothing is known of the model:
WITHOUT_KEY = re.compile(r"/(health|page/.*)?")
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-cache",
}


@dataclass(frozen=True)
class Access:
    """Who may ask."""

    key: bytes | None = None  # None: everybody on this machine
    hosts: tuple[str, ...] | None = LOOPBACK  # the names of this machine; None: any, as the key protects it

    def refusal(self, scope: Scope) -> Response | None:
        """Why a request is not answered; None if it is."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self.hosts is not None and host_name(host) not in self.hosts:
            return refused(
                403, "this server answers to the names of its own machine only: 127.0.0.1, localhost"
            )
        if "origin" in headers and site_of(headers["origin"]) != host:
            return refused(403, "requests from pages of other sites are refused")
        is_foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if is_foreign and headers.get("sec-fetch-mode") != "navigate":
            return refused(403, "requests from pages of other sites are refused")
        if self.key is not None and not WITHOUT_KEY.fullmatch(scope["path"]):
            scheme, _, given = headers.get("authorization", "").partition(" ")
            same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self.key)
            if scheme.lower() != "bearer" or not same:
                answer = refused(401, "an API key is needed: Authorization: Bearer KEY", "invalid_api_key")
                answer.headers["www-authenticate"] = "Bearer"
                return answer
        return None


def host_name(host: str) -> str:
    """host_name("[::1]:8012") -> "::1"; "" if it names none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def site_of(origin: str) -> str | None:
    """site_of("http://127.0.0.1:8012") -> "127.0.0.1:8012"; None if it names none."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def refused(status: int, message: str, code: str | None = None, param: str | None = None) -> JSONResponse:
    headers = {"retry-after": RETRY_SECONDS} if status == 503 else None
    return JSONResponse(error_body(message, status, param, code), status, headers)


class Guarded:
    """An application behind its access rules, whose every answer has the headers above."""

    def __init__(self, application: Starlette, access: Access) -> None:
        self.application = application
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.application(scope, receive, send)
            return
        has_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                given = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in given),
                ]
            await send(message)

        refusal = self.access.refusal(scope)
        try:
            await (refusal or self.application)(scope, receive, send_with_headers)
        except (ClientDisconnect, OSError):
            return  # nobody is there to be told
        except Exception as error:  # noqa: BLE001 (a fault in one request must not end the server, nor print a traceback)
            warn(f"error: a request failed: {type(error).__name__}: {error}: please report it")
            if not has_begun:
                await refused(500, "internal error")(scope, receive, send_with_headers)
