"""A web server on this machine that fails as real ones do."""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web:
    """Files by path, and how they are served.

    Args:
        drops: after how many bytes of its answer each request is cut off, in turn; then none is.
        ranges: whether requests for a part are answered with that part.
        careless: whether it gives a part of another version too.
        start: where a part begins, other than where it was asked for.
        etag, modified: what the server says of the version; None: nothing.
        chunked: whether the length is not said.
        statuses: answers without a file, in turn, before anything else.
        silent: seconds before it answers.
        stops: after how many bytes of its answer it falls silent, with the connection open.
    """

    def __init__(self, files, **how):
        self.files = files
        self.how = {"drops": [], "ranges": True, "careless": False, "start": None, "etag": '"1"', "modified": None}
        self.how |= {"chunked": False, "statuses": [], "silent": 0, "stops": None, "kind": "application/json"} | how
        self.asked = []  # the Range of each request
        self.sent = 0  # bytes of files
        self.closing = threading.Event()

    def answer(self, request):
        how = self.how
        self.asked.append(request.headers.get("Range"))
        time.sleep(how["silent"])
        status = how["statuses"].pop(0) if how["statuses"] else 200
        body = self.files.get(request.path)
        if body is None or status != 200:
            request.send_error(404 if body is None else status)
            return
        headers = {"ETag": how["etag"], "Last-Modified": how["modified"], "Content-Type": how["kind"]}
        version = how["etag"] or how["modified"]
        same = how["careless"] or request.headers.get("If-Range") == version
        span = self.asked[-1] if how["ranges"] and same else None
        if span:
            first = int(span.removeprefix("bytes=").rstrip("-")) if how["start"] is None else how["start"]
            if first >= len(body):
                status, headers["Content-Range"], body = 416, f"bytes */{len(body)}", b""
            else:
                status, headers["Content-Range"] = 206, f"bytes {first}-{len(body) - 1}/{len(body)}"
                body = body[first:]
        headers |= {"Transfer-Encoding": "chunked"} if how["chunked"] else {"Content-Length": str(len(body))}
        request.send_response(status)
        for name, value in headers.items():
            if value is not None:
                request.send_header(name, value)
        request.end_headers()
        if how["stops"] is not None:
            request.wfile.write(body[: how["stops"]])
            self.closing.wait(60)
            return
        cut = how["drops"].pop(0) if how["drops"] else None
        part = body[:cut]
        self.sent += len(part)
        if how["chunked"]:
            request.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if part else b"")
            part = b"0\r\n\r\n" if cut is None else b""
        request.wfile.write(part)


@contextlib.contextmanager
def serve(files, **how):
    """Serve files, by path, and yield (address, Web)."""
    web = Web(files, **how)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.close_connection = True
            with contextlib.suppress(ConnectionError):
                web.answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", web
    finally:
        web.closing.set()
        server.shutdown()
        server.server_close()
