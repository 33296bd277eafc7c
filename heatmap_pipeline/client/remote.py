"""Questions to an endpoint over HTTP: `heatmap serve`, here or elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit, urlunsplit

import orjson
import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from heatmap_pipeline import __version__
from heatmap_pipeline.client.errors import ClientError
from heatmap_pipeline.errors import printable

_RETRY = Retry(
    total=3,
    connect=0,
    read=False,  # as it is, so that silence is told from a refusal
    status_forcelist=(503,),
    backoff_factor=0.5,
    respect_retry_after_header=False,  # it may ask for a minute, and the words of the answer say more
    raise_on_status=False,
)
"""A server at its limit is asked again after 0, 1 and 2 s; whatever else fails is said at once."""


_TOKEN = re.compile("[!-~]+")
"""What a header can carry; a library would repeat anything else in its error."""


class Remote:
    """An endpoint.

    Args:
        url: everything that is asked for lies below it. A password in it is the token.
        token: what the server asks for, if it asks for any.
        timeout: seconds without a byte after which a question is given up.

    Attributes:
        where: the address, without a password.

    Raises:
        ClientError: for an address that is none, or a token that can be none.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 60.0) -> None:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in {"http", "https"}:
            raise ClientError(f"{printable(url)!r} is no address of an endpoint; write http://127.0.0.1:8888")
        self.where = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        self._token = token or unquote(parts.password or "") or None
        if self._token is not None and not _TOKEN.fullmatch(self._token):
            raise ClientError("the token holds a blank, or a letter that is not ASCII; give it as the server has it")
        self._timeout = timeout
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"heatmap-client/{__version__}"
        self._session.auth = self._authorise
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=_RETRY))

    def ask(self, path: str, query: Mapping[str, str]) -> bytes:
        """Return the body of an answer.

        Raises:
            ClientError: with the server's own words where it refuses, ours where it does not answer.
        """
        try:
            answer = self._session.get(f"{self.where}{path}", params=query, timeout=self._timeout)
        except requests.Timeout:
            raise ClientError(f"{self.where} does not answer within {self._timeout:g} s; try again later") from None
        except (requests.RequestException, HTTPError) as error:  # the latter for a name that no host can have
            raise ClientError(
                f"{self.where} cannot be reached ({_cause(error)}); is a server of this program running there?"
            ) from None
        if answer.status_code == 200 and "json" in answer.headers.get("Content-Type", ""):
            return answer.content
        raise self._refusal(answer)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Not a header of the session: requests would put what a .netrc says of the host in its place.
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def _refusal(self, answer: requests.Response) -> ClientError:
        status = answer.status_code
        try:
            detail = orjson.loads(answer.content)["detail"]
        except (ValueError, KeyError, TypeError):
            detail = None
        if not isinstance(detail, str):
            return ClientError(
                f"{self.where} answers {status}, and not as an endpoint of this program does; check the address", status
            )
        words = printable(detail, 1000)
        if status == 401:
            hint = "the token is not the one it wants" if self._token else "give it with token="
            return ClientError(f"{self.where} asks for a token: {words}; {hint}", status)
        return ClientError(words if status < 500 else f"{self.where} answers {status}: {words}", status)


def _cause(error: BaseException) -> str:
    """Return the innermost reason that has words: the outer ones name objects of the program."""
    inner = error
    while (below := getattr(inner, "reason", None) or next(iter(inner.args), None)) and isinstance(
        below, BaseException
    ):
        inner = below
    return printable(str(getattr(inner.__cause__ or inner, "strerror", None) or inner))
