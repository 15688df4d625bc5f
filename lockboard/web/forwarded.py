"""What proxies in front say of a request, believed from configured networks only."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PEER = "lockboard.peer"
"""Where the address that the socket is connected to stands in the WSGI environment; "" for a Unix socket."""

_FOR = "HTTP_X_FORWARDED_FOR"
_PROTO = "HTTP_X_FORWARDED_PROTO"
_OTHERS = ("HTTP_FORWARDED", "HTTP_X_REAL_IP")
_KIND = ("HTTP_X_FORWARDED", *_OTHERS)
"""What the names of all headers of this kind begin with."""
_NEVER_BELIEVED = (
    *_OTHERS,
    "HTTP_X_FORWARDED",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX",
    "HTTP_X_FORWARDED_SERVER",
)


class Networks:
    """Networks in CIDR form, such as `10.0.0.0/8` or `fd00::/8`; a single address stands for itself.

    Raises:
        ValueError: one of them is not a network, or is every address there is.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ip_network(text) for text in networks)
        if any(network.prefixlen == 0 for network in self._networks):
            raise ValueError("a network of all addresses trusts everybody")

    def hold(self, address: str) -> bool:
        """Whether an address, as text, lies in one of them; what is not an address does not."""
        found = _address(address)
        return found is not None and any(found in network for network in self._networks)


class Forwarded:
    """WSGI middleware: takes the client's address and scheme from the last proxy, if it is one of ours.

    The right-most value of X-Forwarded-For and X-Forwarded-Proto is what that proxy wrote itself; everything
    to the left came from further away and is passed over. From any other peer, no header of this kind reaches
    the application. A value that is not an address, or not a scheme, counts as absent.

    `environ["lockboard.peer"]` keeps the socket's address.

    Raises:
        ValueError: one of the networks is not one, or is every address there is.
    """

    def __init__(self, app: WSGIApplication, networks: Iterable[str]) -> None:
        self._app = app
        self._networks = Networks(networks)
        self._hop = ProxyFix(app, x_for=1, x_proto=1, x_host=0, x_port=0, x_prefix=0)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.setdefault(PEER, environ.get("REMOTE_ADDR", ""))
        if not self._networks.hold(environ[PEER]):
            for name in [name for name in environ if name.startswith(_KIND)]:
                del environ[name]
            return self._app(environ, start_response)
        client = _client(environ.pop(_FOR, ""))
        scheme = _last(environ.pop(_PROTO, "")).lower()
        for name in _NEVER_BELIEVED:
            environ.pop(name, None)
        if client:
            environ[_FOR] = client
        if scheme in ("http", "https"):
            environ[_PROTO] = scheme
        return self._hop(environ, start_response)


def _last(value: str) -> str:
    return value.rpartition(",")[2].strip()


def _client(value: str) -> str:
    found = _address(_last(value))
    return str(found) if found else ""


@lru_cache(maxsize=1024)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """None also for one with a zone (`fe80::1%eth0`), which may be any text."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        return None if found.scope_id is not None else found.ipv4_mapped or found
    return found
