"""The official `anthropic` package: messages, streams, token counting, models."""

import anthropic
from harness import Checks, raises, same, true

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def checks(gateway):
    def connect(key=gateway.key):
        return anthropic.Anthropic(api_key=key, base_url=gateway.url, max_retries=0, timeout=30)

    c, client = Checks(), connect()
    hello = [{"role": "user", "content": "Hello from the SDK"}]
    tools = [{"name": "weather", "description": "The weather", "input_schema": WEATHER}]

    def ask(model="sandbox/echo", client=client, **more):
        return client.messages.create(model=model, max_tokens=1000, messages=more.pop("messages", hello), **more)

    def stream(model="sandbox/echo", **more):
        with client.messages.stream(model=model, max_tokens=1000, messages=hello, **more) as events:
            text = "".join(events.text_stream)
            return text, events.get_final_message()

    @c.check("messages")
    def _():
        answer = ask()
        same((answer.content[0].text, answer.stop_reason), ("Hello from the SDK", "end_turn"), "the echo")
        true(answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, "usage is told")

    @c.check("messages, key as a bearer token")
    def _():
        bearer = anthropic.Anthropic(auth_token=gateway.key, base_url=gateway.url, max_retries=0, timeout=30)
        same(ask(client=bearer).content[0].text, "Hello from the SDK", "the echo")

    @c.check("messages, a route's own name")
    def _():
        same(ask("our-echo").content[0].text, "Hello from the SDK", "the route renames the model")

    @c.check("messages stream")
    def _():
        text, message = stream()
        same((text, message.stop_reason), ("Hello from the SDK", "end_turn"), "the echo")
        true(message.usage.output_tokens > 0, "usage is told")

    @c.check("messages stream, raw events")
    def _():
        kinds = [event.type for event in ask(stream=True)]
        same((kinds[0], kinds[-1]), ("message_start", "message_stop"), "first and last event")

    @c.check("tools")
    def _():
        first = ask("sandbox/chat", tools=tools)
        same(first.stop_reason, "tool_use", "the stop reason")
        call = next(block for block in first.content if block.type == "tool_use")
        true("city" in call.input, "the input is an object")
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
        turns = [*hello, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        answer = ask("sandbox/chat", tools=tools, messages=turns)
        true("sunny" in answer.content[0].text, "the answer has seen the tool's result")

    @c.check("tools, streamed")
    def _():
        _, message = stream("sandbox/chat", tools=tools)
        call = next(block for block in message.content if block.type == "tool_use")
        same((call.name, message.stop_reason), ("weather", "tool_use"), "the call")
        true("city" in call.input, "the input is an object")

    @c.check("count_tokens")
    def _():
        true(client.messages.count_tokens(model="sandbox/chat", messages=hello).input_tokens > 0, "a count")

    @c.check("models")
    def _():
        true("our-echo" in [m.id for m in client.models.list()], "a route's own name is listed")
        same(client.models.retrieve("our-echo").id, "our-echo", "and found")

    @c.check("wrong key")
    def _():
        raises(anthropic.AuthenticationError, lambda: ask(client=connect("sk-nonsense")), 401)

    @c.check("unknown model")
    def _():
        error = raises(anthropic.NotFoundError, lambda: ask("no-such-model"), 404)
        same(error.body["error"]["type"], "not_found_error", "the error's type")

    @c.check("bad request")
    def _():
        raises(anthropic.BadRequestError, lambda: ask("sandbox/chat,status=400"), 400)

    @c.check("provider's 429")
    def _():
        error = raises(anthropic.RateLimitError, lambda: ask("sandbox/chat,status=429,retry=7"), 429)
        same(error.response.headers.get("retry-after"), "7", "Retry-After passes")

    @c.check("provider's 500 and 529")
    def _():
        raises(anthropic.InternalServerError, lambda: ask("sandbox/chat,status=500"), 500)
        raises(anthropic.APIStatusError, lambda: ask("sandbox/chat,status=529"), 529)
        raises(anthropic.InternalServerError, lambda: stream("sandbox/chat,status=500"), 500)

    for fault in ("cut:3", "stop:3", "error:3"):

        @c.check(f"stream: {fault}")
        def _(fault=fault):
            raises(anthropic.APIError, lambda: stream(f"sandbox/chat,fault={fault}"))

        @c.check(f"raw stream: {fault}")
        def _(fault=fault):
            raises(anthropic.APIError, lambda: list(ask(f"sandbox/chat,fault={fault}", stream=True)))

    for fault in ("cut:0", "reset", "garbage", "error:0"):

        @c.check(f"messages: {fault}")
        def _(fault=fault):
            raises(anthropic.APIError, lambda: ask(f"sandbox/chat,fault={fault}"))

    return c
