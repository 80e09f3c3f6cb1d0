"""Under which names a server may be called, and which pages may call it: one decision for the app and for the protocol.

A web page that its visitor has open can send requests to a server of the visitor's own machine: under a name of its own
that it lets point there (DNS rebinding), or from its own origin. So `Host` must be a name from a list, written as a
browser writes it, and an `Origin` must be that same scheme, host and port. Whether the port is the one listened at says
nothing, as tunnels change it.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import Scope

from qcore.config import ConfigError
from qcore.server.problems import Problem

HOSTS = "QCORE_HOSTS"
"""Environment variable: further names, with commas, under which people call this machine."""

_NETLOC = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*))(?::([0-9]{1,5}))?")
_ORIGIN = re.compile(r"(https?)://([^/?#@\s]{1,300})")
_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Hosts:
    """Names of a server beside localhost and the loopback addresses.

    Attributes:
        names: lower case; those that the owner has named.
        any_address: any IP address is its name, too, as a server that listens at all of them needs.
        remedy: what the owner can do for a name that is refused.
    """

    names: frozenset[str] = frozenset()
    any_address: bool = False
    remedy: str = f"Use its address, or list the name in the environment variable {HOSTS}."

    @staticmethod
    def of(names: Iterable[str], *, any_address: bool = False, remedy: str = "") -> Hosts:
        """From names as the owner writes them, and those of the environment.

        Raises:
            ConfigError: for what is none.
        """
        listed = [*names, *(name for name in os.environ.get(HOSTS, "").split(",") if name.strip())]
        checked = frozenset(_check_host_name(name) for name in listed)
        return Hosts(checked, any_address, remedy or Hosts.remedy)

    def check(self, scope: Scope) -> None:
        """Let an HTTP request or a websocket's handshake pass, or raise the `Problem` that refuses it."""
        if not scope["path"].startswith("/"):
            detail = f"the request is for {scope['path'][:80]!r}"
            raise Problem(400, "odd-target", detail, "Ask for a path that begins with a slash; this is no proxy.")
        hosts = headers(scope, b"host")
        parts = split_netloc(hosts[0]) if len(hosts) == 1 else None
        if parts is None or not self.has(parts[0]):
            detail = f"the Host {', '.join(hosts)[:80]!r} is not this server's"
            raise Problem(403, "foreign-host", detail, self.remedy)
        origins = headers(scope, b"origin")
        if len(origins) > 1 or (origins and not self._is_same(origins[0], parts, _SCHEMES[scope["scheme"]])):
            detail = f"requests from the origin {', '.join(origins)[:80]!r} are refused"
            remedy = (
                "Open the server's own address, or call it from a script. A proxy must pass on Host with its port, and "
                f"the name under which it serves https must be in {HOSTS}."
            )
            raise Problem(403, "foreign-origin", detail, remedy)

    def has(self, name: str) -> bool:
        """Whether a name, in lower case and without port or brackets, is this server's."""
        if name == "localhost" or name in self.names:
            return True
        address = _address(name)
        return address is not None and (address.is_loopback or self.any_address)

    def _is_same(self, origin: str, host: tuple[str, int | None], scheme: str) -> bool:
        found = _ORIGIN.fullmatch(origin)
        parts = split_netloc(found[2]) if found else None
        if found is None or parts is None or parts[0] != host[0]:
            return False
        # What stands before us may speak TLS for us, under a name that the owner has told.
        if found[1] != scheme and not (found[1] == "https" and host[0] in self.names):
            return False
        default = _PORTS[found[1]]
        return (parts[1] or default) == (host[1] or default)


def headers(scope: Scope, name: bytes) -> list[str]:
    """All values of one header, by its name in lower case."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def split_netloc(text: str) -> tuple[str, int | None] | None:
    """Host in lower case and port of `host[:port]` as a browser writes it; None for anything else: userinfo, a dot at
    the end, an address in other digits, a port out of range.
    """
    found = _NETLOC.fullmatch(text) if len(text) <= 300 else None
    if found is None:
        return None
    port = int(found[3]) if found[3] else None
    if port is not None and not 0 < port < 65536:
        return None
    if found[1]:
        address = _address(found[1])
        return None if address is None else (str(address), port)
    name = found[2].lower()
    # 127.1, 0x7f.1 and 2130706433 are addresses to some resolvers, and names to none.
    if re.fullmatch(r"(?:[0-9]+|0x[0-9a-f]*)", name.rsplit(".", 1)[-1]) and _address(name) is None:
        return None
    return name, port


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server at `host`, or whether a peer of this address is this machine."""
    address = _address(host.strip("[]"))
    return host.lower() == "localhost" if address is None else address.is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _check_host_name(name: str) -> str:
    stripped = name.strip()
    bare = f"[{stripped}]" if ":" in stripped and not stripped.startswith("[") else stripped
    parts = split_netloc(bare)
    if parts is None or parts[1] is not None:
        raise ConfigError(
            f"{stripped!r} is refused as a name of this server ({HOSTS}, --allow-host): write host names alone, such "
            "as lab.example.org, without scheme, port or *"
        )
    return parts[0]
