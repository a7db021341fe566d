#!/usr/bin/env python3
"""The judge of ../shared/conformance, all sixteen pairs of dialects, with the built gateway between the SDKs and the recordings.

    TOLLGATE_BIN=... TOLLGATE_SHARED=../shared target/ci-venv/bin/python tests/sdk/conformance.py [--direct] [--full]

Runs `sdk_check.py` once for each way of cutting a stream, same dialect and across; then `request_check.py`, then
`aux_check.py`. Across, cases are sampled unless `--full` is given. Cases in KNOWN are told, and do not count as
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
# … and across dialects. --full: all cases in each.
CROSS = (("recorded", 2), ("1", 1), ("utf8", 1), ("crlf", 1), ("comments", 1), ("cut", 1), ("cutclean", 1))
# Requests, of all pairs.
REQUESTS_PER = 2
# One mode, at the most. They take a fraction of it.
CHUNK_SECONDS = 1200

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

# (case, check, mode, "client <- provider"), for conversions.
MORE_CACHED = """
    2d24fe3c9f 3f11ca5585 5bf2eb97f5 675784e385 681bdcab3b 6c095ce139 94a55938f4 978a2a7623 bb2c3d0872 bc9a4a10e2
    d9013a80da db68020565 f13619bbb5
""".split()
MORE_REASONING = """
    21078efd27 4ec53fe71e 619b3ff8e6 898dde6d93 fdff703f40
""".split()
_CACHED = "the provider told more cached tokens than prompt tokens; this form counts them beside the others, and can't"
_REASONING = "the provider told more reasoning than output tokens; this form counts them beside the others, and can't"
_RESULT_MEDIA = "media within a Gemini function result, which the judge does not see on the way in"
KNOWN_CROSS = {
    **{(f"openai_chat-{case}", "usage_cached", "cross *", "anthropic <- openai_chat"): _CACHED for case in MORE_CACHED},
    **{(f"openai_chat-{case}", "usage_reasoning", "cross *", "gemini <- openai_chat"): _REASONING for case in MORE_REASONING},
    **{(f"gemini-{case}", "media", "requests", "* <- gemini"): _RESULT_MEDIA for case in ("efa792164b", "e954d5db82")},
    **{
        (f"openai_chat-{case}", "texts", "requests", "anthropic <- openai_chat"): "instructions alone; Anthropic wants a message, so one is made up"
        for case in ("511533d553", "3f26361f1a")
    },
    ("openai_responses-4d2b8c3c06", "reached_upstream", "requests", "anthropic <- openai_responses"): "a spreadsheet, which Anthropic does not take: refused",
    ("anthropic-c5483a9f4a", "texts", "requests", "openai_chat <- anthropic"): "a text document; OpenAI Chat takes PDFs only, so that it becomes text",
}


def known(case, check, mode, pair=None):
    for key in KNOWN_CROSS if pair else KNOWN:
        if all(fnmatch.fnmatchcase(*one) for one in zip((case, check, mode, pair), key)):
            return key
    return None


def rules(ports):
    """One provider a dialect, on the ports of the replay; usage comes unasked, as in the recordings. No case is to be felt in the next."""
    text = ""
    for wire, port in ports.items():
        base = f"http://127.0.0.1:{port}" + ("/v1" if wire.startswith("openai") else "")
        text += f'[provider.replay-{wire}]\nauth = "none"\nhealth = "off"\ncooldown = "off"\nstream_usage = "always"\ndialects = {{ {wire} = "{base}" }}\n'
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
            pair = None
            if mode.startswith("cross"):
                pair = f"{run['client']} <- {run['upstream']}"
            elif mode == "requests":
                pair = f"{run['to']} <- {run['from']}"
            key = known(run["case"], check, mode, pair)
            if key:
                used.add(key)
            else:
                wrong.append(f"{run['case']} ({run['provider']}) {pair or ''} {check}: {why}")
    return wrong


def judge(folder, mode, per):
    out = folder / f"{mode}.json"
    if mode == "requests":
        command = [sys.executable, JUDGE / "request_check.py", folder / "gateway.json", CASES]
    else:
        pairs, chunk = ("cross", mode.removeprefix("cross ")) if mode.startswith("cross ") else ("same", mode)
        command = [sys.executable, JUDGE / "sdk_check.py", folder / "gateway.json", CASES, "--pairs", pairs, "--chunk", chunk]
    command += ["--per", str(per), "--out", out, "--seconds", str(CHUNK_SECONDS)]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode != 0 or not out.exists():
        return None, [f"the judge broke off: {run.stdout[-2000:]}"]
    return json.loads(out.read_text()), []


def auxiliary(folder, used):
    """Embeddings and counting. Returns (right, wrong lines)."""
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
    for line in run.stdout.splitlines():
        if line.startswith("    ("):
            case = ast.literal_eval(line.strip())[3]
            key = known(case, "aux", "aux")
            if key:
                used.add(key)
            else:
                wrong.append(line.strip())
        elif " <- " in line:
            right += int(line.split("/", 1)[0])
    return right, wrong


def run_all(ports, url, key, only, full):
    passed, failed, used = 0, 0, set()
    with tempfile.TemporaryDirectory(prefix="tollgate-judge-") as name:
        folder = pathlib.Path(name)
        (folder / "gateway.json").write_text(json.dumps(description(ports, url, key)))
        modes = list(CHUNKS)
        if url:
            modes += [(f"cross {mode}", 0 if full else per) for mode, per in CROSS]
            modes.append(("requests", 0 if full else REQUESTS_PER))
        for mode, per in modes:
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
    for key in sorted((set(KNOWN) | set(KNOWN_CROSS)) - used):
        # Across, the cases are sampled.
        if not only and (full or key in KNOWN):
            print(f"judge: no longer fails, remove it from KNOWN: {key}")
    print(f"{passed} passed, {failed} failed, {len(used)} known")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--direct", action="store_true", help="without a gateway")
    parser.add_argument("--only", help="modes, separated by commas; aux is one")
    parser.add_argument("--full", action="store_true", help="every case across dialects too")
    given = parser.parse_args()
    if not (JUDGE / "sdk_check.py").exists() or not CASES.is_dir():
        print(f"SKIPPED: no judge or no recordings under {SHARED}; nothing was judged")
        return 0
    only = given.only.split(",") if given.only else None
    ports = {wire: free_port() for wire in WIRES}
    replay = start_replay(ports)
    try:
        if given.direct:
            return run_all(ports, None, "sk-direct", only, given.full)
        # One attempt: the replay counts requests, and has one answer for all.
        with Gateway(rules=rules(ports), shipped=False, limits={"attempts": 1}) as gateway:
            return run_all(ports, gateway.url, gateway.key, only, given.full)
    finally:
        replay.terminate()
        replay.wait()


if __name__ == "__main__":
    sys.exit(main())
