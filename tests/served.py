"""Servers that answer over HTTP as vLLM, llama.cpp and SGLang do, and write prepared texts."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from r2p_dspy.engines.served.probe import Address
from r2p_dspy.engines.served.servers.transport import Transport


class Hangs(str):
    """A text after which the model goes on for ever: the server waits for the client to hang up, and counts it."""


class Dies(str):
    """A text after which the connection breaks."""


class Ends(str):
    """A text after which the stream just ends, without an end of the answer."""


class Stalls(str):
    """A text after which nothing more comes."""


class Refuses(str):
    """A refusal in these words."""

    status = 400


class Overloaded(Refuses):
    """A server that has no time."""

    status = 503


def vllm_at(server, timeout=60.0):
    """The address of a running server that is known to be vLLM."""
    return Address(Transport(server.api_base, "none", timeout), "none", "vllm")


class LocalServer(ThreadingHTTPServer):
    """A server on a free port of this machine, which gives prepared answers: the last one again and again.

    Args:
        answers: one for each request that takes one.
        handler: answers the requests.
        port: another one than a free one.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answers, handler, port=0):
        super().__init__(("127.0.0.1", port), handler)
        self.texts = list(answers)
        self.requests, self.keys = [], set()  # (path, body) of every POST request
        self.looked_up = []  # the path of every GET request
        self.lock, self.over = threading.Lock(), threading.Event()
        self.api_base = f"http://127.0.0.1:{self.server_address[1]}/v1"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, request, address):
        pass  # clients hang up; that is what is tested

    def next(self):
        with self.lock:
            return self.texts[0] if len(self.texts) == 1 else self.texts.pop(0)

    def bodies(self, path):
        """The bodies of the requests to a path, in order."""
        return [body for at, body in self.requests if at == path]

    def stop(self):
        self.over.set()
        self.shutdown()
        self.server_close()


class JsonHandler(BaseHTTPRequestHandler):
    """Reads and writes JSON, and notes every request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each event of a stream waits for the last one's acknowledgement

    def log_message(self, *_):
        pass

    def do_GET(self):
        with self.server.lock:
            self.server.looked_up.append(self.path)
        self.look_up()

    def look_up(self):
        """Answer a GET request."""
        self.send_json({"detail": "Not Found"}, 404)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((self.path, body))
            self.server.keys.add(self.headers.get("Authorization"))
        self.answer(body)

    def send_json(self, answer, status=200):
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def begin_events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_event(self, event):
        """One event of a stream: a JSON value, or "[DONE]"."""
        self.send_chunk(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n")

    def send_chunk(self, text):
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def end_events(self):
        self.send_event("[DONE]")
        self.send_chunk("")


class ScriptedServer(LocalServer):
    """A server on a free port. A token is a character, its id the character's number; a chat begins with `opens`.

    Args:
        texts: one for each completion, the last one again and again; for chats also a function of the request.
        kind: which server it is: "vllm", "llamacpp" or "sglang".
        opens: what the chat template writes at the beginning of the assistant's turn.
        vllm: whether it has /tokenize.
        ids: whether it tells token ids.
        step: characters in one event of a stream.
        context: tokens that prompt and answer may have together.
        takes: what it can hold answers to: "grammar", "schema", both, or nothing. It says so where such servers do, and
            refuses the rest. Texts are written as they are prepared, whatever they are held to.
        renders: whether SGLang's /tokenize takes messages, as its newer versions do.
    """

    def __init__(
        self,
        *texts,
        kind="vllm",
        opens="<|assistant|>",
        vllm=True,
        ids=True,
        step=1,
        context=100_000,
        takes=("grammar", "schema"),
        renders=True,
        port=0,
    ):
        self.opens, self.vllm, self.ids, self.step, self.context, self.takes = opens, vllm, ids, step, context, takes
        self.hung_up, self.written, self.renders, self.owner = 0, 0, renders, kind
        self.completion_path = "/completion" if kind == "llamacpp" else "/v1/completions"
        super().__init__(texts, {"vllm": _Handler, "llamacpp": _LlamaCppHandler, "sglang": _SGLangHandler}[kind], port)

    def gone(self):
        with self.lock:
            self.hung_up += 1

    def completions(self):
        """The bodies of the completions."""
        return [body for body in self.bodies(self.completion_path) if body.get("stream")]

    def prompts(self):
        """The prompts of the completions, as text."""
        return ["".join(map(chr, body["prompt"])) for body in self.completions()]

    def hangs_up(self, times=1):
        """Whether clients hang up so often, within two seconds: the server hears of it a little later."""
        for _ in range(200):
            if self.hung_up >= times:
                break
            time.sleep(0.01)
        return self.hung_up == times


BOS = "\x01"  # the token with which llama.cpp and SGLang begin a prompt


class _Handler(JsonHandler):
    """vLLM."""

    def look_up(self):
        if self.path == "/v1/models" and self.server.vllm:
            card = {"id": "m", "object": "model", "created": 1, "owned_by": self.server.owner}
            self.send_json({"object": "list", "data": [{**card, "max_model_len": self.server.context}]})
        else:
            super().look_up()

    def answer(self, body):
        server = self.server
        if self.path == "/tokenize" and server.vllm:
            self.tokenize(body)
        elif self.path == "/v1/completions":
            self.complete(body)
        elif self.path == "/v1/chat/completions":
            text, stop = server.next(), body.get("stop") or []
            text = text(body) if callable(text) else text
            ends = [at for mark in stop if (at := text.find(mark)) >= 0]
            text = text[: min(ends)] if ends else str(text)
            usage = {"prompt_tokens": 3, "completion_tokens": len(text), "total_tokens": 3 + len(text)}
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            completion = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
            self.send_json({**completion, "usage": usage})
        else:
            self.send_json({"detail": "Not Found"}, 404)

    def complete(self, body):
        if (reason := self.refusal(body)) is not None:
            return self.send_json({"error": {"message": reason, "type": "BadRequestError", "code": 400}}, 400)
        try:
            return self._stream(body, self.server.next())
        except OSError:
            return self.server.gone()

    def refusal(self, body):
        """Why the server does not take what the answer is to be held to; None if it does."""
        asked = {"grammar" if "grammar" in held else "schema" for held in [body.get("structured_outputs")] if held}
        return "Grammar error: not supported by backend xgrammar" if asked - set(self.server.takes) else None

    def rendered(self, messages):
        return "".join(f"<|{message['role']}|>{message['content']}" for message in messages) + self.server.opens

    def tokenize(self, body):
        text = self.rendered(body["messages"]) if "messages" in body else body["prompt"]
        answer = {"tokens": [ord(letter) for letter in text], "max_model_len": self.server.context}
        self.send_json({**answer, "token_strs": list(text), "count": len(text)})

    def _stream(self, body, text):
        server = self.server
        if isinstance(text, Refuses):
            status = text.status
            return self.send_json({"error": {"message": str(text), "type": "BadRequestError", "code": status}}, status)
        self.begin_events()
        written = str(text)[: self.limit(body)]
        for at in range(0, len(written), server.step):
            piece = written[at : at + server.step]
            self.event(body, at + len(piece), text=piece, ids=[ord(letter) for letter in piece])
            with server.lock:
                server.written += len(piece)
        finish = "length" if len(written) < len(text) else "stop"
        if isinstance(text, Hangs) and finish == "stop":
            self.connection.settimeout(5)
            if self.connection.recv(1) == b"":
                server.gone()
            return None
        if isinstance(text, Stalls):
            server.over.wait(5)
        if isinstance(text, Dies | Stalls):
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if not isinstance(text, Ends):
            self.finish(body, written, finish)
        self.send_chunk("")
        return None

    def limit(self, body):
        return body["max_tokens"]

    def finish(self, body, written, finish):
        ends = [0] if finish == "stop" else []
        self.event(body, len(written) + len(ends), text="", ids=ends, finish=finish)
        self.event(body, len(written) + len(ends))
        self.send_event("[DONE]")

    def event(self, body, count, finish=None, text=None, ids=None):
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": count, "total_tokens": 0}
        choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
        if self.server.ids and body.get("return_token_ids"):
            choice["token_ids"] = ids
        choices = [] if text is None else [choice]
        event = {"id": "x", "object": "text_completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
        self.send_event(event)


class _SGLangHandler(_Handler):
    """SGLang: every text that it tokenizes begins with the model's special token, as in its newer versions."""

    def look_up(self):
        if self.path == "/get_server_info":  # newer versions call it /server_info too
            backend = "llguidance" if "grammar" in self.server.takes else "xgrammar" if self.server.takes else "none"
            self.send_json({"grammar_backend": backend, "context_length": None})
        else:
            super().look_up()

    def answer(self, body):
        if self.path == "/detokenize":
            self.send_json({"text": "".join(map(chr, body["tokens"]))})
        else:
            super().answer(body)

    def refusal(self, body):
        asked = {form for field, form in (("ebnf", "grammar"), ("json_schema", "schema")) if field in body}
        return "Failed to compile the grammar" if asked - set(self.server.takes) else None

    def tokenize(self, body):
        if "messages" in body and not self.server.renders:
            message = "1 validation error: {'loc': ('body', 'prompt'), 'msg': 'Field required'}"
            return self.send_json({"object": "error", "message": message, "type": "BadRequest", "code": 400}, 400)
        text = BOS + (self.rendered(body["messages"]) if "messages" in body else body["prompt"])
        tokens = [ord(letter) for letter in text]
        return self.send_json({"tokens": tokens, "count": len(text), "max_model_len": 10**30})


class _LlamaCppHandler(_Handler):
    """llama.cpp. A character beyond ASCII is of two tokens, of which an event tells the last one alone."""

    def look_up(self):
        if self.path == "/v1/models":
            card = {
                "id": "m",
                "object": "model",
                "created": 1,
                "owned_by": self.server.owner,
                "meta": {"n_ctx_train": 1},
            }
            self.send_json({"models": [], "object": "list", "data": [card]})
        elif self.path == "/props":
            self.send_json({"default_generation_settings": {"n_ctx": self.server.context}, "build_info": "b1-x"})
        else:
            super().look_up()

    def answer(self, body):
        if self.path == "/detokenize":
            self.send_json({"content": "".join(map(chr, body["tokens"]))})
        elif self.path == "/apply-template":
            self.send_json({"prompt": self.rendered(body["messages"])})
        elif self.path == "/completion" and not body.get("stream"):
            header = "%llguidance {}\nstart: %json " if "grammar" in self.server.takes else "root ::= "
            settings = {"grammar": f"{header}{body['json_schema']}"}
            self.send_json({"content": "", "tokens": [], "stop": True, "generation_settings": settings})
        elif self.path == "/completion":
            self.complete(body)
        elif self.path == "/v1/completions":
            self.send_json({"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}, 404)
        else:
            super().answer(body)

    def refusal(self, body):
        # A build without llguidance ends the server.
        assert "grammar" in self.server.takes or not body.get("grammar", "").startswith("%llguidance")
        return "cannot make a grammar" if "json_schema" in body and "schema" not in self.server.takes else None

    def tokenize(self, body):
        text = BOS * body.get("add_special", False) + body.get("content", "")
        self.send_json({"tokens": [ord(letter) for letter in text]})

    def limit(self, body):
        return body["n_predict"]

    def event(self, body, count, finish=None, text="", ids=()):
        self.written += text
        count += sum(letter > "\x7f" for letter in self.written)
        tokens = list(ids) if body.get("return_tokens") and self.server.ids else []
        usage = {"tokens_predicted": count, "tokens_evaluated": len(body["prompt"])}
        self.send_event({"index": 0, "content": text, "tokens": tokens, "stop": False, "id_slot": 0, **usage})

    def finish(self, body, written, finish):
        if finish == "stop":
            self.event(body, len(written) + 1, ids=[0])
        count = len(written) + sum(letter > "\x7f" for letter in written) + (finish == "stop")
        usage = {"tokens_predicted": count, "tokens_evaluated": len(body["prompt"])}
        ended = {"stop_type": "limit" if finish == "length" else "eos", "stopping_word": "", "truncated": False}
        settings = {"generation_settings": {"n_predict": body["n_predict"]}, "model": "m"}
        self.send_event({"index": 0, "content": "", "tokens": [], "stop": True, **usage, **ended, **settings})

    def _stream(self, body, text):
        self.written = ""
        return super()._stream(body, text)
