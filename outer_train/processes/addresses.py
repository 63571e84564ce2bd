"""At which addresses a coordinator is, and whether any other machine can reach them."""

import ipaddress
import os
import socket
from typing import NamedTuple


class Address(NamedTuple):
    """Of a TCP port: the socket's family, the numeric address, the port."""

    family: int
    ip: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only processes of this machine reach it."""
        return ipaddress.ip_address(self.ip.partition("%")[0]).is_loopback

    def __str__(self) -> str:
        """As `HOST:PORT`."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


def split(coordinator: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; an IPv6 address may stand in brackets.

    Raises:
      ValueError: it is none.
    """
    host, colon, port = coordinator.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (
        host
        and colon
        and port.isascii()
        and port.isdecimal()
        and len(port) <= 5
        and 0 < int(port) < 65536
    ):
        raise ValueError(f"--coordinator must be HOST:PORT, got {coordinator!r}")
    return host, int(port)


def resolve(host: str, port: int, may_be_all: bool = False) -> list[Address]:
    """All addresses of a name, best first.

    Args:
      host: its name or address.
      port: of all of them.
      may_be_all: whether it may be 0.0.0.0 or ::, which stand for all addresses of this machine.

    Raises:
      OSError: it has none, or none yet.
      ValueError: it stands for all addresses of a machine and must not, or is no name.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise ValueError(f"--coordinator must name a machine, got {host!r}") from error
    addresses = list(
        dict.fromkeys(Address(family, sockaddr[0], port) for family, *_, sockaddr in found)
    )
    if not may_be_all and any(
        ipaddress.ip_address(a.ip.partition("%")[0]).is_unspecified for a in addresses
    ):
        raise ValueError(
            "--coordinator must be one address of process 0, which the others can reach, got "
            f"{host!r}"
        )
    return addresses


def listening(coordinator: str) -> Address:
    """Where process 0 listens: at the coordinator's address alone,
    or at JAX_COORDINATOR_BIND_ADDRESS where it is set.

    Raises:
      OSError, ValueError: as `resolve`.
    """
    asked = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS")
    return resolve(*split(asked or coordinator), may_be_all=bool(asked))[0]
