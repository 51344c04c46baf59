"""A server that behaves as real chat endpoints do: it refuses, filters, cuts off, thinks, and writes JSON unasked."""

import json
from dataclasses import dataclass, field, replace

from tests.served import JsonHandler, LocalServer

_FILTERED = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
    "Please modify your prompt and retry."
)


@dataclass(frozen=True)
class Reply:
    """What the endpoint answers to one request; made by its class methods.

    Args:
        content: the text of the answer, or None for `null`.
        finish: OpenAI's reason for the end of the answer.
        beside: other keys of the message, such as `reasoning_content`, `refusal` and `tool_calls`.
        reasoning_tokens: how many of the completion's tokens are a thought.
        counted: whether the answer tells its usage.
        status: of HTTP; an error's answer is `error`.
        error: the body of an error.
    """

    content: str | None = ""
    finish: str = "stop"
    beside: dict = field(default_factory=dict)
    reasoning_tokens: int = 0
    counted: bool = True
    status: int = 200
    error: object = None

    @classmethod
    def text(cls, text, thought=None, spelling="reasoning_content"):
        """A text, with a thought beside it: servers spell its key `reasoning_content` or `reasoning`."""
        if thought is None:
            return cls(text)
        return cls(text, beside={spelling: thought}, reasoning_tokens=len(thought.split()))

    @classmethod
    def json(cls, values, fenced=False):
        """A JSON object, as it is or in a fence with a sentence before it."""
        text = json.dumps(values)
        return cls(f"Here is the answer:\n\n```json\n{text}\n```" if fenced else text)

    @classmethod
    def xml(cls, values):
        """One element for each value."""
        return cls("\n".join(f"<{name}>{_written(value)}</{name}>" for name, value in values.items()))

    @classmethod
    def refusal(cls, text="I'm sorry, but I can't help with that."):
        """OpenAI's structured refusal: no content."""
        return cls(None, beside={"refusal": text})

    @classmethod
    def filtered(cls, text=""):
        """An answer that a content filter ended."""
        return cls(text, "content_filter")

    @classmethod
    def filtered_prompt(cls):
        """Azure's answer to a prompt that its filter stops: status 400."""
        error = {"message": _FILTERED, "type": None, "param": "prompt", "code": "content_filter", "status": 400}
        return cls(status=400, error={"error": error})

    @classmethod
    def cut(cls, text, thought=None):
        """An answer that the token limit cut off."""
        return replace(cls.text(text, thought), finish="length")

    @classmethod
    def no_room(cls, tokens=64):
        """No answer: a thought that the server does not show took all tokens of the limit."""
        return cls("", "length", reasoning_tokens=tokens)

    @classmethod
    def null(cls):
        """No content at all, and nothing in its place."""
        return cls(None)

    @classmethod
    def tool_call(cls, name="search", **arguments):
        """A call of a tool instead of a text."""
        call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        return cls(None, "tool_calls", {"tool_calls": [call]})

    @classmethod
    def http_error(cls, status, message="The server had an error while processing your request."):
        """An error of the server, with a body as OpenAI's; a `message` that is no str is the whole body."""
        named = {"error": {"message": message, "type": "error", "param": None, "code": None}}
        return cls(status=status, error=named if isinstance(message, str) else message)

    def without_usage(self):
        """The same reply from a server that does not count tokens."""
        return replace(self, counted=False)


class Endpoint(LocalServer):
    """A chat endpoint on a free port, `/v1/chat/completions`. A token is a word.

    Args:
        replies: a `Reply`, a text, or a function of the request that gives one, for each request; the last one again
            and again.

    Examples:
        >>> import dspy
        >>> with Endpoint("comedy") as endpoint:
        ...     lm = dspy.LM("openai/x", api_base=endpoint.api_base, api_key="none", cache=False)
    """

    def __init__(self, *replies):
        super().__init__(replies, _Handler)

    def __exit__(self, *error):
        self.stop()

    @property
    def asked(self):
        """How many requests came."""
        return len(self.requests)

    def prompts(self):
        """The messages of each request as one text."""
        bodies = self.bodies("/v1/chat/completions")
        return ["\n".join(_text(message["content"]) for message in body["messages"]) for body in bodies]


class _Handler(JsonHandler):
    def answer(self, body):
        if self.path != "/v1/chat/completions":
            return self.send_json({"detail": "Not Found"}, 404)
        reply = self.server.next()
        reply = reply(body) if callable(reply) else reply
        reply = Reply.text(reply) if isinstance(reply, str) else reply
        if reply.status != 200:
            return self.send_json(reply.error, reply.status)
        return self._stream(body, reply) if body.get("stream") else self.send_json(_completion(body, reply))

    def _stream(self, body, reply):
        self.begin_events()
        for key, value in {**reply.beside, "content": reply.content}.items():
            if value is not None:
                self.send_event(_chunk(body, {"role": "assistant", key: value}))
        self.send_event(_chunk(body, {}, reply.finish))
        if reply.counted and (body.get("stream_options") or {}).get("include_usage"):
            self.send_event({**_chunk(body, {}), "choices": [], "usage": _usage(body, reply)})
        self.end_events()


def _completion(body, reply):
    message = {"role": "assistant", "content": reply.content, **reply.beside}
    choice = {"index": 0, "message": message, "finish_reason": reply.finish, "logprobs": None}
    completion = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
    return {**completion, "usage": _usage(body, reply)} if reply.counted else completion


def _chunk(body, delta, finish=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": body["model"], "choices": [choice]}


def _usage(body, reply):
    read = sum(len(_text(message["content"]).split()) for message in body["messages"])
    written = len((reply.content or "").split()) + reply.reasoning_tokens
    details = {"completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens}}
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written, **details}


def _text(content):
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())


def _written(value):
    return value if isinstance(value, str) else json.dumps(value)
