"""What capacity.py and beside.py stand on: a gateway with one thread on core 0, and the sandbox and everything else on core 1; all on free
ports of the loopback, with their files in a temporary folder, stopped by their process ids. Only the standard library."""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import time
import urllib.request

# {more}: further sections. The limits which one client address would meet are lifted: all the load comes from one.
CONF = """
threads = 1
data = "{dir}/data"
rules = "{dir}/rules"
master_key = "{dir}/master.key"
[[listener]]
listen = "127.0.0.1:{port}"
http2 = {http2}
[limits]
connections_per_address = 100000
requests_per_address = 1000000
requests_per_connection = 1000000000
{limits}
[admin]
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:{metrics}"
[logs]
level = "error"
access = "{access}"
[sandbox]
listen = "off"
{more}
"""
PROVIDER = """
[provider.{name}]
dialects = {{ {dialect} = "http://127.0.0.1:{port}{path}" }}
auth = "none"
health = "off"
"""


def provider(name, port, dialect="openai_chat"):
    """The rules for one at this port."""
    return PROVIDER.format(name=name, port=port, dialect=dialect, path="/v1" if dialect == "openai_chat" else "")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Stage(contextlib.ExitStack):
    """A gateway and its sandbox, for as long as it is entered."""

    def __init__(self, program, load, *, rules="", dialect="openai_chat", limits="", more="", access=True, http2=False):
        super().__init__()
        self.load = str(pathlib.Path(load).resolve())
        try:
            self.set_up(program, rules, dialect, limits, more, access, http2)
        except BaseException:
            # Nobody has entered it who would leave it.
            self.close()
            raise

    def set_up(self, program, rules, dialect, limits, more, access, http2):
        program = str(pathlib.Path(program).resolve())
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory(prefix="tollgate-load-")))
        for name in ("conf", "rules"):
            (self.folder / name).mkdir()
        sandbox, self.port, self.metrics = free_port(), free_port(), free_port()
        conf = self.folder / "conf/tollgate.toml"
        access = self.folder / "access.log" if access else "off"
        conf.write_text(
            CONF.format(
                dir=self.folder, port=self.port, metrics=self.metrics, limits=limits, access=access, more=more, http2=str(http2).lower()
            )
        )
        (self.folder / "rules/10.toml").write_text(provider("sandbox", sandbox, dialect) + rules)
        self.start(1, program, "sandbox", "--listen", f"127.0.0.1:{sandbox}")
        self.gateway = self.start(0, program, "--conf", str(conf)).pid
        self.await_ready()
        self.key = re.search(r'^key = "(.*)"', (self.folder / "data/first-run.toml").read_text(), re.M)[1]

    def start(self, core, *command):
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.callback(process.wait)
        self.callback(process.kill)  # a graceful stop would wait for what hangs
        return process

    def await_ready(self):
        for _ in range(300):
            with contextlib.suppress(OSError):
                if urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=1).status == 200:
                    return
            time.sleep(0.1)
        raise SystemExit("the gateway is not ready")

    def drive(self, kind, **options):
        """Runs `load KIND` against the gateway; what it printed, and the gateway's CPU as a share of a core."""
        command = ["taskset", "-c", "1", self.load, kind, "--url", f"http://127.0.0.1:{self.port}/v1/chat/completions"]
        command += ["--header", f"authorization: Bearer {self.key}"]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        began, used = time.time(), self.cpu()
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        result["cpu_share"] = (self.cpu() - used) / (time.time() - began)
        return result

    def cpu(self):
        """Seconds of CPU the gateway used."""
        fields = pathlib.Path(f"/proc/{self.gateway}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self):
        """The gateway's memory, in MiB."""
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.gateway}/status").read_text())[1]) / 1024

    def metric(self, name):
        """The sum over its labels."""
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics").read().decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if re.match(rf"{name}[{{ ]", line))
