"""Posts JSON to one server over many connections, and says in faults what went wrong.

A thin layer over aiohttp: no limit on connections (its default of 100 would cap concurrency unseen), no proxy from the
environment, no cookies, no redirects (a redirected request would carry its key to another host). Time-outs per request
belong to the executor; only making a connection is timed here.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from evalkit.backends.wire import fault_of
from evalkit.errors import Fault

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

CONNECT_S: Final = 30.0
"""Seconds allowed for making a connection."""
KEEP_ALIVE_S: Final = 4.0
"""Idle connections are dropped after this: uvicorn, which serves vLLM, drops them after 5 s, and a request sent at that
very moment would be lost."""
_LARGE_BYTES: Final = 1 << 20


class HttpClient:
    """Posts to a server at ``root`` (``http://host:8000``), with a bearer ``key`` if there is one."""

    def __init__(self, root: str, key: str | None) -> None:
        self._root = root
        self._headers = {"Content-Type": "application/json", **authorisation(key)}
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    async def open(self, paths: Iterable[str]) -> None:
        """Make ready to post to ``paths``; connects nothing yet. Opening twice is opening once."""
        if self._session is not None:
            return
        import aiohttp
        from yarl import URL

        self._urls = {path: URL(self._root + path) for path in paths}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def post(self, path: str, body: bytes) -> bytes:
        """Return the body of a 200 answer; raise the Fault that anything else means."""
        import aiohttp

        assert self._session is not None, "the client is open"
        # aiohttp warns of large bodies in one piece, which would hold up the event loop.
        payload = body if len(body) < _LARGE_BYTES else io.BytesIO(body)
        try:
            async with self._session.post(
                self._urls[path], data=payload, allow_redirects=False
            ) as reply:
                content = await reply.read()
        except (
            aiohttp.ConnectionTimeoutError
        ) as error:  # nobody there; a TimeoutError like the next
            raise Fault(
                "connection", f"no connection to {self._root} in {CONNECT_S:g} s"
            ) from error
        except TimeoutError as error:
            raise Fault("timeout", f"no answer from {self._root} in time") from error
        except (aiohttp.ClientError, OSError) as error:
            why = str(error) or type(error).__name__
            raise Fault("connection", f"{self._root}: {why}") from error
        if reply.status == 200:
            return content
        raise fault_of(reply.status, content, reply.headers.get("Retry-After"), datetime.now(UTC))

    async def get(self, path: str, timeout_s: float) -> bytes | None:
        """Return the body of a 200 answer, None for anything else, within ``timeout_s``."""
        import aiohttp

        assert self._session is not None, "the client is open"
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.get(self._root + path, allow_redirects=False) as reply,
            ):
                return await reply.read() if reply.status == 200 else None
        except (aiohttp.ClientError, OSError):  # TimeoutError is an OSError
            return None

    async def close(self) -> None:
        """Drop all connections; closing twice is closing once."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def authorisation(key: str | None) -> Mapping[str, str]:
    """Return the header that carries a key, if there is one."""
    return {"Authorization": f"Bearer {key}"} if key else {}
