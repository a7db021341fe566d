#!/usr/bin/env python3
"""What is served at several times the capacity? The gateway has core 0 for itself, the driver and the sandbox have core 1, and requests are
dear for the gateway and cheap for the others: so it is the gateway that is overloaded. First the peak: a closed loop of few connections, and an open
loop at rates around that. Then an open loop at three times of it: what was served, what was refused, and the gateway's memory.
Only the standard library; loopback only.

    python3 loadtest/capacity.py target/release/tollgate target/release/examples/load [--connections 300] [--seconds 60]
"""

import argparse
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

CONF = """
threads = 1
data = "{dir}/data"
rules = "{dir}/rules"
master_key = "{dir}/master.key"
[[listener]]
listen = "127.0.0.1:{port}"
[limits]
connections_per_address = 100000
requests_per_address = 1000000
requests_per_connection = 1000000000
{overload}
[admin]
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:{metrics}"
[logs]
level = "warn"
access = "{dir}/access.log"
[sandbox]
listen = "off"
"""
RULES = """
[provider.sandbox]
dialects = {{ {dialect} = "http://127.0.0.1:{sandbox}{path}" }}
auth = "none"
health = "off"
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_ready(port):
    for _ in range(300):
        with contextlib.suppress(OSError):
            if urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).status == 200:
                return
        time.sleep(0.1)
    raise SystemExit("the gateway is not ready")


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("gateway")
    parse.add_argument("load")
    parse.add_argument("--times", type=float, default=3.0)
    parse.add_argument("--seconds", type=float, default=60.0)
    parse.add_argument("--connections", type=int, default=300)
    parse.add_argument("--closed", type=int, default=32, help="connections of the closed loop")
    parse.add_argument("--beside", type=int, default=0, help="priority of a busy loop on the gateway's core; 0: none")
    parse.add_argument("--size", type=int, default=20_000, help="bytes of a request")
    parse.add_argument("--words", type=int, default=16, help="of an answer")
    parse.add_argument("--native", action="store_true", help="the sandbox is asked in the client's dialect, not in Anthropic's")
    parse.add_argument("--overload", default="", help="lines of [overload]")
    parse.add_argument("--rounds", type=int, default=1)
    args = parse.parse_args()

    with tempfile.TemporaryDirectory(prefix="tollgate-capacity-") as folder, contextlib.ExitStack() as stack:
        folder = pathlib.Path(folder)
        (folder / "conf").mkdir()
        (folder / "rules").mkdir()
        sandbox, port, metrics = free_port(), free_port(), free_port()
        overload = f"[overload]\n{args.overload}" if args.overload else ""
        (folder / "conf" / "tollgate.toml").write_text(
            CONF.format(dir=folder, port=port, metrics=metrics, overload=overload)
        )
        dialect, path = ("openai_chat", "/v1") if args.native else ("anthropic", "")
        (folder / "rules" / "10.toml").write_text(RULES.format(sandbox=sandbox, dialect=dialect, path=path))

        def start(core, *command):
            process = subprocess.Popen(
                ["taskset", "-c", str(core), *command], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process

        program, load = str(pathlib.Path(args.gateway).resolve()), str(pathlib.Path(args.load).resolve())
        start(1, program, "sandbox", "--listen", f"127.0.0.1:{sandbox}")
        gateway = start(0, program, "--conf", str(folder / "conf" / "tollgate.toml"))
        await_ready(port)
        key = re.search(r'^key = "(.*)"', (folder / "data" / "first-run.toml").read_text(), re.M)[1]
        if args.beside:
            spin = start(0, "sh", "-c", "while :; do :; done")
            os.setpriority(os.PRIO_PROCESS, spin.pid, args.beside)

        def cpu():
            fields = pathlib.Path(f"/proc/{gateway.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        def shed():
            text = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics").read().decode()
            return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("tollgate_shed_total"))

        def drive(kind, *more):
            url, model = f"http://127.0.0.1:{port}/v1/chat/completions", f"sandbox/small,tokens={args.words}"
            command = ["taskset", "-c", "1", load, kind, "--url", url, "--model", model, "--size", str(args.size)]
            command += ["--header", f"authorization: Bearer {key}", *more]
            began = time.time()
            used = cpu()
            result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            result["cpu_share"] = round((cpu() - used) / (time.time() - began), 2)
            return result

        def flood(rate, seconds):
            before = shed()
            result = drive("flood", "--rate", str(rate), "--connections", str(args.connections),
                           "--seconds", str(seconds), "--pid", str(gateway.pid))
            result["shed"] = shed() - before
            # Those who were refused last are heard again.
            time.sleep(4)
            return result

        drive("rps", "--connections", "16", "--seconds", "3")
        for _ in range(args.rounds):
            closed = drive("rps", "--connections", str(args.closed), "--seconds", "10")["rps"]
            print(f"closed loop of {args.closed}: {closed:.0f} requests/s")
            peak = 0
            for part in (0.7, 0.8, 0.9, 1.0):
                result = flood(closed * part, args.seconds / 6)
                peak = max(peak, result["goodput"])
                print(f"{closed * part:.0f} requests/s asked: {result['goodput']:.0f} served, "
                      f"{result['p50'] / 1000:.1f} ms (p50), {result['p99'] / 1000:.1f} ms (p99)")
            result = flood(peak * args.times, args.seconds)
            grown = (result["resident_after"] - result["resident_before"]) / 2**20
            print(f"{args.times:g} times the open loop's peak: {result['goodput']:.0f} served, {result['goodput'] / peak:.1%} of that peak, "
                  f"{result['goodput'] / closed:.1%} of the closed loop's; memory {grown:+.1f} MiB")
            print(json.dumps(result))


if __name__ == "__main__":
    main()
