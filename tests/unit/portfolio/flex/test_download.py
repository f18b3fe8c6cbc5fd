"""Fetching a statement, against a real HTTP server on loopback."""

from __future__ import annotations

import logging
import random
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from portfolio.flex.download import FlexAccess, download
from strategies.exceptions import ConfigError, TransientError

TOKEN = "987650000canary"
STATEMENT = b'<FlexQueryResponse queryName="q" type="AF"><FlexStatements/></FlexQueryResponse>'
Answer = tuple[int, bytes]


def failed(code: int, text: str = "words") -> Answer:
    body = (
        f"<FlexStatementResponse timestamp='x'><Status>Warn</Status><ErrorCode>{code}</ErrorCode>"
        f"<ErrorMessage>{text}</ErrorMessage></FlexStatementResponse>"
    )
    return 200, body.encode()


def accepted(url: str = "") -> Answer:
    body = (
        "<FlexStatementResponse timestamp='x'><Status>Success</Status><ReferenceCode>4711</ReferenceCode>"
        f"<Url>{url}</Url></FlexStatementResponse>"
    )
    return 200, body.encode()


def _server(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """A server on a free port below the ephemeral ones, which other tests' clients take."""
    for _ in range(100):
        try:
            return ThreadingHTTPServer(("127.0.0.1", random.randint(20_000, 32_000)), handler)
        except OSError:
            continue
    pytest.fail("no free port")


class Service:
    """A Flex Web Service that gives prepared answers, one after the other; the last one stays."""

    def __init__(self) -> None:
        self.send: list[Answer] = [accepted()]
        self.get: list[Answer] = [(200, STATEMENT)]
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                address = urlsplit(self.path)
                service.asked.append((address.path, parse_qs(address.query)))
                answers = service.send if address.path.endswith("/SendRequest") else service.get
                status, body = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                if status in (301, 302):
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        self.server = _server(Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/flex"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def access(self, **changes: object) -> FlexAccess:
        values: dict[str, object] = {"deadline_s": 5.0, "first_wait_s": 0.01, "longest_wait_s": 0.05, **changes}
        return FlexAccess(TOKEN, "11", self.url, **values)  # type: ignore[arg-type]  # test values

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


@pytest.fixture
def service() -> Iterator[Service]:
    one = Service()
    yield one
    one.close()


def test_the_statement_is_asked_for_and_collected_by_its_reference(service: Service) -> None:
    assert download(service.access()) == STATEMENT
    assert [path for path, _ in service.asked] == ["/flex/SendRequest", "/flex/GetStatement"]
    assert service.asked[0][1] == {"t": [TOKEN], "q": ["11"], "v": ["3"]}
    assert service.asked[1][1] == {"t": [TOKEN], "q": ["4711"], "v": ["3"]}


@pytest.mark.parametrize("code", [1001, 1004, 1009, 1018, 1019, 1021])
def test_a_statement_that_is_not_ready_is_asked_for_again(service: Service, code: int) -> None:
    service.send = [failed(code), accepted()]
    service.get = [failed(code), failed(code), (200, STATEMENT)]
    assert download(service.access()) == STATEMENT
    assert len(service.asked) == 5


def test_a_busy_server_is_asked_again(service: Service) -> None:
    service.send = [(503, b"busy"), (429, b""), accepted()]
    assert download(service.access()) == STATEMENT


def test_the_deadline_ends_the_waiting_and_says_why(service: Service) -> None:
    service.get = [failed(1019, "Statement generation in progress.")]
    with pytest.raises(TransientError, match="1019: Statement generation in progress") as caught:
        download(service.access(deadline_s=1.5))
    assert caught.value.code == "flex_not_ready"


def test_a_stop_ends_the_waiting(service: Service) -> None:
    stop = threading.Event()
    stop.set()
    service.get = [failed(1019)]
    with pytest.raises(TransientError):
        download(service.access(deadline_s=60.0, first_wait_s=30.0), stop)


@pytest.mark.parametrize(
    ("code", "remedy"), [(1012, "new token"), (1014, "MATS_FLEX_QUERY"), (1015, "MATS_FLEX_TOKEN"), (1016, "1016")]
)
def test_a_refusal_is_final_and_names_the_remedy(service: Service, code: int, remedy: str) -> None:
    service.send = [failed(code)]
    with pytest.raises(ConfigError, match=remedy) as caught:
        download(service.access())
    assert caught.value.code == "flex_refused"
    assert len(service.asked) == 1


def test_a_web_page_instead_of_an_answer_is_named(service: Service) -> None:
    service.send = [(200, b"<!DOCTYPE html><html><body>Login</body></html>")]
    with pytest.raises(ConfigError, match="web page"):
        download(service.access())


def test_another_xml_is_no_answer(service: Service) -> None:
    service.send = [(200, b"<other/>")]
    with pytest.raises(ConfigError) as caught:
        download(service.access())
    assert caught.value.code == "flex_bad_answer"


@pytest.mark.parametrize("status", [302, 403, 404])
def test_redirects_are_not_followed_and_errors_are_final(service: Service, status: int) -> None:
    service.send = [(status, b"")]
    with pytest.raises(ConfigError, match=str(status)):
        download(service.access())
    assert len(service.asked) == 1


def test_an_answer_beyond_the_limit_is_refused(service: Service) -> None:
    service.get = [(200, STATEMENT + b" " * 5000)]
    with pytest.raises(ConfigError) as caught:
        download(service.access(largest=4096))
    assert caught.value.code == "flex_too_large"


def test_the_token_goes_to_no_address_that_is_not_ibs(service: Service) -> None:
    service.send = [accepted("http://127.0.0.1:1/GetStatement")]
    assert download(service.access()) == STATEMENT
    assert service.asked[1][0] == "/flex/GetStatement"


def test_an_address_of_the_same_server_is_taken(service: Service) -> None:
    service.send = [accepted(f"{service.url}/v3/GetStatement")]
    assert download(service.access()) == STATEMENT
    assert service.asked[1][0] == "/flex/v3/GetStatement"


def test_without_token_or_query_nothing_is_asked(service: Service) -> None:
    for access in (FlexAccess("", "11", service.url), FlexAccess(TOKEN, "", service.url)):
        with pytest.raises(ConfigError, match="MATS_FLEX_TOKEN"):
            download(access)
    assert service.asked == []


def _refused(service: Service) -> None:
    service.send = [failed(1015)]


def _not_ready(service: Service) -> None:
    service.get = [failed(1019)]


def _gone(service: Service) -> None:
    service.close()


def _page(service: Service) -> None:
    service.get = [(404, b"")]


@pytest.mark.parametrize("fault", [_refused, _not_ready, _gone, _page, lambda service: None])
def test_the_token_is_in_no_log_line_and_no_traceback(
    service: Service, caplog: pytest.LogCaptureFixture, fault: Callable[[Service], None]
) -> None:
    caplog.set_level(logging.DEBUG)
    access = service.access(deadline_s=0.3)
    fault(service)
    told = ""
    try:
        download(access)
    except (ConfigError, TransientError) as error:
        told = "".join(traceback.format_exception(error)) + repr(error.__cause__) + repr(error.fields)
    assert TOKEN not in told
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(access)
