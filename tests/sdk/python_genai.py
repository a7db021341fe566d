"""The official `google-genai` package: content, streams, token counting, embeddings, models."""

from google import genai
from google.genai import errors, types
from harness import Checks, raises, same, true

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def checks(gateway):
    def connect(key=gateway.key):
        # One attempt: the SDK would retry a 429 or 500 itself.
        once = types.HttpRetryOptions(attempts=1)
        options = types.HttpOptions(base_url=gateway.url, timeout=30_000, retry_options=once)
        return genai.Client(api_key=key, vertexai=False, http_options=options)

    c, client = Checks(), connect()
    declared = types.FunctionDeclaration(name="weather", description="The weather", parameters_json_schema=WEATHER)
    by_hand = types.AutomaticFunctionCallingConfig(disable=True)
    tools = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])], automatic_function_calling=by_hand)

    def ask(model="sandbox/echo", client=client, contents="Hello from the SDK", **more):
        return client.models.generate_content(model=model, contents=contents, **more)

    def stream(model="sandbox/echo", **more):
        return list(client.models.generate_content_stream(model=model, contents="Hello from the SDK", **more))

    @c.check("generate_content")
    def _():
        answer = ask()
        same((answer.text, answer.candidates[0].finish_reason), ("Hello from the SDK", types.FinishReason.STOP), "the echo")
        true(answer.usage_metadata.prompt_token_count > 0, "usage is told")

    @c.check("generate_content, a route's own name")
    def _():
        same(ask("our-echo").text, "Hello from the SDK", "the route renames the model")

    @c.check("stream")
    def _():
        chunks = stream()
        same("".join(x.text or "" for x in chunks), "Hello from the SDK", "the echo")
        same(chunks[-1].candidates[0].finish_reason, types.FinishReason.STOP, "the finish reason")

    @c.check("tools")
    def _():
        first = ask("sandbox/chat", config=tools)
        call = first.function_calls[0]
        same(call.name, "weather", "the call")
        true("city" in call.args, "the arguments are an object")
        result = types.Part.from_function_response(name=call.name, response={"result": "sunny"})
        turns = [
            types.Content(role="user", parts=[types.Part(text="Hello")]),
            first.candidates[0].content,
            types.Content(role="user", parts=[result]),
        ]
        true("sunny" in ask("sandbox/chat", contents=turns, config=tools).text, "the answer has seen the tool's result")

    @c.check("tools, called by the SDK itself")
    def _():
        def weather(city: str) -> str:
            """The weather."""
            return "sunny"

        answer = ask("sandbox/chat", config=types.GenerateContentConfig(tools=[weather]))
        true("sunny" in answer.text, "the answer has seen the tool's result")

    @c.check("tools, streamed")
    def _():
        calls = [call for x in stream("sandbox/chat", config=tools) for call in x.function_calls or []]
        same([call.name for call in calls], ["weather"], "the call")

    @c.check("count_tokens")
    def _():
        true(client.models.count_tokens(model="sandbox/chat", contents="one two three").total_tokens > 0, "a count")

    @c.check("embed_content")
    def _():
        vectors = client.models.embed_content(model="sandbox/embed", contents=["one", "two"]).embeddings
        same(len(vectors), 2, "one vector a text")
        true(len(vectors[0].values) > 0, "of some length")

    @c.check("models")
    def _():
        true("models/our-echo" in [m.name for m in client.models.list()], "a route's own name is listed")
        same(client.models.get(model="our-echo").name, "models/our-echo", "and found")

    @c.check("wrong key")
    def _():
        raises(errors.ClientError, lambda: ask(client=connect("sk-nonsense")), 401)

    @c.check("unknown model")
    def _():
        error = raises(errors.ClientError, lambda: ask("no-such-model"), 404)
        same(error.status, "NOT_FOUND", "the status word")

    @c.check("bad request")
    def _():
        raises(errors.ClientError, lambda: ask("sandbox/chat,status=400"), 400)

    @c.check("provider's 429")
    def _():
        error = raises(errors.ClientError, lambda: ask("sandbox/chat,status=429,retry=7"), 429)
        same(error.status, "RESOURCE_EXHAUSTED", "the status word")

    @c.check("provider's 500 and 503")
    def _():
        raises(errors.ServerError, lambda: ask("sandbox/chat,status=500"), 500)
        raises(errors.ServerError, lambda: ask("sandbox/chat,status=503"), 503)
        raises(errors.ServerError, lambda: stream("sandbox/chat,status=500"), 500)

    for fault in ("cut:3", "stop:3", "error:3"):

        @c.check(f"stream: {fault}")
        def _(fault=fault):
            raises(errors.APIError, lambda: stream(f"sandbox/chat,fault={fault}"))

    for fault in ("cut:0", "reset", "garbage", "error:0"):

        @c.check(f"generate_content: {fault}")
        def _(fault=fault):
            raises(errors.APIError, lambda: ask(f"sandbox/chat,fault={fault}"))

    return c
