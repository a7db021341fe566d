"""Starts the built gateway in a temporary folder, as a user would: a copy of conf/ and rules/, ports of its own.

The binary is named by TOLLGATE_BIN (default: target/debug/tollgate). Standard library only.
"""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
import tomllib
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_SECONDS = 60
STOP_SECONDS = 20
# Between the look for a free port and its use, somebody else may take it.
STARTS = 5


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def binary():
    return pathlib.Path(os.environ.get("TOLLGATE_BIN", ROOT / "target/debug/tollgate")).resolve()


class Gateway:
    """A running gateway: `with Gateway(rules={...}) as gateway: gateway.url, gateway.key`."""

    def __init__(self, rules=None, shipped=True, limits=None):
        """`rules`: more files of rules/ (name: text); `shipped`: with the project's own; `limits`: values of [limits]."""
        self.rules, self.shipped, self.limits = rules or {}, shipped, limits or {}
        self.process = None

    def __enter__(self):
        for _ in range(STARTS):
            self.folder = tempfile.TemporaryDirectory(prefix="tollgate-sdk-")
            self._prepare(pathlib.Path(self.folder.name))
            if self._start():
                return self
            self.__exit__()
        raise SystemExit(f"{binary()} did not start; its log is above")

    def __exit__(self, *_):
        process, self.process = self.process, None
        if process and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.folder.cleanup()

    def _prepare(self, folder):
        shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("*.key"))
        if self.shipped:
            shutil.copytree(ROOT / "rules", folder / "rules")
        (folder / "rules").mkdir(exist_ok=True)
        for name, text in self.rules.items():
            (folder / "rules" / name).write_text(text)
        file = folder / "conf/tollgate.toml"
        text = file.read_text()
        self.port, self.admin_port = free_port(), free_port()
        for default, port in ((8080, self.port), (8081, self.admin_port), (9090, free_port())):
            text, found = re.subn(rf'(?m)^listen = "127\.0\.0\.1:{default}"$', f'listen = "127.0.0.1:{port}"', text)
            assert found == 1, f"conf/tollgate.toml listens on {default} {found} times"
        # A busy machine is late with its work, and what is refused for that is tested elsewhere.
        text, found = re.subn(r'(?m)^lag = "10ms"$', 'lag = "off"', text)
        assert found == 1, f"conf/tollgate.toml has lag {found} times"
        for name, value in self.limits.items():
            text, found = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
            assert found == 1, f"conf/tollgate.toml has {name} {found} times"
        file.write_text(text)

    def _start(self):
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith(("_proxy", "_api_key", "_api_token"))}
        folder = pathlib.Path(self.folder.name)
        with open(folder / "log", "w") as log:
            self.process = subprocess.Popen([binary()], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.url = f"http://127.0.0.1:{self.port}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with opener.open(self.url + "/readyz", timeout=2):
                    made = tomllib.loads((folder / "data/first-run.toml").read_text())
                    self.key, self.admin_token = made["key"], made["admin_token"]
                    return True
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        print((folder / "log").read_text(), flush=True)
        return False
