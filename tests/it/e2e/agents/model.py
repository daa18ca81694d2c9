"""A model endpoint that follows a script: Messages, Responses, Chat Completions and generateContent,
whole or streamed. The first part of a path is the scene; what was asked is told on standard output."""
import http.server, json, re, socketserver, sys, threading, time, urllib.parse

WORK = {
    # What the model does, turn by turn, and what it says at last.
    "commit": ["cat readme.md", "echo changed >> readme.md && git commit -qam 'docs: change'"],
    "edit": ["echo changed >> readme.md"],
    "stall": ["echo tried >> readme.md", "true"],
    "escape": [
        "echo x >/agent/entry; echo x >/agent/prompt.md; ls /run/docker.sock; cat /agent/git/../../state;"
        " curl -sS -m 5 http://denied.test/; echo tried >> readme.md"
    ],
}
SHELLS = re.compile(r"^(bash|shell|shell_command|exec_command|run_shell_command)$", re.I)
EDIT = "readme.md\n<<<<<<< SEARCH\none\n=======\none\nchanged\n>>>>>>> REPLACE\n"
lock = threading.Lock()
forever = threading.Event()
answered = set()


def tell(**what):
    with lock:
        print(json.dumps(what), flush=True)


def shell_call(tools, command):
    """The name and arguments by which a client's own tool runs a command."""
    for name, schema in tools:
        if SHELLS.match(name):
            known = (schema or {}).get("properties", {})
            key = "cmd" if "cmd" in known else "command"
            is_list = known.get(key, {}).get("type") == "array"
            arguments = {key: ["bash", "-c", command] if is_list else command}
            for further in (schema or {}).get("required", []):
                arguments.setdefault(further, "a step" if further == "description" else ".")
            return name, arguments
    return None


class Model(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, kind="application/json", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def events(self, events, named=True):
        """A stream; one that is cut ends in the middle of its second event."""
        text = ""
        for event in events:
            name = f"event: {event['type']}\n" if named else ""
            text += f"{name}data: {json.dumps(event)}\n\n"
        if not named and not self.is_gemini:
            text += "data: [DONE]\n\n"
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.scene == "cut" else body)
        self.close_connection = True

    def do_GET(self):
        tell(path=self.path)
        if "Upgrade" in self.headers:
            # Codex goes on without a WebSocket then.
            return self.answer(426, {"error": {"message": "no WebSocket here"}})
        self.answer(200, {"data": [], "models": [], "object": "list"})

    def do_HEAD(self):
        self.answer(200, b"")

    def do_POST(self):
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urllib.parse.urlsplit(self.path).path
        _, self.scene, rest = path.split("/", 2)
        self.is_gemini = ":" in rest
        self.asked = json.loads(asked or b"{}")
        key = self.headers.get("x-api-key") or self.headers.get("x-goog-api-key") or ""
        key = key or (self.headers.get("authorization") or "").removeprefix("Bearer ")
        tell(path=self.path, key=key, agent=self.headers.get("user-agent"), asked=self.asked)
        if self.failed():
            return
        if rest.endswith("/count_tokens"):
            self.answer(200, {"input_tokens": 10})
        elif rest.endswith("messages"):
            self.speak_messages()
        elif rest.endswith("responses"):
            self.speak_responses()
        elif rest.endswith("chat/completions"):
            self.speak_completions()
        elif self.is_gemini:
            self.speak_generate(rest)
        else:
            self.answer(404, {"error": {"message": f"no {path}", "type": "not_found_error"}})

    def failed(self):
        failures = {
            "unauthorized": (401, "authentication_error", "invalid x-api-key", "UNAUTHENTICATED"),
            "limited": (429, "rate_limit_error", "This request would exceed your rate limit", "RESOURCE_EXHAUSTED"),
            # All of a subscription is used: Anthropic's, OpenAI's.
            "spent": (429, "rate_limit_error", "This request would exceed your account's rate limit", ""),
            "plan": (429, "usage_limit_reached", "The usage limit has been reached", ""),
            "broken": (500, "api_error", "internal", "INTERNAL"),
        }
        if self.scene not in failures:
            return False
        code, kind, message, status = failures[self.scene]
        error = {"type": kind, "message": message, "code": code if self.is_gemini else kind}
        error["status"] = status
        headers = {}
        if self.scene == "limited" and "messages" in self.path:
            headers = {"retry_after": "1"}
        elif self.scene == "limited":
            # As the others say it.
            error["message"] += ". Please retry in 1.5s." if self.is_gemini else ". Please try again in 1.5s."
        elif self.scene == "plan":
            error["resets_at"] = int(time.time()) + 7200
        elif self.scene == "spent":
            word = "anthropic_ratelimit_unified_"
            headers = {word + "status": "rejected", word + "representative_claim": "five_hour",
                       word + "reset": str(int(time.time()) + 30), "x_should_retry": "false"}
        self.answer(code, {"type": "error", "error": error}, **headers)
        return True

    def is_answered_again(self, tools):
        """Whether a client without tools, which tells nothing of its answers, had one of this scene's before."""
        if tools:
            return False
        client = self.scene, (self.headers.get("user-agent") or "").split("/")[0]
        with lock:
            was = client in answered
            answered.add(client)
        return was

    def step(self, done, tools):
        """The next call, or what is said at last; nothing, where the model does not answer any more."""
        again = self.is_answered_again(tools)
        if self.scene == "hang" or self.scene == "stall" and (done > 1 or again):
            forever.wait()
        if self.scene == "endless":
            return shell_call(tools, "true"), "go on"
        work = WORK.get(self.scene, WORK["commit"])
        if "Go further." in json.dumps(self.asked):
            work = [*work, "echo further >> readme.md"]
        call = shell_call(tools, work[done]) if done < len(work) else None
        return call, "All is done."

    def speak_messages(self):
        tools = [(t["name"], t.get("input_schema")) for t in self.asked.get("tools", [])]
        blocks = [b for m in self.asked["messages"] for b in m["content"] if isinstance(b, dict)]
        done = sum(b.get("type") == "tool_result" for b in blocks)
        call, text = self.step(done, tools)
        if not tools:
            text = EDIT
        content = [{"type": "text", "text": text}]
        if call:
            content = [{"type": "tool_use", "id": f"toolu_{done}", "name": call[0], "input": call[1]}]
        usage = {"input_tokens": 100, "output_tokens": 10}
        message = {
            "id": f"msg_{done}", "type": "message", "role": "assistant", "model": self.asked["model"],
            "content": content, "stop_reason": "tool_use" if call else "end_turn",
            "stop_sequence": None, "usage": usage,
        }
        if not self.asked.get("stream"):
            return self.answer(200, message)
        events = [{"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}]
        start = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": text}
        if call:
            start = {**content[0], "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(call[1])}
        events += [
            {"type": "content_block_start", "index": 0, "content_block": start},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "usage": usage,
             "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None}},
            {"type": "message_stop"},
        ]
        self.events(events)

    def speak_responses(self):
        tools = [(t.get("name", t["type"]), t.get("parameters")) for t in self.asked.get("tools", [])]
        inputs = self.asked.get("input", [])
        done = sum(i.get("type", "").endswith("call_output") for i in inputs if isinstance(i, dict))
        call, text = self.step(done, tools)
        if call:
            item = {"type": "function_call", "id": f"fc_{done}", "call_id": f"call_{done}",
                    "name": call[0], "arguments": json.dumps(call[1]), "status": "completed"}
        else:
            item = {"type": "message", "id": f"msg_{done}", "role": "assistant", "status": "completed",
                    "content": [{"type": "output_text", "text": text, "annotations": []}]}
        usage = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110,
                 "input_tokens_details": {"cached_tokens": 0},
                 "output_tokens_details": {"reasoning_tokens": 0}}
        response = {"id": f"resp_{done}", "object": "response", "created_at": 1, "status": "completed",
                    "model": self.asked["model"], "output": [item], "usage": usage}
        if not self.asked.get("stream"):
            return self.answer(200, response)
        begun = {**response, "status": "in_progress", "output": [], "usage": None}
        events = [
            {"type": "response.created", "response": begun},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
        ]
        if not call:
            events.append({"type": "response.output_text.delta", "item_id": item["id"],
                           "output_index": 0, "content_index": 0, "delta": text})
        events += [
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": response},
        ]
        self.events([{**event, "sequence_number": at} for at, event in enumerate(events)])

    def speak_completions(self):
        tools = [(t["function"]["name"], t["function"].get("parameters"))
                 for t in self.asked.get("tools", [])]
        done = sum(m["role"] == "tool" for m in self.asked["messages"])
        call, text = self.step(done, tools)
        if "mini" in json.dumps(tools) or call is None and tools and "COMPLETE" in json.dumps(self.asked):
            call = call or shell_call(tools, "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT")
        if not tools:
            text = EDIT
        message = {"role": "assistant", "content": None if call else text}
        if call:
            function = {"name": call[0], "arguments": json.dumps(call[1])}
            message["tool_calls"] = [{"id": f"call_{done}", "type": "function", "function": function}]
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        reason = "tool_calls" if call else "stop"
        body = {"id": f"chat_{done}", "created": 1, "model": self.asked["model"]}
        if not self.asked.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": reason}
            whole = {**body, "object": "chat.completion", "choices": [choice], "usage": usage}
            return self.answer(200, whole)
        for at, tool_call in enumerate(message.get("tool_calls", [])):
            tool_call["index"] = at
        chunk = {**body, "object": "chat.completion.chunk"}
        self.events([
            {**chunk, "choices": [{"index": 0, "delta": message, "finish_reason": None}]},
            {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
            {**chunk, "choices": [], "usage": usage},
        ], named=False)

    def speak_generate(self, rest):
        declared = [d for t in self.asked.get("tools", []) for d in t.get("functionDeclarations", [])]
        tools = [(d["name"], d.get("parametersJsonSchema") or d.get("parameters")) for d in declared]
        parts = [p for c in self.asked.get("contents", []) for p in c.get("parts", [])]
        done = sum("functionResponse" in p for p in parts)
        call, text = self.step(done, tools)
        if "responseJsonSchema" in self.asked.get("generationConfig", {}):
            # Which model is to answer; it is asked of another one before.
            call, text = None, '{"complexity_reasoning": "simple", "complexity_score": 10}'
        part = {"functionCall": {"name": call[0], "args": call[1]}} if call else {"text": text}
        candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
        usage = {"promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110}
        body = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m"}
        if "streamGenerateContent" in rest:
            return self.events([body], named=False)
        self.answer(200, body)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128


with Server(("", int(sys.argv[1])), Model) as server:
    tell(port=server.server_address[1])
    server.serve_forever()
