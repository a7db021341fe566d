"""Keeps agents from the network: they would tell their makers about test keys, and look for updates."""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys

MARK = "TOLLGATE_AGENTS_ISOLATED"
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
# The discard port: nobody listens.
DEAD = "http://127.0.0.1:9"


def isolate():
    """Starts this program anew in a network namespace of its own, with nothing but the loopback interface. Where that is
    not allowed it goes on here, and variables() must do. Returns how it is, for people."""
    if os.environ.get(MARK):
        loopback_up()
        return "a network namespace of its own"
    if shutil.which("unshare"):
        # Without root a user namespace gives the right, unless the system forbids it.
        for namespace in (["--net"], ["--net", "--map-root-user"]):
            if subprocess.run(["unshare", *namespace, "true"], capture_output=True).returncode == 0:
                os.environ[MARK] = "1"
                os.execvp("unshare", ["unshare", *namespace, sys.executable, "-B", *sys.argv])
    return "NOT ISOLATED: no network namespace is allowed here; proxies at a dead port are all that keeps agents from the network"


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack_from("16sh", fcntl.ioctl(s, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))


def variables():
    """The environment which leads everything but this machine's own addresses to a dead port."""
    proxies = {name: DEAD for name in ("http_proxy", "https_proxy", "all_proxy")}
    proxies["no_proxy"] = "127.0.0.1,localhost"
    return proxies | {name.upper(): value for name, value in proxies.items()}
