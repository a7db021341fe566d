#!/usr/bin/env python3
"""What does a provider behind a black hole cost the requests to others? p99 of a small closed loop against one gateway, in interleaved rounds
without and with requests that hang: half of them on a provider whose TCP connect never completes, half on one that accepts and says
nothing. Only the standard library; loopback only.

    python3 loadtest/blackhole.py target/release/tollgate target/release/examples/load [--hanging 200] [--rounds 8] [--seconds 2]
"""

import argparse
import json
import pathlib
import re
import socket
import statistics
import subprocess
import tempfile
import threading
import time

CONF = """
threads = 2
data = "{dir}/data"
rules = "{dir}/rules"
master_key = "{dir}/master.key"
[[listener]]
listen = "127.0.0.1:{port}"
[limits]
connections_per_address = 100000
requests_per_address = 1000000
requests_per_connection = 1000000000
[timeouts]
connect = "10m"
connect_total = "10m"
first_byte = "10m"
first_byte_whole = "10m"
[admin]
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[logs]
level = "warn"
access = "off"
"""
RULES = """
[provider.sandbox]
dialects = {{ openai_chat = "http://sandbox.internal/v1" }}
auth = "none"
[provider.full]
dialects = {{ openai_chat = "http://127.0.0.1:{full}/v1" }}
auth = "none"
health = "off"
[provider.mute]
dialects = {{ openai_chat = "http://127.0.0.1:{mute}/v1" }}
auth = "none"
health = "off"
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def hang(port, key, count):
    """Requests that wait on the black holes, half on each; the sockets that hold them."""
    waiting = []
    for n in range(count):
        body = json.dumps({"model": f"{('full', 'mute')[n % 2]}/x", "messages": [{"role": "user", "content": "hi"}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(head.encode() + body)
        waiting.append(client)
    return waiting


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tollgate", type=pathlib.Path)
    parser.add_argument("load", type=pathlib.Path)
    parser.add_argument("--hanging", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=4)
    given = parser.parse_args()

    full = socket.socket()  # nobody accepts, and its queue is full: the next connect waits for ever
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    stuffing = [socket.socket() for _ in range(4)]
    for one in stuffing:
        one.setblocking(False)
        one.connect_ex(full.getsockname())
    mute = socket.socket()
    mute.bind(("127.0.0.1", 0))
    mute.listen(1024)
    accepted = []

    def accept():
        while True:
            try:
                accepted.append(mute.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "rules").mkdir()
        port = free_port()
        (folder / "tollgate.toml").write_text(CONF.format(dir=folder, port=port))
        (folder / "rules/10.toml").write_text(RULES.format(full=full.getsockname()[1], mute=mute.getsockname()[1]))
        gateway = subprocess.Popen([given.tollgate.resolve(), "--conf", folder / "tollgate.toml"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            first_run = folder / "data/first-run.toml"
            while not first_run.exists() or 'key = "' not in first_run.read_text():
                if gateway.poll() is not None:
                    raise SystemExit("the gateway did not start")
                time.sleep(0.05)
            key = re.search(r'^key = "(.+)"', first_run.read_text(), re.M).group(1)
            time.sleep(0.5)

            def p99():
                arguments = ["rps", "--url", f"http://127.0.0.1:{port}/v1/chat/completions", "--seconds", str(given.seconds)]
                arguments += ["--connections", str(given.connections), "--header", f"authorization: Bearer {key}"]
                out = json.loads(subprocess.run([given.load.resolve(), *arguments], check=True, capture_output=True, text=True).stdout)
                if out["errors"]:
                    raise SystemExit(f"requests to the good provider failed: {out}")
                return out

            p99()  # warm up
            rounds = []
            for _ in range(given.rounds):
                without = p99()
                waiting = hang(port, key, given.hanging)
                time.sleep(0.5)
                with_them = p99()
                for client in waiting:
                    client.close()
                time.sleep(0.3)
                rounds.append((without, with_them))
        finally:
            gateway.kill()  # a graceful stop would wait for what hangs
            gateway.wait()
    for field in ("p50", "p99"):
        ratios = sorted(hanging[field] / calm[field] for calm, hanging in rounds)
        calm, hanging = (statistics.median(one[n][field] for one in rounds) for n in (0, 1))
        print(f"{field}: without {calm:.0f}, with {given.hanging} hanging {hanging:.0f}; ratio by round {', '.join(f'{r:.2f}' for r in ratios)}; median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
