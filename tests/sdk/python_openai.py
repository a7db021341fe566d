"""The official `openai` package: Chat Completions, Responses, embeddings, models."""

import json

import httpx
import openai
from harness import Checks, raises, same, true

FAULTS = ("cut:3", "stop:3", "error:3")
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def checks(gateway):
    def connect(key=gateway.key):
        return openai.OpenAI(api_key=key, base_url=gateway.url + "/v1", max_retries=0, timeout=30)

    c, client = Checks(), connect()
    hello = [{"role": "user", "content": "Hello from the SDK"}]
    tools = [{"type": "function", "function": {"name": "weather", "description": "The weather", "parameters": WEATHER}}]

    def chat(model="sandbox/echo", client=client, **more):
        return client.chat.completions.create(model=model, messages=more.pop("messages", hello), **more)

    @c.check("chat")
    def _():
        answer = chat()
        same(answer.choices[0].message.content, "Hello from the SDK", "the echo")
        same(answer.choices[0].finish_reason, "stop", "the finish reason")
        true(answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0, "usage is told")

    @c.check("chat, a route's own name")
    def _():
        same(chat("our-echo").choices[0].message.content, "Hello from the SDK", "the route renames the model")

    @c.check("chat, compressed")
    def _():
        for coding in ("gzip", "br", "zstd"):
            same(chat(f"sandbox/echo,coding={coding}").choices[0].message.content, "Hello from the SDK", coding)

    @c.check("chat stream")
    def _():
        chunks = list(chat(stream=True, stream_options={"include_usage": True}))
        same("".join(x.choices[0].delta.content or "" for x in chunks if x.choices), "Hello from the SDK", "the echo")
        same([x.choices[0].finish_reason for x in chunks if x.choices][-1], "stop", "the finish reason")
        true(chunks[-1].usage and chunks[-1].usage.completion_tokens > 0, "usage was asked and comes")

    @c.check("chat stream, usage not asked")
    def _():
        chunks = list(chat(stream=True))
        same("".join(x.choices[0].delta.content or "" for x in chunks), "Hello from the SDK", "every chunk has its choice")
        same([x.usage for x in chunks if x.usage], [], "what the gateway asked for itself is withheld")

    @c.check("chat tools")
    def _():
        call = chat("sandbox/chat", tools=tools).choices[0]
        same(call.finish_reason, "tool_calls", "the finish reason")
        tool = call.message.tool_calls[0]
        true("city" in json.loads(tool.function.arguments), "arguments are JSON")
        result = {"role": "tool", "tool_call_id": tool.id, "content": "sunny"}
        answer = chat("sandbox/chat", tools=tools, messages=[*hello, call.message, result])
        true("sunny" in answer.choices[0].message.content, "the answer has seen the tool's result")

    @c.check("chat tools, streamed")
    def _():
        name, arguments, finish = "", "", None
        for chunk in chat("sandbox/chat", tools=tools, stream=True):
            finish = chunk.choices[0].finish_reason or finish
            for piece in chunk.choices[0].delta.tool_calls or []:
                name += piece.function.name or ""
                arguments += piece.function.arguments or ""
        same((name, finish), ("weather", "tool_calls"), "the call")
        true("city" in json.loads(arguments), "arguments are JSON")

    def respond(model="sandbox/echo", client=client, **more):
        return client.responses.create(model=model, input=more.pop("input", "Hello from the SDK"), **more)

    flat = [{"type": "function", "name": "weather", "description": "The weather", "parameters": WEATHER, "strict": False}]

    @c.check("responses")
    def _():
        answer = respond()
        same((answer.output_text, answer.status), ("Hello from the SDK", "completed"), "the echo")
        true(answer.usage.input_tokens > 0, "usage is told")

    @c.check("responses stream")
    def _():
        events = list(respond(stream=True))
        same("".join(e.delta for e in events if e.type == "response.output_text.delta"), "Hello from the SDK", "the echo")
        same(events[-1].type, "response.completed", "the last event")

    @c.check("responses stream, the SDK's helper")
    def _():
        with client.responses.stream(model="sandbox/echo", input="Hello from the SDK") as stream:
            same(stream.get_final_response().output_text, "Hello from the SDK", "the echo")

    @c.check("responses tools")
    def _():
        answer = respond("sandbox/chat", tools=flat)
        call = next(item for item in answer.output if item.type == "function_call")
        true("city" in json.loads(call.arguments), "arguments are JSON")
        asked = [{"role": "user", "content": "Hello"}, call.model_dump(exclude_none=True)]
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        answer = respond("sandbox/chat", tools=flat, input=[*asked, result])
        true("sunny" in answer.output_text, "the answer has seen the tool's result")

    @c.check("embeddings")
    def _():
        coded = client.embeddings.create(model="sandbox/embed", input=["one", "two"])
        plain = client.embeddings.create(model="sandbox/embed", input=["one", "two"], encoding_format="float")
        same(len(coded.data), 2, "one vector a text")
        near = zip(coded.data[0].embedding, plain.data[0].embedding, strict=True)
        true(all(abs(a - b) < 1e-6 for a, b in near), "base64 and numbers say the same")

    @c.check("models")
    def _():
        true("our-echo" in [m.id for m in client.models.list()], "a route's own name is listed")
        same(client.models.retrieve("our-echo").id, "our-echo", "and found")
        raises(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"), 404)

    for name, call in (("chat", chat), ("responses", respond)):

        @c.check(f"{name}: wrong key")
        def _(call=call):
            wrong = gateway.key[:-4] + ("AAAA" if gateway.key[-4:] != "AAAA" else "BBBB")
            for key in (wrong, "sk-nonsense"):
                raises(openai.AuthenticationError, lambda: call(client=connect(key)), 401)

        @c.check(f"{name}: unknown model")
        def _(call=call):
            error = raises(openai.NotFoundError, lambda: call("no-such-model"), 404)
            same(error.code, "model_not_found", "the code")

        @c.check(f"{name}: bad request")
        def _(call=call):
            raises(openai.BadRequestError, lambda: call("sandbox/chat,status=400"), 400)

        @c.check(f"{name}: provider's 429")
        def _(call=call):
            error = raises(openai.RateLimitError, lambda: call("sandbox/chat,status=429,retry=7"), 429)
            same(error.response.headers.get("retry-after"), "7", "Retry-After passes")

        @c.check(f"{name}: provider's 500")
        def _(call=call):
            raises(openai.InternalServerError, lambda: call("sandbox/chat,status=500"), 500)
            raises(openai.InternalServerError, lambda: call("sandbox/chat,status=500", stream=True), 500)

        for fault in FAULTS:

            @c.check(f"{name} stream: {fault}")
            def _(call=call, fault=fault):
                def read():
                    events = list(call(f"sandbox/chat,fault={fault}", stream=True))
                    # A provider of Responses tells its own failure so, and the SDK raises nothing.
                    if getattr(events[-1], "type", "") == "response.failed":
                        raise openai.APIError(events[-1].response.error.message, httpx.Request("POST", "/"), body=None)
                    return events

                raises(openai.APIError, read)

        for fault in ("cut:0", "reset", "garbage", "error:0"):

            @c.check(f"{name}: {fault}")
            def _(call=call, fault=fault):
                raises(openai.APIError, lambda: call(f"sandbox/chat,fault={fault}"))

    return c
