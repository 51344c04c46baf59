"""Downloads against a server that drops, changes, refuses and lies: a file comes whole, or not at all."""

import random
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from programs.data.lamp import download as module
from programs.data.lamp.download import DownloadError, Unreachable, download
from tests.web import serve

BODY = random.Random(0).randbytes(300_000)
HALF, ALL = len(BODY) // 2, len(BODY)
REST = f"bytes={HALF}-"
WHEN = "Mon, 01 Jan 2024 00:00:00 GMT"


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    monkeypatch.setattr(module, "_WAITS", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")


def nobody():
    """An address on this machine at which nobody is any more."""
    with serve({}) as (address, _):
        return address


def no_names(*_):
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def alone(target):
    """Whether nothing is left beside the target."""
    return [path.name for path in target.parent.iterdir()] == [target.name]


def test_whole_file_and_progress(tmp_path):
    reports = []
    with serve({"/f": BODY}) as (address, web):
        download(f"{address}/f", tmp_path / "f", progress=lambda done, total: reports.append((done, total)))
    assert (tmp_path / "f").read_bytes() == BODY and alone(tmp_path / "f")
    assert reports == sorted(reports) and reports[-1] == (ALL, ALL)
    assert web.asked == [None]


@pytest.mark.parametrize(
    ("why", "how", "ranges", "sent"),
    [
        ("drops", {"drops": [HALF, 1000]}, [None, REST, f"bytes={HALF + 1000}-"], ALL),
        ("drops, and then is away", {"drops": [HALF], "statuses": [200, 503]}, [None, REST, REST], ALL),
        ("knows when it was modified", {"drops": [HALF], "etag": None, "modified": WHEN}, [None, REST], ALL),
        ("ignores ranges", {"drops": [HALF], "ranges": False}, [None, REST], HALF + ALL),
        ("does not tell versions apart", {"drops": [HALF], "etag": None}, [None, None], HALF + ALL),
        ("promises only much the same", {"drops": [HALF], "etag": 'W/"1"'}, [None, None], HALF + ALL),
        ("goes on from elsewhere", {"drops": [HALF, 10], "start": 7}, [None, REST, None], HALF + 10 + ALL),
        ("does not tell the length", {"chunked": True}, [None], ALL),
        ("does not tell the length, and drops", {"chunked": True, "drops": [HALF]}, [None, REST], ALL),
    ],
)  # fmt: skip
def test_resumes_from_a_server_that(tmp_path, why, how, ranges, sent):
    with serve({"/f": BODY}, **how) as (address, web):
        download(f"{address}/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY and alone(tmp_path / "f")
    assert (web.asked, web.sent) == (ranges, sent)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drops=st.lists(st.integers(1, HALF), max_size=6), chunked=st.booleans(), etag=st.sampled_from(['"1"', None]))
def test_any_drops_give_the_same_file(tmp_path, drops, chunked, etag):
    (tmp_path / "f").unlink(missing_ok=True)
    with serve({"/f": BODY}, drops=drops, chunked=chunked, etag=etag) as (address, _):
        for _ in range(len(drops) + 1):
            try:
                download(f"{address}/f", tmp_path / "f")
                break
            except DownloadError:  # it has given up, where a drop took with it what was under way; it can be told again
                assert not (tmp_path / "f").exists()
    assert (tmp_path / "f").read_bytes() == BODY and alone(tmp_path / "f")


@pytest.fixture
def begun(tmp_path):
    """A download that broke off half-way."""
    with serve({"/f": BODY}, drops=[HALF], statuses=[200, 503, 503, 503]) as (address, _):
        with pytest.raises(DownloadError, match=rf"broke off after {HALF:,} bytes .*same command"):
            download(f"{address}/f", tmp_path / "f")
    assert not (tmp_path / "f").exists()
    return tmp_path / "f"


def test_later_call_continues(begun):
    with serve({"/f": BODY}) as (address, web):
        download(f"{address}/f", begun)
    assert begun.read_bytes() == BODY and alone(begun)
    assert web.asked == [REST]


def test_failed_calls_keep_the_part(begun):
    with pytest.raises(Unreachable):
        download(f"{nobody()}/f", begun)
    for statuses in ([404], [403], [429, 429, 429]):
        with serve({"/f": BODY}, statuses=statuses) as (address, _), pytest.raises(DownloadError):
            download(f"{address}/f", begun)
    with (
        serve({"/f": BODY}, kind="text/html", etag=None) as (address, _),
        pytest.raises(DownloadError, match="web page"),
    ):
        download(f"{address}/f", begun)
    with serve({"/f": BODY}) as (address, web):
        download(f"{address}/f", begun)
    assert begun.read_bytes() == BODY and web.sent == ALL - HALF


@pytest.mark.parametrize("careless", [False, True], ids=["", "and the server does not look"])
@pytest.mark.parametrize("new", [BODY[::-1], BODY[:100], BODY[HALF:], b""], ids=["others", "fewer", "half", "none"])
def test_changed_file_is_downloaded_anew(begun, new, careless):
    with serve({"/f": new}, etag='"2"', careless=careless) as (address, _):
        download(f"{address}/f", begun)
    assert begun.read_bytes() == new and alone(begun)


@pytest.mark.parametrize(("there", "sent"), [(BODY, 0), (BODY + b"more", ALL)], ids=["whole", "too long"])
def test_kill_before_the_last_step(begun, there, sent):
    begun.with_name("f.part").write_bytes(there)
    with serve({"/f": BODY}) as (address, web):
        download(f"{address}/f", begun)
    assert begun.read_bytes() == BODY and web.sent == sent and alone(begun)


@pytest.mark.parametrize(
    ("why", "how", "expected"),
    [
        ("no such file", {"files": {}}, "refused (HTTP 404"),
        ("not allowed", {"statuses": [403]}, "refused (HTTP 403"),
        ("a page that says so", {"files": {"/f": b"<html>404"}, "kind": "text/html; charset=utf-8"}, "a web page"),
        ("a page that does not", {"files": {"/f": b"\n <!DOCTYPE html>"}}, "a web page"),
        ("a server that is down", {"statuses": [503]}, "cannot be reached (HTTP 503"),
        ("a server that drops at once", {"drops": [0]}, "cannot be reached"),
    ],
)
def test_refusal_leaves_nothing(tmp_path, why, how, expected):
    with serve(**({"files": {"/f": BODY}} | how)) as (address, web):
        with pytest.raises(DownloadError) as caught:
            download(f"{address}/f", tmp_path / "f")
    assert expected in str(caught.value) and f"{address}/f" in str(caught.value)
    assert len(web.asked) == 1 and not (tmp_path / "f").exists()
    assert not any(path.stat().st_size for path in tmp_path.glob("*.part"))


def test_unreachable_server(tmp_path, monkeypatch):
    with pytest.raises(Unreachable, match=r"/f cannot be reached \(.*refused"):
        download(f"{nobody()}/f", tmp_path / "f")
    monkeypatch.setattr("socket.getaddrinfo", no_names)
    with pytest.raises(Unreachable, match=r"http://nowhere.invalid/f cannot be reached \(Name or service not known\)"):
        download("http://nowhere.invalid/f", tmp_path / "f")
    assert not any(tmp_path.iterdir())


def test_silent_server_times_out(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TIMEOUT", 0.1)
    with serve({"/f": BODY}, silent=1) as (address, _):
        with pytest.raises(Unreachable, match="timed out"):
            download(f"{address}/f", tmp_path / "f")


def test_file_that_fails_the_check_is_removed(tmp_path):
    def check(path):
        assert path.read_bytes() == BODY
        raise ValueError("no good")

    with serve({"/f": BODY}) as (address, _):
        with pytest.raises(ValueError, match="no good"):
            download(f"{address}/f", tmp_path / "f", check)
    assert not any(tmp_path.iterdir())


def test_unwritable_target(tmp_path):
    (tmp_path / "f.part").mkdir()
    with serve({"/f": BODY}) as (address, _):
        with pytest.raises(DownloadError, match=r"f.part cannot be written \(Is a directory\)"):
            download(f"{address}/f", tmp_path / "f")
