#!/usr/bin/env python3
"""What do bad providers and hostile clients cost the others? p99 of some 2,500 requests a second on a good provider, in interleaved rounds without
and with trouble, which has the least priority on the core of driver and sandbox.

    python3 loadtest/beside.py target/release/tollgate target/release/examples/load [--trouble giant ...] [--rounds 8] [--seconds 2]

    unaccepted  200 requests on a provider that never accepts (its TCP connect does not complete)
    mute        200 requests on a provider that accepts and says nothing
    drip        200 streams of a provider that sends a byte each second
    reset       20 requests a second on a provider that resets its connection in the middle of an answer
    length      20 requests a second on a provider whose answers are shorter, or longer, than they say
    giant       4 streams at a time, one each half second, of a provider that sends events of 1 GiB
    headers     2,000 clients that drip their headers, a byte each 500 ms, and connect again when closed
"""

import argparse
import asyncio
import collections
import contextlib
import json
import multiprocessing
import os
import re
import resource
import select
import socket
import statistics
import struct
import time

from stage import Stage, provider

# Nothing that hangs is to end within a round.
PATIENT = """
connect = "10m"
connect_total = "10m"
first_byte = "10m"
first_byte_whole = "10m"
"""
# Seconds: of a header, between two of its bytes, between two looks.
CLIENTS, HEADER, DRIP, TICK = 2000, 10.0, 0.5, 0.01


async def say(writer, text):
    writer.write(text)
    await writer.drain()


async def play(kind, reader, writer):
    """One connection of a bad provider."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.search(rb"(?i)content-length: *(\d+)", head)[1]))
            stream = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            if kind == "mute":
                await asyncio.sleep(3600)
            elif kind == "drip":
                await say(writer, stream)
                while True:
                    await asyncio.sleep(1)
                    await say(writer, b"1\r\n:\r\n")
            elif kind == "reset":
                await say(writer, b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"id": ')
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
                return
            elif kind == "length":
                await say(writer, b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"id": 1}')
                writer.close()
                return
            elif kind == "giant":
                await say(writer, stream)
                await say(writer, b"6\r\ndata: \r\n")
                for _ in range(1 << 14):
                    await say(writer, b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
    writer.close()


async def ask(kind, port, key, told):
    """One request on a bad provider; what the client got of it."""
    body = {"model": f"{kind}/x", "stream": kind in ("drip", "giant"), "messages": [{"role": "user", "content": "hi"}]}
    body = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + body)
    answer, size = b"", 0
    while part := await reader.read(1 << 16):
        answer, size = answer + part if size < 1 << 16 else (answer + part)[-4096:], size + len(part)
    writer.close()
    if kind not in told:
        status, error = answer.split(b"\r\n", 1)[0], re.search(rb'"message":"[^"]*"', answer)
        told[kind] = f"{status.decode()}, {(error or [b'no error'])[0].decode()}"
        print(f"    {kind}: a client is told: {told[kind]}", flush=True)


def drip_headers(port):
    """Clients that drip their headers for ever. Without asyncio, whose own CPU would be the trouble."""
    poll, clients = select.epoll(), {}

    def connect():
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        clients[client.fileno()] = client, time.monotonic()
        poll.register(client, select.EPOLLIN | select.EPOLLRDHUP)
        with contextlib.suppress(OSError):
            client.send(b"POST /v1/chat/completions HTTP/1.1\r\nx: ")

    for _ in range(CLIENTS):
        connect()
    order, held = collections.deque(clients), []
    told = due = time.monotonic()
    while True:
        for descriptor, _ in poll.poll(TICK):
            client, began = clients.pop(descriptor)
            held.append(time.monotonic() - began)
            client.close()
            connect()
        while due < time.monotonic():
            due += DRIP / CLIENTS
            order.rotate(-1)
            with contextlib.suppress(OSError):
                clients[order[0]][0].send(b"x")
        if held and time.monotonic() - told > 2:
            print(f"    headers: {len(held)} were closed, the last after {max(held):.2f} s", flush=True)
            held, told = [], time.monotonic()


async def make(kind, port, key, own):
    told = {}
    server = None
    if kind != "unaccepted":
        server = await asyncio.start_server(lambda r, w: play(kind, r, w), sock=own)
    each = {"reset": 0.05, "length": 0.05, "giant": 0.5}.get(kind)
    tasks = set()

    async def keep(what):
        with contextlib.suppress(OSError):
            await what

    if each is None:
        await asyncio.gather(*(keep(ask(kind, port, key, told)) for _ in range(200)))
    while server:
        tasks = {task for task in tasks if not task.done()}
        if len(tasks) < (4 if kind == "giant" else 100):
            tasks.add(asyncio.create_task(keep(ask(kind, port, key, told))))
        await asyncio.sleep(each or 1)


def trouble(kind, port, key, own):
    os.nice(19)
    os.sched_setaffinity(0, {1})
    if kind == "headers":
        drip_headers(port)
    asyncio.run(make(kind, port, key, own))


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("gateway")
    parse.add_argument("load")
    kinds = ["unaccepted", "mute", "drip", "reset", "length", "giant", "headers"]
    parse.add_argument("--trouble", nargs="+", choices=kinds, default=kinds)
    parse.add_argument("--rounds", type=int, default=8)
    parse.add_argument("--seconds", type=float, default=2.0)
    parse.add_argument("--connections", type=int, default=16)
    parse.add_argument("--pause", type=int, default=5, help="milliseconds between an answer and the connection's next request")
    args = parse.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    for kind in args.trouble:
        with socket.socket() as own:
            own.bind(("127.0.0.1", 0))
            own.listen(0 if kind == "unaccepted" else 1024)
            timeouts = f'header = "{HEADER:.0f}s"' if kind == "headers" else PATIENT
            rules = provider(kind, own.getsockname()[1])
            options = {"limits": "attempts = 1", "more": f"[timeouts]\n{timeouts}", "access": False}
            with Stage(args.gateway, args.load, rules=rules, **options) as stage:
                one(kind, own, stage, args)


def one(kind, own, stage, args):
    if kind == "unaccepted":
        for _ in range(4):  # its queue is full: the next connect waits for ever
            full = stage.enter_context(socket.socket())
            full.setblocking(False)
            full.connect_ex(own.getsockname())

    def measure():
        result = stage.drive("rps", connections=args.connections, pause=args.pause, seconds=args.seconds)
        if result["errors"]:
            raise SystemExit(f"requests to the good provider failed: {result}")
        return result

    measure()
    rounds, most, before = [], 0.0, stage.resident()
    for _ in range(args.rounds):
        calm = measure()
        process = multiprocessing.Process(target=trouble, args=(kind, stage.port, stage.key, own), daemon=True)
        process.start()
        # Those that drip are at their deadline when they are measured beside.
        time.sleep(HEADER - args.seconds / 2 if kind == "headers" else 1)
        beside = measure()
        most = max(most, stage.resident())
        if kind == "headers":
            time.sleep(3)
        process.kill()
        process.join()
        time.sleep(0.5)
        rounds.append((calm, beside))
    for field in ("p50", "p99"):
        ratios = sorted(beside[field] / calm[field] for calm, beside in rounds)
        calm, beside = (statistics.median(pair[n][field] for pair in rounds) for n in (0, 1))
        print(f"{kind} {field}: calm {calm:.0f} us, beside {beside:.0f} us; median of ratios {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    print(f"{kind} memory: {before:.0f} MiB before, at most {most:.0f} beside it", flush=True)


if __name__ == "__main__":
    main()
