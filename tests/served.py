"""A server that answers over HTTP as vLLM does, and writes prepared texts."""

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
    """A refusal in these words, with status 400."""


def vllm_at(server, timeout=60.0):
    """The address of a running server that is known to be vLLM."""
    return Address(Transport(server.api_base, "none", timeout), "none", "vllm")


class LocalServer(ThreadingHTTPServer):
    """A server on a free port of this machine, which gives prepared answers: the last one again and again.

    Args:
        answers: one for each request that takes one.
        handler: answers the requests.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answers, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.texts = list(answers)
        self.requests, self.keys = [], set()  # (path, body) of every request
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
        opens: what the chat template writes at the beginning of the assistant's turn.
        vllm: whether it has /tokenize.
        ids: whether it tells token ids.
        step: characters in one event of a stream.
        context: tokens that prompt and answer may have together.
    """

    def __init__(self, *texts, opens="<|assistant|>", vllm=True, ids=True, step=1, context=100_000):
        self.opens, self.vllm, self.ids, self.step, self.context = opens, vllm, ids, step, context
        self.hung_up, self.written = 0, 0
        super().__init__(texts, _Handler)

    def gone(self):
        with self.lock:
            self.hung_up += 1

    def prompts(self):
        """The prompts of the completions, as text."""
        return ["".join(map(chr, body["prompt"])) for body in self.bodies("/v1/completions")]

    def hangs_up(self, times=1):
        """Whether clients hang up so often, within two seconds: the server hears of it a little later."""
        for _ in range(200):
            if self.hung_up >= times:
                break
            time.sleep(0.01)
        return self.hung_up == times


class _Handler(JsonHandler):
    def answer(self, body):
        server = self.server
        if self.path == "/tokenize" and server.vllm:
            self._tokenize(body)
        elif self.path == "/v1/completions":
            try:
                self._stream(body, server.next())
            except OSError:
                server.gone()
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

    def _tokenize(self, body):
        if "messages" in body:
            turns = "".join(f"<|{message['role']}|>{message['content']}" for message in body["messages"])
            text = turns + self.server.opens
        else:
            text = body["prompt"]
        answer = {"tokens": [ord(letter) for letter in text], "max_model_len": self.server.context}
        self.send_json({**answer, "token_strs": list(text), "count": len(text)})

    def _stream(self, body, text):
        server = self.server
        if isinstance(text, Refuses):
            return self.send_json({"error": {"message": str(text), "type": "BadRequestError", "code": 400}}, 400)
        self.begin_events()
        written = str(text)[: body["max_tokens"]]
        for at in range(0, len(written), server.step):
            piece = written[at : at + server.step]
            self._event(body, at + len(piece), text=piece, ids=[ord(letter) for letter in piece])
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
            ends = [0] if finish == "stop" else []
            self._event(body, len(written) + len(ends), text="", ids=ends, finish=finish)
            self._event(body, len(written) + len(ends))
            self.send_event("[DONE]")
        self.send_chunk("")
        return None

    def _event(self, body, count, finish=None, text=None, ids=None):
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": count, "total_tokens": 0}
        choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
        if self.server.ids and body.get("return_token_ids"):
            choice["token_ids"] = ids
        choices = [] if text is None else [choice]
        event = {"id": "x", "object": "text_completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
        self.send_event(event)
