"""Who is let in, and what is refused."""

from __future__ import annotations

import http.client
import json
import signal
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from studio_server import HEIGHT, WIDTH, Server, pond, studio

MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[40:90, 40:90] = 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with studio(pond(tmp_path_factory.mktemp("pond") / "pond.mp4", 6)) as started:
        yield started


def ask(
    server: Server,
    path: str,
    method: str = "GET",
    body: bytes = b"",
    *,
    cookie: bool = True,
    **headers: str,
) -> tuple[int, bytes, dict[str, str]]:
    address = urlsplit(server.address)
    connection = http.client.HTTPConnection(address.netloc, timeout=600)
    if cookie:
        headers["Cookie"] = f"s2svos-studio={address.query.removeprefix('token=')}"
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), dict(answer.getheaders())


def test_the_token_is_changed_for_a_cookie(server: Server) -> None:
    address = urlsplit(server.address)
    assert address.hostname == "127.0.0.1"
    status, _, headers = ask(server, f"/?{address.query}", cookie=False)
    assert (status, headers["location"]) == (303, "/")
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=strict" in headers["set-cookie"]
    status, page, headers = ask(server, "/")
    assert status == 200
    assert b"s2svos studio" in page
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/", "/api/project", "/api/frames/0", "/page/studio.js"])
def test_nobody_else_is_let_in(server: Server, path: str) -> None:
    assert ask(server, path)[0] == 200
    assert ask(server, path, cookie=False)[0] == 403
    assert ask(server, path, cookie=False, Cookie="s2svos-studio=guess")[0] == 403
    assert ask(server, "/?token=guess", cookie=False)[0] == 403
    # A name that was bound anew to this machine, and a page of another site.
    assert ask(server, path, Host="evil.example:80")[0] == 421
    assert ask(server, path, Origin="http://evil.example")[0] == 403


def test_what_is_no_mask_is_refused_in_a_sentence(server: Server) -> None:
    bomb = zlib.compress(bytes(50_000_000))
    for body, words in (
        (b"no zlib", "not compressed"),
        (zlib.compress(b"short"), "another size"),
        (bomb, "another size"),
        (bytes(4 * MASK.size), "too large"),
    ):
        status, answer, _ = ask(server, "/api/masks/0", "PUT", body)
        assert status == 400
        assert words in json.loads(answer)["error"]
    for body, words in (
        (b"{", "no JSON"),
        (b"[]", "no JSON object"),
        (b'{"start": 0, "last": 99}', "from 0 to 5"),
        (b'{"start": "x", "last": 1}', "is no number"),
        (b'{"start": 3, "last": 5}', "has no mask"),
        (b"{}", "nothing to follow"),
    ):
        status, answer, _ = ask(server, "/api/follow", "POST", body)
        assert status == 400
        assert words in json.loads(answer)["error"]
    status, answer, _ = ask(server, "/api/frames/99")
    assert status == 400
    assert "no frame 99" in json.loads(answer)["error"]


def test_only_the_page_is_read(server: Server) -> None:
    for path in ("/page/..%2fserver.py", "/page/../server.py", "/page/%2e%2e", "/etc/passwd"):
        assert ask(server, path)[0] == 404


def test_painted_masks_come_back(server: Server) -> None:
    assert ask(server, "/api/masks/2")[0] == 204
    assert ask(server, "/api/masks/2", "PUT", zlib.compress(MASK.tobytes()))[0] == 200
    status, body, _ = ask(server, "/api/masks/2")
    assert status == 200
    assert zlib.decompress(body) == MASK.tobytes()
    assert (server.folder / "given" / "000002.png").is_file()


def test_a_second_server_and_ctrl_c(tmp_path: Path) -> None:
    video = pond(tmp_path / "pond.mp4", 4)
    with studio(video) as first:
        with studio(video) as second:
            assert second.process.wait(600) == 2
            assert second.process.stderr
            assert "is in use by another run" in second.process.stderr.read()
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(600) in (0, 130)
        assert first.process.stderr
        assert "Traceback" not in first.process.stderr.read()
    assert not (tmp_path / "pond.mp4.studio").exists()  # nothing was painted
