"""Streams and files at an address, sent by this process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from video_files import HEIGHT, WIDTH, cut, write_video

from s2svos import UserError
from s2svos.pipeline import EndedEarly
from s2svos.video.address import address_name, is_address, stem
from s2svos.video.incoming import IncomingVideo
from s2svos.video.incoming_sources import open_address
from s2svos.video.reader import Video

LIVE_LIST = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:1
#EXT-X-MEDIA-SEQUENCE:0
#EXTINF:1.0,
v.ts
"""


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/broken.mp4":
            super().do_GET()
            return
        # Promises the whole file, and sends a part.
        data = (Path(self.directory) / "v.mp4").read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) * 2 // 3])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Address of ``tmp_path``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def opened(address: str, *, live: bool | None = None, timeout: float = 20) -> IncomingVideo:
    connect = partial(open_address, address, timeout=timeout)
    return IncomingVideo(address_name(address), connect, live=live, timeout=timeout)


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_a_file_elsewhere_is_no_live_stream(tmp_path: Path, served: str, suffix: str) -> None:
    path = write_video(tmp_path / f"v{suffix}", 30)
    video = opened(f"{served}/{path.name}")
    assert (video.live, video.width, video.height, video.rate) == (False, WIDTH, HEIGHT, 25)
    for (name, frame), (same_name, same) in zip(video, Video(path), strict=True):
        assert name == same_name and np.array_equal(frame, same)


def test_a_list_that_grows_is_live(tmp_path: Path, served: str) -> None:
    write_video(tmp_path / "v.ts", 30)
    (tmp_path / "live.m3u8").write_text(LIVE_LIST)
    video = opened(f"{served}/live.m3u8")
    assert video.live and video.count is None
    (tmp_path / "whole.m3u8").write_text(f"{LIVE_LIST}#EXT-X-ENDLIST\n")
    video = opened(f"{served}/whole.m3u8")
    assert not video.live
    assert len(list(video)) == 30


def test_rotation_is_applied(tmp_path: Path, served: str) -> None:
    path = write_video(tmp_path / "v.mp4", 3, rotation=90)
    video = opened(f"{served}/v.mp4")
    assert (video.width, video.height) == (HEIGHT, WIDTH)
    assert np.array_equal(next(iter(video))[1], next(iter(Video(path)))[1])


def test_a_sender_that_breaks_off(tmp_path: Path, served: str) -> None:
    path, names = write_video(tmp_path / "v.mp4", 60), []
    whole = [frame for _, frame in Video(path)]
    with pytest.raises(EndedEarly, match=r"/broken.mp4 broke off \(Input/output error\)"):
        for index, (name, frame) in enumerate(opened(f"{served}/broken.mp4")):
            names.append(name)
            assert np.array_equal(frame, whole[index])
    assert 10 < len(names) < 60


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_live_stream(tmp_path: Path) -> None:
    data = write_video(tmp_path / "v.ts", 40).read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def send() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(data)

        Thread(target=send, daemon=True).start()
        video = opened(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        assert video.live and video.count is None
        names = [name for name, _ in video]
    assert names == [f"{index:05d}" for index in range(40)]


def test_a_live_stream_that_falls_silent(tmp_path: Path) -> None:
    data = write_video(tmp_path / "v.ts", 40).read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections = []

        def send() -> None:
            connections.append(server.accept()[0])  # which stays open
            connections[0].sendall(data)

        Thread(target=send, daemon=True).start()
        names = []
        with pytest.raises(EndedEarly, match="has given no frame for 5 s"):
            for name, _ in opened(f"tcp://127.0.0.1:{server.getsockname()[1]}", timeout=5):
                names.append(name)
        assert len(names) > 20
        connections[0].close()


def test_lost_packets_are_lived_with(tmp_path: Path, served: str) -> None:
    data = bytearray(write_video(tmp_path / "v.ts", 60).read_bytes())
    middle = len(data) // 2 // 188 * 188
    (tmp_path / "holes.ts").write_bytes(data[:middle] + data[middle + 20 * 188 :])
    assert 40 < len(list(opened(f"{served}/holes.ts"))) <= 60


def test_nothing_to_see(tmp_path: Path, served: str) -> None:
    (tmp_path / "text.txt").write_text("no video\n" * 200)
    write_video(tmp_path / "v.mp4", 5)
    for name, words in [
        ("gone.mp4", "404 Not Found"),
        ("text.txt", r"cannot be opened|holds no video"),
        (cut(tmp_path / "v.mp4", 0.05).name, "before its first whole frame"),
    ]:
        with pytest.raises(UserError, match=words):
            opened(f"{served}/{name}")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("rtsp://me:secret@host:554/a?b=c", "rtsp://host:554/a?b=***"),
        ("http://h/x?user=admin&password=secret;t=1", "http://h/x?user=***&password=***;t=***"),
        ("http://h/x?secret", "http://h/x?***"),
        ("http://h/x?a=b#secret", "http://h/x?a=***"),
        ("http://h/x#secret", "http://h/x"),
        ("http://h?a=x/y?z=secret@home", "http://h?a=***"),
        (
            "rtsp://h:554/user=admin&password=secret&channel=1",
            "rtsp://h:554/user=***&password=***&channel=***",
        ),
        ("rtsp://me:sec[ret@h:1/x", "rtsp://h:1/x"),
        ("rtsp://me:sec@ret@h:1/x", "rtsp://h:1/x"),
        ("rtsp://me:sec/ret@h:1/x", "rtsp://h:1/x"),
        ("rtsp://me:sec?r#et@h:1/x", "rtsp://h:1/x"),
        ("rtsp://secret@h/x", "rtsp://h/x"),
        ("rtsp://me:secret/x", "rtsp://***/x"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://[::1/x", "http://***/x"),
        ("http://me:secret@[::1/x", "http://***/x"),
        ("http://h/@channel/x", "http://h/@channel/x"),
        ("udp://@239.0.0.1:1234", "udp://239.0.0.1:1234"),
        ("http://me:secret@h/x?mail=a@b", "http://h/x?mail=***"),
        ("http://", "http://"),
    ],
)
def test_secrets_are_not_told(address: str, name: str) -> None:
    assert address_name(address) == name
    assert "secret" not in name and "sec" not in stem(address)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("rtsp://h", True), ("RTMP+x://h", True), ("12://x", False), ("a b://c", False), ("-", False)],
)
def test_what_is_an_address(text: str, is_one: bool) -> None:
    assert is_address(text) == is_one


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("rtsp://h:1/live/front.sdp?x=y", "front"),
        ("http://h:1/..", "h"),
        ("http://h/a?x=/y/z", "a"),
        ("http://[::1]:1", "::1"),
        ("http://..", "stream"),
        ("rtsp://h/user=a&password=secret&stream=0.sdp", "h"),
    ],
)
def test_results_are_named_after_what_is_asked_for(address: str, name: str) -> None:
    assert stem(address) == name


def test_errors_of_opening_tell_no_secret() -> None:
    with pytest.raises(UserError, match="Connection refused") as caught:
        opened(f"rtsp://me:secret@127.0.0.1:{_free_port()}/live?key=secret")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1/x",
        "http://me:sec[ret@h:x/y",
        "http://h:99999999/x",
        "nothing://x",
        "http://\udce9/",
    ],
)
def test_addresses_that_are_none_end_in_a_sentence(address: str) -> None:
    with pytest.raises(UserError, match="cannot be opened") as caught:
        opened(address, timeout=5)
    assert "sec[ret" not in str(caught.value)
