"""Who can come in to Ray: whoever can speak to one of its ports runs any command
as the user of the cluster.

A Ray started here listens on 127.0.0.1 alone, keeps its files in a folder of the user's alone, and
asks for a token that is made for it (where Ray has tokens; else any user of this machine comes in).
A cluster elsewhere is as its owner started it: the user's token is shown to it, and it is told if
it takes clients without.
"""

import contextlib
import ipaddress
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from outer_train.processes.secret import write_private

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
ELSEWHERE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Where it is 0 Ray takes 127.0.0.1 for the address of its node;
it is so by default on Windows and macOS."""
MAX_FOLDER = 38
"""Characters: the paths of Ray's Unix sockets, which lie below, may have 107."""
KNOCK_SECONDS = 60


@contextlib.contextmanager
def local() -> Iterator[Path]:
    """The surroundings in which to start Ray on this machine; gives a folder for its files.

    What it sets, it resets.

    A token mode that the user has set is left as it is.
    """
    base = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if len(base) > MAX_FOLDER and "RAY_TMPDIR" not in os.environ:
        base = "/tmp"
    # Ray opens the folder that it is given to all users; the one around it stays this user's.
    folder = Path(tempfile.mkdtemp(prefix="learned-opt-ray-", dir=base))
    inner = folder / "r"
    inner.mkdir(mode=0o700)
    settings: dict[str, str | None] = {ELSEWHERE: "0"}
    if MODE not in os.environ:
        write_private(folder / "token", secrets.token_hex(32).encode())
        settings |= {MODE: "token", TOKEN: None, TOKEN_PATH: str(folder / "token")}
    try:
        with _environment(settings), _one_machine():
            yield inner
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """The surroundings in which to connect to a cluster:
    the user's token is shown to it, if there is one.
    """
    has_token = os.environ.get(TOKEN) or os.environ.get(TOKEN_PATH) or _has_default_token()
    with _environment({MODE: "token"} if has_token and MODE not in os.environ else {}):
        yield


def check_local() -> None:
    """Raises `ValueError` if the Ray that was started here can be reached from other machines,
    or asks for no token.
    """
    import ray

    address = ray.util.get_node_ip_address()
    if not ipaddress.ip_address(address).is_loopback:
        raise ValueError(
            f"Ray {ray.__version__} cannot be kept to this machine: its node is at {address}"
        )
    if os.environ.get(MODE) == "token" and _asks_for_token() is False:
        raise ValueError(f"Ray {ray.__version__} was to ask for a token, and does not")


def warn_if_open(address: str, warn: Callable[[str], None]) -> None:
    """Says so if the cluster that we are connected to takes clients without a token."""
    if _asks_for_token() is not True or _opens_without_token():
        warn(
            f"the Ray cluster at {address} takes clients without a token: whoever reaches its "
            "ports can run any "
            f"command on its machines (start it with {MODE}=token, see docs/scaling.md)"
        )


def _asks_for_token() -> bool | None:
    """Whether this process takes part in token authentication; None where Ray has none."""
    try:
        from ray._raylet import AuthenticationMode, get_authentication_mode
    except ImportError:
        return None
    return get_authentication_mode() == AuthenticationMode.TOKEN


KNOCK = """
import sys
from ray._raylet import GcsClient
GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None, 20)
"""


def _opens_without_token() -> bool:
    """Tries it as a stranger would, in another process; false if that cannot be found out."""
    import ray

    try:
        address = ray.get_runtime_context().gcs_address
    except Exception:  # of a Ray client (ray://)
        return False
    environment = {k: v for k, v in os.environ.items() if k not in (TOKEN, TOKEN_PATH)} | {
        MODE: "disabled"
    }
    try:
        knock = subprocess.run(
            [sys.executable, "-c", KNOCK, address],
            env=environment,
            capture_output=True,
            timeout=KNOCK_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return knock.returncode == 0


def _has_default_token() -> bool:
    try:
        return (Path.home() / ".ray" / "auth_token").exists()
    except (OSError, RuntimeError):  # there is no home
        return False


@contextlib.contextmanager
def _environment(settings: dict[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    _set(settings)
    try:
        yield
    finally:
        _set(before)


def _set(settings: dict[str, str | None]) -> None:
    for name, value in settings.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if "ray" in sys.modules and settings:  # it has read the old ones
        with contextlib.suppress(ImportError, AttributeError):
            from ray._raylet import AuthenticationTokenLoader, Config

            Config.initialize("")
            AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _one_machine() -> Iterator[None]:
    """Ray reads `ELSEWHERE` once, when it is imported."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
