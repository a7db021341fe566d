"""Four stand-in providers, one a dialect, for real agents: each asks for one tool, then says a last word.

A request without a tool's result is answered by a call of the first tool that `Script.calls` knows and the request offers;
one with a result, or without tools, by the last word. Streams are cut within words and arguments. Where the request asks for
reasoning they begin with it, and it carries a token of the provider's. Whatever comes in is kept for those who want to look.
Python's standard library only.
"""

import gzip
import http.server
import json
import socket
import socketserver
import threading
from urllib.parse import urlsplit

THOUGHT = "The marker is in a file; it has to be read."
# What providers sign their reasoning with. It must come back as it went.
TOKEN = "c2lnbmVkIGJ5IHRoZSBwcm92aWRlcg=="


class Script:
    """What one agent is asked to do: `calls` (tool name: arguments, or the text for a tool that takes text; in order of
    preference), and the last word."""

    def __init__(self, calls, word):
        self.calls, self.word = calls, word

    def wants(self, name):
        """The tool of `calls` which that name means: its own, or one with its group's name before it."""
        return next((own for own in self.calls if name == own or name.endswith(f"__{own}")), None)


class Tool:
    """A tool on offer: a function with a JSON Schema, or one that takes text, perhaps in a group."""

    def __init__(self, name, schema, group=None):
        self.name, self.schema, self.group = name, schema, group

    def call(self, wanted):
        """The arguments: an object, or text. Text for a function goes into its one argument."""
        if isinstance(wanted, str) and self.schema is not None:
            (argument,) = self.schema["properties"]
            return {argument: wanted}
        return wanted


class Request:
    """One request as it came in."""

    def __init__(self, method, path, headers, raw):
        self.method, self.path, self.headers, self.raw = method, path, headers, raw
        try:
            self.body = json.loads(raw) if raw else None
        except ValueError:
            self.body = None


class Chat:
    """OpenAI Chat Completions, as a provider of reasoning models speaks it."""

    base = "/v1"

    @staticmethod
    def is_answered(path):
        return path.endswith("/chat/completions")

    @staticmethod
    def is_stream(request):
        return bool(request.body.get("stream"))

    @staticmethod
    def model(request):
        return request.body.get("model")

    @staticmethod
    def offered(body):
        functions = [tool["function"] for tool in body.get("tools") or [] if tool.get("type") == "function"]
        return [Tool(function["name"], function.get("parameters") or {}) for function in functions]

    @staticmethod
    def results(body):
        """(name of the tool, text) of each result which stands behind its call."""
        called, results = {}, []
        for message in body.get("messages", []):
            for call in message.get("tool_calls") or []:
                called[call["id"]] = call["function"]["name"]
            if message.get("role") == "tool" and message.get("tool_call_id") in called:
                results.append((called[message["tool_call_id"]], text_of(message["content"])))
        return results

    @staticmethod
    def signs(_body):
        """True if the answer carries a token."""
        return False

    @staticmethod
    def tokens(_body):
        """The tokens that came back."""
        return []

    @staticmethod
    def whole(model, text):
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
        return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}

    @staticmethod
    def stream(_request, model, text, call):
        def chunk(delta, finish=None):
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}

        events = [chunk({"role": "assistant", "content": ""})]
        events += [chunk({"reasoning_content": piece}) for piece in pieces(THOUGHT)]
        if call:
            tool, arguments = call
            function = {"name": tool.name, "arguments": ""}
            events.append(chunk({"tool_calls": [{"index": 0, "id": "call_up_1", "type": "function", "function": function}]}))
            for piece in pieces(json.dumps(arguments)):
                events.append(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
        else:
            events += [chunk({"content": piece}) for piece in pieces(text)]
        events.append(chunk({}, "tool_calls" if call else "stop"))
        usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
        events.append({**chunk({}), "choices": [], "usage": usage})
        return [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"]


class Responses:
    """OpenAI Responses."""

    base = "/v1"

    @staticmethod
    def is_answered(path):
        return path.endswith("/responses")

    is_stream, model = Chat.is_stream, Chat.model

    @staticmethod
    def offered(body):
        groups = [(None, body.get("tools") or [])]
        items = body["input"] if isinstance(body.get("input"), list) else []
        # Where Codex has them for the models of its catalogue.
        groups += [(None, item["tools"]) for item in items if item.get("type") == "additional_tools"]
        groups += [(tool["name"], tool["tools"]) for _, tools in groups for tool in tools if tool["type"] == "namespace"]
        kinds = {"function": lambda tool: tool.get("parameters") or {}, "custom": lambda _: None}
        return [Tool(tool["name"], kinds[tool["type"]](tool), group) for group, tools in groups for tool in tools if tool["type"] in kinds]

    @staticmethod
    def results(body):
        called, results = {}, []
        for item in body["input"] if isinstance(body.get("input"), list) else []:
            if item.get("type") in ("function_call", "custom_tool_call"):
                called[item["call_id"]] = item["name"]
            if item.get("type") in ("function_call_output", "custom_tool_call_output") and item.get("call_id") in called:
                results.append((called[item["call_id"]], text_of(item["output"])))
        return results

    @staticmethod
    def signs(body):
        return "reasoning.encrypted_content" in (body.get("include") or [])

    @staticmethod
    def tokens(body):
        return [item.get("encrypted_content") for item in body["input"] if item.get("type") == "reasoning"]

    @staticmethod
    def response(model, output, status="completed"):
        usage = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 5}
        usage |= {"output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 14}
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": model,
            "output": output,
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": usage if status == "completed" else None,
        }

    @staticmethod
    def message(text):
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}

    @classmethod
    def whole(cls, model, text):
        return cls.response(model, [cls.message(text)])

    @classmethod
    def stream(cls, request, model, text, call):
        part = {"type": "summary_text", "text": THOUGHT}
        thought = {"id": "rs_1", "type": "reasoning", "summary": [part]}
        # It is complete only when the item is done.
        begun, done = ({"encrypted_content": token} if cls.signs(request.body) else {} for token in (TOKEN[:8], TOKEN))
        at = {"item_id": "rs_1", "output_index": 0, "summary_index": 0}
        running = cls.response(model, [], "in_progress")
        events = [("response.created", {"response": running}), ("response.in_progress", {"response": running})]
        events.append(("response.output_item.added", {"output_index": 0, "item": {**thought, **begun, "summary": []}}))
        events.append(("response.reasoning_summary_part.added", {**at, "part": {**part, "text": ""}}))
        events += [("response.reasoning_summary_text.delta", {**at, "delta": piece}) for piece in pieces(THOUGHT)]
        events.append(("response.reasoning_summary_text.done", {**at, "text": THOUGHT}))
        events.append(("response.reasoning_summary_part.done", {**at, "part": part}))
        thought |= done
        events.append(("response.output_item.done", {"output_index": 0, "item": thought}))
        if call:
            tool, arguments = call
            is_text = isinstance(arguments, str)
            kind, field, event = ("custom_tool_call", "input", "custom_tool_call_input") if is_text else ("function_call", "arguments", "function_call_arguments")
            arguments = arguments if is_text else json.dumps(arguments)
            item = {"id": "fc_1", "type": kind, "status": "completed", "call_id": "call_up_1", "name": tool.name, field: arguments}
            if tool.group:
                item["namespace"] = tool.group
            at = {"item_id": "fc_1", "output_index": 1}
            events.append(("response.output_item.added", {"output_index": 1, "item": {**item, "status": "in_progress", field: ""}}))
            events += [(f"response.{event}.delta", {**at, "delta": piece}) for piece in pieces(arguments)]
            events.append((f"response.{event}.done", {**at, field: arguments}))
        else:
            item = cls.message(text)
            at = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
            part = item["content"][0]
            events.append(("response.output_item.added", {"output_index": 1, "item": {**item, "status": "in_progress", "content": []}}))
            events.append(("response.content_part.added", {**at, "part": {**part, "text": ""}}))
            events += [("response.output_text.delta", {**at, "delta": piece, "logprobs": []}) for piece in pieces(text)]
            events.append(("response.output_text.done", {**at, "text": text, "logprobs": []}))
            events.append(("response.content_part.done", {**at, "part": part}))
        events.append(("response.output_item.done", {"output_index": 1, "item": item}))
        events.append(("response.completed", {"response": cls.response(model, [thought, item])}))
        return [named(kind, {"type": kind, "sequence_number": number, **event}) for number, (kind, event) in enumerate(events)]


class Anthropic:
    """Anthropic Messages."""

    base = ""

    @staticmethod
    def is_answered(path):
        return path.endswith("/messages")

    is_stream, model = Chat.is_stream, Chat.model

    @staticmethod
    def offered(body):
        return [Tool(tool["name"], tool["input_schema"]) for tool in body.get("tools") or [] if "input_schema" in tool]

    @staticmethod
    def blocks(body):
        return [block for message in body.get("messages", []) if isinstance(message["content"], list) for block in message["content"]]

    @classmethod
    def results(cls, body):
        called, results = {}, []
        for block in cls.blocks(body):
            if block["type"] == "tool_use":
                called[block["id"]] = block["name"]
            if block["type"] == "tool_result" and block["tool_use_id"] in called:
                results.append((called[block["tool_use_id"]], text_of(block.get("content"))))
        return results

    @staticmethod
    def signs(body):
        return (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")

    @classmethod
    def tokens(cls, body):
        return [block.get("signature") for block in cls.blocks(body) if block["type"] == "thinking"]

    @staticmethod
    def message(model, content, stop):
        usage = {"input_tokens": 9, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
        message = {"id": "msg_up_1", "type": "message", "role": "assistant", "model": model, "content": content}
        return {**message, "stop_reason": stop, "stop_sequence": None, "usage": usage}

    @classmethod
    def whole(cls, model, text):
        return cls.message(model, [{"type": "text", "text": text}], "end_turn")

    @classmethod
    def stream(cls, request, model, text, call):
        def block(index, start, deltas):
            yield "content_block_start", {"index": index, "content_block": start}
            for delta in deltas:
                yield "content_block_delta", {"index": index, "delta": delta}
            yield "content_block_stop", {"index": index}

        events = [("message_start", {"message": cls.message(model, [], None)}), ("ping", {})]
        index = 0
        if cls.signs(request.body):
            thinking = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(THOUGHT)]
            thinking.append({"type": "signature_delta", "signature": TOKEN})
            events += block(0, {"type": "thinking", "thinking": "", "signature": ""}, thinking)
            index = 1
        if call:
            tool, arguments = call
            start = {"type": "tool_use", "id": "toolu_up_1", "name": tool.name, "input": {}}
            events += block(index, start, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(json.dumps(arguments))])
        else:
            events += block(index, {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces(text)])
        stop = {"stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None}
        events.append(("message_delta", {"delta": stop, "usage": {"output_tokens": 5}}))
        events.append(("message_stop", {}))
        return [named(kind, {"type": kind, **event}) for kind, event in events]


class Gemini:
    """Gemini generateContent."""

    base = ""

    @staticmethod
    def is_answered(path):
        return path.endswith((":generateContent", ":streamGenerateContent"))

    @staticmethod
    def is_stream(request):
        return ":streamGenerateContent" in request.path

    @staticmethod
    def model(request):
        return request.path.rpartition("/models/")[2].partition(":")[0]

    @staticmethod
    def offered(body):
        declared = [declared for tool in body.get("tools") or [] for declared in tool.get("functionDeclarations") or []]
        return [Tool(tool["name"], tool.get("parametersJsonSchema") or tool.get("parameters") or {}) for tool in declared]

    @staticmethod
    def parts(body):
        return [part for content in body.get("contents", []) for part in content.get("parts", [])]

    @classmethod
    def results(cls, body):
        called, results = [], []
        for part in cls.parts(body):
            if "functionCall" in part:
                called.append(part["functionCall"]["name"])
            answer = part.get("functionResponse")
            if answer and answer["name"] in called:
                results.append((answer["name"], json.dumps(answer["response"], ensure_ascii=False)))
        return results

    @staticmethod
    def signs(_body):
        return True

    @classmethod
    def tokens(cls, body):
        return [part.get("thoughtSignature") for part in cls.parts(body) if "functionCall" in part]

    @staticmethod
    def answer(model, parts, finish="STOP"):
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        usage = {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 14}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": "up-1"}

    @classmethod
    def whole(cls, model, text):
        return cls.answer(model, [{"text": text}])

    @classmethod
    def stream(cls, request, model, text, call):
        thinking = request.body.get("generationConfig", {}).get("thinkingConfig", {})
        events = [cls.answer(model, [{"text": THOUGHT, "thought": True}], None)] if thinking.get("includeThoughts") else []
        if call:
            tool, arguments = call
            part = {"functionCall": {"name": tool.name, "args": arguments}, "thoughtSignature": TOKEN}
            events.append(cls.answer(model, [part]))
        else:
            events += [cls.answer(model, [{"text": piece}], None) for piece in pieces(text)]
            events.append(cls.answer(model, [{"text": "", "thoughtSignature": TOKEN}]))
        return [f"data: {json.dumps(event)}\r\n\r\n" for event in events]


DIALECTS = {"openai_chat": Chat, "openai_responses": Responses, "anthropic": Anthropic, "gemini": Gemini}


def pieces(text, size=7):
    return [text[at : at + size] for at in range(0, len(text), size)]


def named(kind, event):
    return f"event: {kind}\ndata: {json.dumps(event)}\n\n"


def text_of(content):
    """The text of a content: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content or [])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider = None

    def log_message(self, *_):
        pass

    def answer(self):
        raw = self.rfile.read(int(self.headers.get("content-length") or 0)) if "chunked" not in self.headers.get("transfer-encoding", "") else self.chunks()
        if self.headers.get("content-encoding") == "gzip":
            raw = gzip.decompress(raw)
        request = Request(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, raw)
        provider, path = self.provider, urlsplit(self.path).path
        provider.requests.append(request)
        dialect = provider.dialect
        if self.command != "POST" or not dialect.is_answered(path) or not isinstance(request.body, dict):
            # What is asked beside it (models, counts) a provider need not know.
            return self.send(404, {"error": {"type": "not_found_error", "message": f"{self.command} {path} is not known here"}})
        text, call = provider.reply(request.body)
        model = dialect.model(request)
        if dialect.is_stream(request):
            return self.stream(dialect.stream(request, model, text, call))
        return self.send(200, dialect.whole(model, text))

    def chunks(self):
        raw = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            raw += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return raw

    def send(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def stream(self, events):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            data = event.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_OPTIONS = answer


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """A client that went away is its own affair."""


class Provider:
    """A running provider of one dialect: `with Provider("anthropic") as provider: provider.url`."""

    def __init__(self, name):
        self.name, self.dialect = name, DIALECTS[name]
        self.requests, self.script = [], Script({}, "")

    def __enter__(self):
        self.server = Server(("127.0.0.1", 0), type("ProviderHandler", (Handler,), {"provider": self}))
        self.server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = f"http://127.0.0.1:{self.server.server_port}{self.dialect.base}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def play(self, script):
        """From now on this script; what came in before is forgotten."""
        self.requests, self.script = [], script

    def reply(self, body):
        """(text, call): a call (tool, arguments), or None for the text."""
        if self.dialect.results(body):
            return self.script.word, None
        offered = [(self.script.wants(tool.name), tool) for tool in self.dialect.offered(body)]
        # The script's order counts, not the request's.
        for own, arguments in self.script.calls.items():
            for wanted, tool in offered:
                if wanted == own:
                    return self.script.word, (tool, tool.call(arguments))
        return self.script.word, None
