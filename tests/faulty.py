"""A server that fails as real servers, and the proxies before them, fail. It speaks OpenAI's chat protocol."""

import json
import socket
import struct
import threading
import time

FAULTS = (
    "429",
    "500",
    "502",
    "400",
    "reset",  # the connection is reset before an answer
    "short body",  # JSON that is cut off, though the length is right
    "html",  # a proxy's page, with status 200
    "garbage",  # bytes that are no text, with status 200
    "hang",  # nothing at all
    "headers",  # headers, then nothing
    "drip",  # a byte of the answer every tenth of a second, for ever
    "endless",  # an answer without an end, as fast as it goes
    "dies",  # the connection breaks within the body
    "retry-after",  # 429, and the client is to wait for a day
)
_DAY = 86_400
_OVER = OSError("the server is stopped")


class FaultyServer:
    """A server on a free port, in threads of its own.

    Args:
        fault: one of FAULTS, "" for a right answer, or a function from the number of the request, from 0, to one.
        text: what the model answers, or a function of the request's body.

    Attributes:
        requests: the bodies of all requests but GETs, which meet the fault of the next one; without one they get a 404.
        open: connections that wait for their clients now.
    """

    def __init__(self, fault="", text="[[ ## answer ## ]]\n4\n\n[[ ## completed ## ]]"):
        self.fault = fault if callable(fault) else lambda number: fault
        self.text = text if callable(text) else lambda body: text
        self.requests, self.open = [], 0
        self._lock, self._over = threading.Lock(), threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.api_base = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._over.set()
        self._socket.close()

    def hung_up(self, seconds=2.0):
        """Whether all clients hang up within some seconds."""
        until = time.monotonic() + seconds
        while self.open and time.monotonic() < until:
            time.sleep(0.01)
        return not self.open

    def _accept(self):
        while not self._over.is_set():
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with self._lock:
            self.open += 1
        try:
            with client, client.makefile("rb") as reader:
                while (request := _read(reader)) is not None:
                    method, body = request
                    with self._lock:
                        number = len(self.requests)
                        if method != "GET":
                            self.requests.append(body)
                    fault = self.fault(number)
                    self._answer(client, "404" if method == "GET" and not fault else fault, body)
        except OSError:
            pass
        finally:
            with self._lock:
                self.open -= 1

    def _answer(self, client, fault, body):
        completion = json.dumps(_completion(self.text(body) if body else "")).encode()
        match fault:
            case "":
                client.sendall(_head(len(completion)) + completion)
            case "429" | "500" | "502" | "400" | "404":
                _refuse(client, int(fault))
            case "retry-after":
                _refuse(client, 429, f"Retry-After: {_DAY}\r\n")
            case "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise _OVER
            case "short body":
                client.sendall(_head(len(completion) // 2) + completion[: len(completion) // 2])
            case "html":
                page = b"<html><body><h1>Please log in</h1></body></html>"
                client.sendall(_head(len(page), kind="text/html") + page)
            case "garbage":
                client.sendall(_head(64) + b"\x00\xff\xfe\x80" * 16)
            case "hang":
                self._wait(client)
            case "headers":
                client.sendall(_head(len(completion)))
                self._wait(client)
            case "drip":
                client.sendall(_head(_DAY))
                while not self._over.wait(0.1):
                    client.sendall(b" ")
            case "endless":
                client.sendall(_head(None))
                chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
                while not self._over.is_set():
                    client.sendall(chunk)
            case "dies":
                client.sendall(_head(len(completion)) + completion[: len(completion) // 2])
                raise _OVER
            case _:
                raise AssertionError(f"no such fault: {fault}")

    def _wait(self, client):
        """Wait until the client hangs up."""
        client.settimeout(0.05)
        while not self._over.is_set():
            try:
                if not client.recv(1024):
                    break
            except TimeoutError:
                continue
        raise _OVER


def _read(reader):
    """The method and the body of the next request on a connection; None if the client has hung up."""
    length = 0
    if not (start := reader.readline()):
        return None
    while (line := reader.readline().strip()) != b"":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return start.split()[0].decode(), json.loads(reader.read(length) or b"{}")


def _head(length, kind="application/json", status="200 OK", more=""):
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{size}\r\n{more}\r\n".encode()


def _refuse(client, status, more=""):
    error = json.dumps({"error": {"message": f"refused with {status}", "type": "error", "code": None}}).encode()
    client.sendall(_head(len(error), status=f"{status} Refused", more=more) + error)


def _completion(text):
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
