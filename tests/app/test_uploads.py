"""What is sent to the page in large pieces is cut off, and the page goes on: a real server, asked without a browser."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from geko_app.access import MAX_BODY
from tests.app.test_cli import geko_app
from tests.browser.conftest import Server, free_port

JSON = {"Content-Type": "application/json"}
PIECE = b" " * 1_000_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path, "--max-upload", "0.001")
    made.start()
    yield made
    made.end()


def upload(server: Server, size: int) -> tuple[int, str]:
    """(status, answer) of a file with `size` bytes."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
    body = head + b"a" * size + b"\r\n--x--\r\n"
    return ask(server, "/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"})


def ask(server: Server, path: str, body: bytes | Iterator[bytes], headers: dict[str, str]) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
        return 0, "cut off"
    finally:
        connection.close()


def test_large_pieces_are_refused_and_the_page_goes_on(server: Server) -> None:
    status, answer = upload(server, 900_000)
    assert status == 200 and json.loads(answer)[0].endswith("a.txt")
    status, answer = upload(server, 1_100_000)
    assert status == 413 and "maximum allowed size" in answer
    status, answer = ask(server, "/gradio_api/queue/join", b"{}" + b" " * MAX_BODY, JSON)
    assert (status, answer) == (
        413,
        f"A call has at most 10,000,000 bytes, but this one has '{MAX_BODY + 2}': send less.",
    )
    status, answer = ask(server, "/gradio_api/queue/join", (PIECE for _ in range(30)), JSON)  # says no length
    assert status in (0, 400, 500)
    assert upload(server, 10)[0] == 200


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--max-upload", "0"), "--max-upload 0 is no size: give gigabytes, such as 2 or 0.5."),
        (("--max-upload", "nan"), "--max-upload nan is no size"),
        (("--root", "/none"), "--root '/none' is no folder: give one that exists."),
    ],
)
def test_options_that_are_wrong_are_named(options: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    done = geko_app(*options, "--port", str(free_port()), cwd=tmp_path)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr
