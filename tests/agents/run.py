#!/usr/bin/env python3
"""Real coding agents through the built gateway, to providers of every dialect.

    TOLLGATE_BIN=target/release/tollgate TOLLGATE_AGENTS=target/ci-agents tests/agents/run.py [--agents claude,codex,gemini]
        [--upstreams openai_chat,openai_responses,anthropic,gemini] [--keep FOLDER] [--direct]

Claude Code, Codex and Gemini CLI are set up with what `tollgate env` prints, and asked to read a file. The provider (a
stand-in, providers.py) asks for the agent's own tool and then says a last word. A pair of agent and dialect passes when the
agent ran the tool, its result reached the provider as the provider's dialect has it, the reasoning token came back to the
provider as it went out, and the last word was printed, and nothing else.

The agents are looked for in $TOLLGATE_AGENTS/node_modules/.bin (npm install @anthropic-ai/claude-code @openai/codex
@google/gemini-cli; .ci/agents has the versions). They get fake keys, homes of their own and no network. `--keep`
writes what each agent said and sent; `--direct` leaves the gateway out, where agent and provider speak one dialect.
The last line counts; the exit code is 1 if anything failed. Python's standard library only.
"""

import argparse
import collections
import json
import os
import pathlib
import secrets
import shutil
import subprocess
import sys
import tempfile
import time

import network
from providers import DIALECTS, Provider, Script, TOKEN

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "sdk"))
from gateway import ROOT, Gateway, binary  # noqa: E402

# Longest run of one agent (they take 1 to 5 seconds), and of all.
SECONDS = 45
ALL_SECONDS = 210
MARKER = "marker.txt"
TOKEN_LOST = "the reasoning token did not come back"
PROMPT = f"Say what is in {MARKER}."


class Agent:
    """How an agent is started: `own` is the dialect it speaks, `calls` the tools by which it can read the marker,
    `arguments` its command line, `printed` finds the last word in what it prints, `model` the model it asks for, where that
    must be a certain one."""

    def __init__(self, name, program, own, calls, arguments, printed, model=None):
        self.name, self.program, self.own, self.calls = name, program, own, calls
        self.arguments, self.printed, self.model = arguments, printed, model

    def model_for(self, provider):
        """`provider/model` addresses one directly, by a name it knows. Otherwise a route does: under the same name where
        answers pass as they came (Claude Code keeps signed reasoning only of the model it asked for, by name), under
        another where they are converted."""
        if self.model:
            return f"up-{provider.name}/{self.model}"
        return f"{'own' if self.own == provider.name else 'other'}-{provider.name}"


# (agent, provider, how the line of the failure begins): why it is not counted. What no longer fails is told.
KNOWN = {}

# Its sandbox needs rights of the kernel which containers often lack; `cat` needs none.
CODEX = ["exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", PROMPT]


AGENTS = [
    Agent(
        "claude",
        "claude",
        "anthropic",
        {"Bash": {"command": f"cat {MARKER}", "description": "Reads the marker"}},
        ["-p", PROMPT, "--output-format", "json", "--allowedTools", "Bash(cat:*)"],
        lambda out: json.loads(out)["result"],
    ),
    Agent(
        "codex",
        "codex",
        "openai_responses",
        {"exec_command": {"cmd": f"cat {MARKER}"}},
        CODEX,
        lambda out: out.strip(),
    ),
    # For a model of its catalogue it offers other tools, and elsewhere: in the first item of the input, grouped, the one
    # which runs commands as a tool that takes text, a program.
    Agent(
        "codex-catalogue",
        "codex",
        "openai_responses",
        {"exec": f'const done = await tools.exec_command({{ cmd: "cat {MARKER}" }});\ntext(done.output);\n'},
        CODEX,
        lambda out: out.strip(),
        model="gpt-6.1-sol",
    ),
    Agent(
        "gemini",
        "gemini",
        "gemini",
        {"read_file": {"file_path": MARKER}},
        ["-p", PROMPT, "--skip-trust", "--output-format", "json"],
        lambda out: json.loads(out)["response"],
    ),
]


def rules(providers):
    """One provider a dialect, and two models: `own-...` goes to the provider by this name, `other-...` by another."""
    text = ""
    for name, provider in providers.items():
        text += f'[provider.up-{name}]\nauth = "none"\ndialects = {{ {name} = "{provider.url}" }}\n'
        for model, target in ((f"own-{name}", ""), (f"other-{name}", f', model = "up-{name}"')):
            text += f'[[route]]\nname = "{model}"\nmodel = "{model}"\ntargets = [{{ provider = "up-{name}"{target} }}]\n'
    return {"10-agents.toml": text}


def settings(agent, url, key, model):
    """What `tollgate env` says."""
    command = [binary(), "env", agent.program, "--json", "--url", url, "--key", key, "--model", model]
    return json.loads(subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout)


def environment(agent, told, home):
    """An environment with the settings and little else; the settings file goes to the home folder."""
    for file in [told["file"]] if told["file"] else []:
        path = pathlib.Path(file["path"].replace("~", str(home), 1))
        path.parent.mkdir(parents=True)
        path.write_text(file["text"])
    plain = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "NO_COLOR": "1"}
    return plain | network.variables() | told["variables"] | told["suggested"]


def start(agent, told, binaries, folder, seconds):
    """(what the marker says, exit code or "timeout", standard output, standard error)"""
    home, work = folder / "home", folder / "work"
    home.mkdir()
    work.mkdir()
    command = [str(binaries / agent.program), *agent.arguments]
    marker = f"found-{secrets.token_hex(6)}"
    (work / MARKER).write_text(marker + "\n")
    # Files, and a group of its own: what an agent leaves running must not keep this waiting.
    with open(folder / "out", "w+b") as out, open(folder / "err", "w+b") as err:
        process = subprocess.Popen(
            command, env=environment(agent, told, home), cwd=work, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = "timeout"
        try:
            os.killpg(process.pid, 9)
        except ProcessLookupError:
            pass
        process.wait()
        return marker, code, *(read(file) for file in (out, err))


def read(file):
    file.seek(0)
    return file.read().decode(errors="replace")


def judge(agent, provider, marker, word, code, out):
    """What is wrong: a list, empty if nothing is."""
    wrong = [] if code == 0 else [f"it ended with {code}"]
    try:
        printed = agent.printed(out)
    except (ValueError, KeyError):
        printed = out
    if printed != word:
        wrong.append(f"it printed {printed[-200:]!r}, not the last word")
    asked = [request for request in provider.requests if isinstance(request.body, dict) and provider.dialect.is_answered(request.path.split("?")[0])]
    if not asked:
        return wrong + ["no request reached the provider"]
    is_own = provider.script.wants
    if not any(is_own(tool.name) for request in asked for tool in provider.dialect.offered(request.body)):
        wrong.append("its tools did not reach the provider")
    told = [request for request in asked if any(is_own(name) and marker in text for name, text in provider.dialect.results(request.body))]
    if not told:
        wrong.append("the tool's result did not reach the provider")
    if any(provider.dialect.signs(request.body) for request in asked[:1]):
        tokens = [token for request in told[:1] for token in provider.dialect.tokens(request.body)]
        if TOKEN not in tokens:
            wrong.append(f"{TOKEN_LOST}: {tokens}")
    return wrong


def keep(folder, provider, told, code, out, err):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "said.json").write_text(json.dumps({"settings": told, "code": code, "out": out, "err": err}, indent=1, ensure_ascii=False))
    requests = [{"method": r.method, "path": r.path, "headers": r.headers, "body": r.body if r.body is not None else r.raw.decode(errors="replace")} for r in provider.requests]
    (folder / "requests.json").write_text(json.dumps(requests, indent=1, ensure_ascii=False))


def run_pair(agent, provider, url, key, binaries, kept, end):
    """Runs one agent against one provider; returns whether it passed. `end`: when all of them have to be done."""
    word = f"Fertig – {secrets.token_hex(4)} ✓ done."
    provider.play(Script(agent.calls, word))
    model = agent.model_for(provider)
    told = settings(agent, url, key, model)
    began = time.monotonic()
    if began >= end:
        print(f"FAIL {agent.name} -> {provider.name}: not run, no time is left", flush=True)
        return False
    with tempfile.TemporaryDirectory(prefix="tollgate-agent-", ignore_cleanup_errors=True) as folder:
        marker, code, out, err = start(agent, told, binaries, pathlib.Path(folder), min(SECONDS, end - began))
    found = judge(agent, provider, marker, word, code, out)
    known = {begins: why for (*pair, begins), why in KNOWN.items() if pair == [agent.name, provider.name]}
    excused = {line: why for line in found for begins, why in known.items() if line.startswith(begins)}
    wrong = [line for line in found if line not in excused]
    seconds = time.monotonic() - began
    posts = sum(request.method == "POST" for request in provider.requests)
    print(f"{'FAIL' if wrong else 'ok  '} {agent.name} -> {provider.name}: {posts} upstream requests, {seconds:.1f} s", flush=True)
    for line, why in excused.items():
        print(f"     known: {line} ({why})", flush=True)
    for begins in known:
        if not any(line.startswith(begins) for line in found):
            print(f"     no longer so, remove it from KNOWN: {begins}", flush=True)
    for line in wrong:
        print(f"     {line}")
    if wrong:
        print(f"     {(err.strip() or out.strip())[-400:]!r}", flush=True)
    if kept:
        keep(kept / f"{agent.name}-{provider.name}", provider, told, code, out, err)
    return not wrong


def run_all(given, binaries, providers):
    agents = [agent for agent in AGENTS if agent.name in given.agents.split(",")]
    end = time.monotonic() + ALL_SECONDS
    if given.direct:
        own = [(agent, providers[agent.own]) for agent in agents]
        return [run_pair(agent, provider, provider.url.removesuffix("/v1"), "sk-direct", binaries, given.keep, end) for agent, provider in own]
    with Gateway(rules=rules(providers), shipped=False) as gateway:
        pairs = [(agent, provider) for agent in agents for provider in providers.values()]
        results = [run_pair(agent, provider, gateway.url, gateway.key, binaries, given.keep, end) for agent, provider in pairs]
        refused(gateway, given.keep)
    return results


def refused(gateway, kept):
    """Tells what agents asked of the gateway in vain. It need not be a failure: they look what is there."""
    folder = pathlib.Path(gateway.folder.name)
    # Until the log is written.
    time.sleep(1)
    log = folder / "data/logs/access.log"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for (method, path, status), times in collections.Counter((l["method"], l["path"], l["status"]) for l in lines if l["status"] >= 400).items():
        print(f"note: {method} {path} was answered {status}, {times} times")
    if kept:
        shutil.copy(log, kept)
        shutil.copy(folder / "log", kept)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", default=",".join(agent.name for agent in AGENTS))
    parser.add_argument("--upstreams", default=",".join(DIALECTS))
    parser.add_argument("--keep", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--direct", action="store_true", help="without a gateway")
    given = parser.parse_args()
    binaries = pathlib.Path(os.environ.get("TOLLGATE_AGENTS", ROOT / "target/ci-agents")).resolve() / "node_modules/.bin"
    missing = [agent.name for agent in AGENTS if agent.name in given.agents.split(",") and not (binaries / agent.program).exists()]
    if missing:
        raise SystemExit(f"not in {binaries}: {', '.join(missing)}")
    print(f"agents in {network.isolate()}", flush=True)
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    wanted = list(DIALECTS) if given.direct else given.upstreams.split(",")
    with Providers(wanted) as providers:
        results = run_all(given, binaries, providers)
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


class Providers(dict):
    """A provider of each of these dialects."""

    def __init__(self, names):
        super().__init__((name, Provider(name)) for name in names)

    def __enter__(self):
        for provider in self.values():
            provider.__enter__()
        return self

    def __exit__(self, *error):
        for provider in self.values():
            provider.__exit__(*error)


if __name__ == "__main__":
    sys.exit(main())
