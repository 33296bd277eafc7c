"""Who may ask the Dagster UI for what: a page of another site that a browser happens to have open may not.

Dagster's webserver has no login, carries out mutations that come as GET, and looks at neither Host nor Origin: a
picture whose address is the UI's would be enough to wipe its assets. Everything that reaches it passes here first.
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

JSON = "application/json"

_ONCE = ("host", "origin", "content-type", "accept", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest")
"""Headers that are looked at here. Given twice, another reader may see the other one."""

_HEADERS = {
    # Beside Dagster's own policy; browsers keep to both. Framed by another page, a click meant for that lands here.
    "content-security-policy": "frame-ancestors 'self'; base-uri 'none'",
    "x-frame-options": "SAMEORIGIN",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


def own_hosts(host: str, port: int) -> frozenset[str]:
    """Return what browsers on this machine call an address: the values of Host that are ours by themselves.

    Args:
        host: address that is listened on; one that stands for all addresses adds nothing.
        port: port that is listened on; browsers leave 80 away.

    Example:
        >>> sorted(own_hosts("127.0.0.1", 3000))
        ['127.0.0.1:3000', '[::1]:3000', 'localhost:3000']
    """
    shown = f"[{host}]" if ":" in host else host.lower()
    names = {"127.0.0.1", "localhost", "[::1]", *({shown} - {"0.0.0.0", "[::]"})}  # noqa: S104  # left out, not used
    return frozenset(f"{name}:{port}" for name in names) | (frozenset(names) if port == 80 else frozenset())


class Guard:
    """Refuses, with a sentence and 403, whatever a page of another site could have a browser send.

    A program without a browser (curl, a script) names neither Origin nor Sec-Fetch-Site, and may use the UI's GraphQL
    as the UI itself does: over POST, as JSON.

    Args:
        app: the webserver.
        hosts: values of Host that are ours, lower case (`own_hosts`).
        names: further ones, of a reverse proxy, over http or https.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], names: Collection[str] = ()) -> None:
        self.app = app
        self._hosts = frozenset(hosts)
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or one websocket."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.append(name, value)
            await send(message)

        refused = self.refusal(scope)
        if refused is None:
            await self.app(scope, receive, answer)
        else:
            response = PlainTextResponse(f"{refused}\n", 403, {"cache-control": "no-store"})
            await response(scope, receive, answer)

    def refusal(self, scope: Scope) -> str | None:
        """Return why a request or a websocket is refused, None where it is not."""
        headers = Headers(scope=scope)
        twice = next((name for name in _ONCE if len(headers.getlist(name)) > 1), None)
        if twice is not None:
            return f"header {twice} is given more than once"
        host = headers.get("host", "").lower()
        if host not in self._hosts | self._names:
            return (
                f"host {ascii(host)[:80]} is not a name of this UI; open it by the address that its command printed, "
                "or add the name to HEATMAP_UI_HOSTS"
            )
        method = "WEBSOCKET" if scope["type"] == "websocket" else scope["method"]
        if method in {"GET", "HEAD"}:
            return self._reading(scope["path"], headers)
        if method not in {"POST", "WEBSOCKET"}:
            return f"method {ascii(method)[:20]} is not taken; use GET to read and POST to change something"
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method == "POST" and kind != JSON:
            return f"content type {ascii(kind)[:80]} is not taken; send what changes something as {JSON}"
        return self._stranger(headers, host)

    def _stranger(self, headers: Headers, host: str) -> str | None:
        """Refuse what changes something, or stays open, unless this UI's own page sends it, or no browser does."""
        origin = headers.get("origin")
        if origin is not None:
            scheme, _, name = origin.lower().partition("://")
            # Not every host of ours: another program may listen on the same port of another address of this machine.
            ours = (scheme == "http" and name == host) or (scheme in {"http", "https"} and name in self._names)
            if not ours:
                return f"origin {ascii(origin)[:80]} is another site; only this UI's own pages may do this"
        site = headers.get("sec-fetch-site", "same-origin")
        if site != "same-origin":
            return f"a {ascii(site)[:20]} request is not this UI's own; only its own pages may do this"
        return None

    @staticmethod
    def _reading(path: str, headers: Headers) -> str | None:
        # Not only the path itself: what Dagster's routes take for it (a line end behind it, for one) is theirs to say.
        if "graphql" in path.lower() and "text/html" not in headers.get("accept", ""):
            return f"GraphQL is not answered over GET, which any page can have a browser send; ask over POST, as {JSON}"
        site = headers.get("sec-fetch-site", "same-origin")
        followed = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
        if site not in {"same-origin", "none"} and not followed:
            return "another site may link to this UI, and not use what is in it"
        return None
