#!/usr/bin/env python3
"""The judge of ../shared/conformance, same dialect, with the built gateway between the SDKs and the recordings.

    TOLLGATE_BIN=... TOLLGATE_SHARED=../shared target/ci-venv/bin/python tests/sdk/conformance.py [--direct]

Runs `sdk_check.py` once for each way of cutting a stream, then `aux_check.py`. Cases in KNOWN are told, and do not count as
failures; a KNOWN case which no longer fails is told too. `--direct` asks the replayed provider without a gateway: what
fails then is the judge's own. The last line counts; the exit code is 1 if anything failed, and 0 with a loud line where
the judge is missing.
"""

import argparse
import ast
import fnmatch
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

from gateway import ROOT, Gateway, free_port

SHARED = pathlib.Path(os.environ.get("TOLLGATE_SHARED", ROOT / "../shared")).resolve()
JUDGE, CASES = SHARED / "conformance", SHARED / "wire/cases"
WIRES = ("openai_chat", "openai_responses", "anthropic", "gemini")

# (how streams are cut, how many cases of each feature; 0: all cases). The awkward cuts are sampled.
CHUNKS = (("recorded", 0), ("1", 2), ("utf8", 2), ("crlf", 2), ("comments", 2), ("cut", 2), ("cutclean", 2))
# One mode, at the most. They take a fraction of it.
CHUNK_SECONDS = 600

# (case, check, mode), each with wildcards: why it is not the gateway's fault. With --direct the same cases fail.
_COMMENTS = "google-genai for Python fails at any comment in a stream, whoever sends it"
_MESSAGE = "the provider's own error shape, which the SDK does not read; it passes as it came"
_IDS = "the provider sent tool calls without an id; they pass as they came"
KNOWN = {
    ("gemini-*", "no_exception", "comments"): _COMMENTS,
    ("openai_chat-d0db3a65e6", "error_message", "*"): _MESSAGE,
    ("openai_chat-d0db3a65e6", "error_shape", "*"): _MESSAGE,
    ("openai_chat-c57c6271a7", "error_message", "*"): _MESSAGE,
    ("openai_responses-745b63e71f", "error_message", "*"): _MESSAGE,
    ("openai_responses-e559fdfd45", "error_message", "*"): _MESSAGE,
    ("openai_responses-e559fdfd45", "error_shape", "*"): _MESSAGE,
    ("openai_chat-42f2ead8c3", "tool_ids", "*"): _IDS,
    ("openai_chat-637fe34b25", "tool_ids", "*"): _IDS,
    ("openai_chat-6ad4a48519", "tool_ids", "*"): _IDS,
    ("openai_chat-c5b96372ab", "tool_ids", "*"): _IDS,
    ("openai_embeddings-24bbb54a6e", "aux", "aux"): "vectors of int8 in base64, which the judge reads as floats",
}


def known(case, check, mode):
    for key in KNOWN:
        if all(fnmatch.fnmatchcase(*pair) for pair in zip((case, check, mode), key)):
            return key
    return None


def rules(ports):
    """One provider a dialect, on the ports of the replay; usage comes unasked, as in the recordings."""
    text = ""
    for wire, port in ports.items():
        base = f"http://127.0.0.1:{port}" + ("/v1" if wire.startswith("openai") else "")
        text += f'[provider.replay-{wire}]\nauth = "none"\nstream_usage = "always"\ndialects = {{ {wire} = "{base}" }}\n'
        text += f'[[route]]\nname = "{wire}"\nmodel = "up-{wire}"\ntargets = [{{ provider = "replay-{wire}" }}]\n'
    return {"10-replay.toml": text}


def description(ports, url, key):
    """What the judge wants to know of a gateway (conformance/gateway.example.json)."""
    bases = {w: (url or f"http://127.0.0.1:{ports[w]}") + ("/v1" if w.startswith("openai") else "") for w in WIRES}
    models = {w: f"up-{w}" for w in WIRES}
    aux = {"openai_embeddings": models["openai_chat"], "gemini_embeddings": models["gemini"]}
    name = "tollgate" if url else "direct"
    return {"name": name, "api_key": key, "bases": bases, "models": models, "aux_models": aux, "replay": ports, "baseline": False}


def start_replay(ports):
    arguments = ",".join(f"{wire}={port}" for wire, port in ports.items())
    process = subprocess.Popen(
        [sys.executable, JUDGE / "replay_upstream.py", CASES, "--ports", f"control={free_port()},{arguments}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(200):
        try:
            with opener.open(f"http://127.0.0.1:{ports[WIRES[0]]}/_health", timeout=2):
                return process
        except OSError:
            time.sleep(0.05)
    raise SystemExit("replay_upstream.py did not start")


def failures(result, mode, used):
    """The failing checks of one run: a list of lines. Those which are known are told, and remembered in `used`."""
    wrong = []
    for run in result["results"]:
        for check, why in run["checks"].items():
            if not why:
                continue
            key = known(run["case"], check, mode)
            if key:
                used.add(key)
            else:
                wrong.append(f"{run['case']} ({run['provider']}) {check}: {why}")
    return wrong


def judge(folder, mode, per):
    out = folder / f"{mode}.json"
    command = [sys.executable, JUDGE / "sdk_check.py", folder / "gateway.json", CASES, "--pairs", "same", "--chunk", mode]
    command += ["--per", str(per), "--out", out, "--seconds", str(CHUNK_SECONDS)]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode != 0 or not out.exists():
        return None, [f"sdk_check.py broke off: {run.stdout[-2000:]}"]
    return json.loads(out.read_text()), []


def auxiliary(folder, used):
    """Embeddings and counting; only same dialect counts: conversion is not offered. Returns (right, wrong lines)."""
    run = subprocess.run(
        [sys.executable, JUDGE / "aux_check.py", folder / "gateway.json", CASES],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if run.returncode != 0:
        return 0, [f"aux_check.py broke off: {run.stdout[-2000:]}"]
    right, wrong = 0, []
    crossed = ("'openai_embeddings', 'gemini'", "'gemini_embeddings', 'openai'")
    for line in run.stdout.splitlines():
        if line.startswith("    ("):
            case = ast.literal_eval(line.strip())[3]
            key = known(case, "aux", "aux")
            if key:
                used.add(key)
            elif not any(pair in line for pair in crossed):
                wrong.append(line.strip())
        elif " <- " in line:
            counts, pair = line.split(" ", 1)
            if pair not in ("gemini <- openai_embeddings", "openai <- gemini_embeddings"):
                right += int(counts.split("/")[0])
    return right, wrong


def run_all(ports, url, key, only):
    passed, failed, used = 0, 0, set()
    with tempfile.TemporaryDirectory(prefix="tollgate-judge-") as name:
        folder = pathlib.Path(name)
        (folder / "gateway.json").write_text(json.dumps(description(ports, url, key)))
        for mode, per in CHUNKS:
            if only and mode not in only:
                continue
            began = time.monotonic()
            result, wrong = judge(folder, mode, per)
            if result:
                if result["seconds"] >= CHUNK_SECONDS:
                    wrong.append(f"not done within {CHUNK_SECONDS} s")
                wrong += failures(result, mode, used)
                passed += result["passed"]
                print(f"judge {mode}: {result['passed']} of {result['runs']} clean, {len(wrong)} unknown failures, {time.monotonic() - began:.0f} s", flush=True)
            for line in wrong:
                print(f"FAIL judge {mode}: {line}", flush=True)
            failed += len(wrong)
        if not only or "aux" in only:
            right, wrong = auxiliary(folder, used)
            print(f"judge aux: {right} clean, {len(wrong)} failures", flush=True)
            for line in wrong:
                print(f"FAIL judge aux: {line}", flush=True)
            passed, failed = passed + right, failed + len(wrong)
    for key in sorted(set(KNOWN) - used):
        if not only:
            print(f"judge: no longer fails, remove it from KNOWN: {key}")
    print(f"{passed} passed, {failed} failed, {len(used)} known")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--direct", action="store_true", help="without a gateway")
    parser.add_argument("--only", help="modes, separated by commas; aux is one")
    given = parser.parse_args()
    if not (JUDGE / "sdk_check.py").exists() or not CASES.is_dir():
        print(f"SKIPPED: no judge or no recordings under {SHARED}; nothing was judged")
        return 0
    only = given.only.split(",") if given.only else None
    ports = {wire: free_port() for wire in WIRES}
    replay = start_replay(ports)
    try:
        if given.direct:
            return run_all(ports, None, "sk-direct", only)
        # One attempt: the replay counts requests, and has one answer for all.
        with Gateway(rules=rules(ports), shipped=False, limits={"attempts": 1}) as gateway:
            return run_all(ports, gateway.url, gateway.key, only)
    finally:
        replay.terminate()
        replay.wait()


if __name__ == "__main__":
    sys.exit(main())
