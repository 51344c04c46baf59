"""What a service answers: typed outputs with their evidence, streams, histories from the store."""

import json

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import TypeAdapter

from programs.data.dataset import personas
from programs.serve.schemas import Schemas
from programs.serve.tracing import Tracing, configured
from programs.tasks.lamp2 import LABELS, TASK
from programs.tasks.lamp3 import TASK as LAMP3
from tests.programs.serve.running import ASKED, ITEMS, QUESTION, ask, problem, right, serving


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with serving(store=f"sqlite:///{tmp_path_factory.mktemp('store')}/h.sqlite") as client:
        yield client


def test_an_answer_has_outputs_and_what_they_rest_on(client):
    answer = ask(client).json()
    assert len(answer.pop("id")) == 32
    assert answer == {
        "program": "lamp2",
        "outputs": {"tag": "romance"},
        "evidence": [{"item": "m7", "quote": "a lighthouse"}],
        "preferences": [{"statement": "lighthouses are sad", "items": ["m7"], "label": "romance"}],
        "violations": [],
        "warnings": [],
        "usage": {"calls": 1, "prompt_tokens": 10, "completion_tokens": 5},
    }


def test_openapi_shows_the_labels_and_answers_are_as_it_says(client):
    schema = client.get("/openapi.json").json()
    assert schema["openapi"].startswith("3.1")
    parts = schema["components"]["schemas"]
    assert parts["Lamp2Outputs"]["properties"]["tag"]["enum"] == [*LABELS]
    assert parts["Lamp2Inputs"]["properties"]["description"]["description"] == "what the movie is about"
    assert {"description", "tag", "id", "date"} == {*parts["Lamp2Item"]["properties"]}
    refs = json.dumps(schema).split('"$ref": "#/components/schemas/')[1:]
    assert {ref.partition('"')[0] for ref in refs} <= parts.keys()
    answer = client.service.programs["lamp2"].schemas.answer
    TypeAdapter(answer).validate_json(ask(client).content)


def test_programs_are_listed(client):
    (listed,) = client.get("/v1/programs").json()
    assert (listed["name"], listed["task"], listed["model"]) == ("lamp2", "lamp2", "scripted/s")
    assert listed["outputs"]["properties"]["tag"]["enum"] == [*LABELS]


def test_a_user_has_the_history_of_the_store(client):
    status, detail = problem(ask(client, {**QUESTION, "user": "ada"}))
    assert status == 404 and "the store has nothing of the user 'ada'" in detail
    added = client.post("/v1/users/ada/items", json={"program": "lamp2", "items": ITEMS})
    assert (added.status_code, added.json()) == (201, {"ids": ["m7"]})
    again = client.post("/v1/users/ada/items", json={"program": "lamp2", "items": ITEMS})
    assert again.status_code == 201  # an append may be repeated
    answer = ask(client, {**QUESTION, "user": "ada"}).json()
    assert answer["evidence"] == [{"item": "m7", "quote": "a lighthouse"}]
    assert client.delete("/v1/users/ada").json() == {"answers": 1, "items": 1}
    assert problem(ask(client, {**QUESTION, "user": "ada"}))[0] == 404


def test_unknown_users_may_be_answered(tmp_path):
    with serving(store=f"sqlite:///{tmp_path}/h.sqlite", unknown_users="answer") as client:
        answer = ask(client, {**QUESTION, "user": "ada"}).json()
    assert answer["evidence"] == [] and "the user has 0 items in the store" in answer["warnings"][0]


def test_a_stream_tells_of_an_unknown_user(client):
    response = ask(client, {**QUESTION, "user": "nobody", "stream": True})
    (event,) = events(response.text.strip())
    assert event[0] == "error" and event[1]["status"] == 404


def events(text):
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@pytest.mark.parametrize(
    ("body", "headers"), [({**ASKED, "stream": True}, {}), (ASKED, {"Accept": "text/event-stream"})]
)
def test_a_stream_ends_with_the_answer(client, body, headers):
    response = ask(client, body, headers=headers)
    assert response.headers["content-type"].startswith("text/event-stream")
    (*_, last) = events(response.text)
    assert last[0] == "answer" and last[1]["outputs"] == {"tag": "romance"}


def test_a_stream_ends_with_a_problem_where_the_model_fails():
    with serving(RuntimeError("secret words of a user")) as client:
        (event,) = events(ask(client, {**ASKED, "stream": True}).text)
    assert event[0] == "error" and event[1]["status"] == 500 and "secret" not in event[1]["detail"]


def test_unmet_checks_are_told():
    with serving(right(evidence='[{"item": "1", "quote": "a whale"}]')) as client:
        answer = ask(client).json()
        metrics = client.get("/metrics").text
    assert [violation["check"] for violation in answer["violations"]] == ["quoted"]
    assert answer["usage"]["calls"] == 3
    assert 'r2p_unmet_checks_total{check="quoted",program="lamp2"} 1.0' in metrics


def test_an_answer_that_cannot_be_read_is_a_bad_gateway():
    with serving("I would rather not.") as client:
        status, detail = problem(ask(client))
    assert status == 502 and "cannot be read (malformed)" in detail


@pytest.mark.parametrize("score", [5, "5", 5.0])
def test_a_label_may_be_a_number(score):
    schemas = Schemas("lamp3", LAMP3)
    body = {"inputs": {"review": "Good."}, "profile": [{"id": 1, "text": "Bad.", "score": score}]}
    profile = schemas.profile(schemas.request.model_validate(body).profile)
    assert [(item.id, item.label) for item in profile] == [("1", "5")]


def test_metrics_name_no_user(client):
    client.post("/v1/users/secret-name/items", json={"items": [{"description": "x"}]})
    metrics = client.get("/metrics").text
    assert 'r2p_requests_total{route="/v1/programs/lamp2",status="200"}' in metrics
    assert 'r2p_tokens_total{kind="completion",program="lamp2"}' in metrics
    assert "r2p_calls_in_flight 0.0" in metrics and "secret-name" not in metrics


def test_what_ships_is_served_on_the_pocket_model_and_streams_its_stages():
    example = personas(TASK, seed=0, limit=1).test[0]
    history = [{"id": item.id, "description": item.text, "tag": item.label} for item in example.profile]
    body = {"inputs": {"description": example.description}, "profile": history, "stream": True}
    with serving(tasks=[], own_model=True) as client:
        assert [*client.service.programs] == ["lamp1", "lamp2", "lamp3", "lamp4", "lamp5", "lamp7"]
        *stages, (last, answer) = events(ask(client, body).text)
    assert last == "answer" and answer["outputs"]["tag"] in LABELS
    assert [data["stage"] for _, data in stages][:2] == ["requirements", "evidence"]
    values = {data["stage"]: data["value"] for _, data in stages}
    assert values["evidence"] == answer["evidence"] and values["preferences"] == answer["preferences"]
    assert {entry["item"] for entry in answer["evidence"]} <= {item.id for item in example.profile}


def test_a_call_is_a_span_under_the_trace_of_its_request(monkeypatch):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("programs.serve.service.configured", lambda: Tracing(provider))
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with serving() as client:
        assert ask(client, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}).status_code == 200
        (span,) = exporter.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == trace
    assert dict(span.attributes) == {
        "r2p.program": "lamp2",
        "r2p.calls": 1,
        "r2p.prompt_tokens": 10,
        "r2p.completion_tokens": 5,
        "r2p.violations": 0,
    }


def test_tracing_needs_an_endpoint(monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    with configured().span("lamp2", {}) as set_attributes:
        set_attributes({"calls": 1})
