"""The server answers the loopback's own names, GET, and two paths; all else is not found."""

import http.client
import json
import socket
import struct
import threading

import pytest

from learned_opt_lab.watch import server as server_module
from learned_opt_lab.watch.reading import Reader, find_runs
from learned_opt_lab.watch.server import Server
from tests.support.lab.watched import add_rows, made_up_rows, made_up_run


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "run"
    made_up_run(path, 5)
    with Server(Reader(find_runs([path]))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server, path
        server.shutdown()
        thread.join()


def ask(server, path="/", method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_it_listens_on_the_loopback_alone(served):
    assert served[0].server_address[0] == "127.0.0.1"
    assert served[0].url == f"http://127.0.0.1:{served[0].server_port}/"


def test_the_page_and_what_changes_in_it(served, monkeypatch):
    server, path = served
    answer, body = ask(server)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert b"5 of 200 (2%)" in body
    monkeypatch.setattr(server_module, "FRESH_SECONDS", 0.0)
    add_rows(path, made_up_rows(5, first=5))
    answer, body = ask(server, "/data.json")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["cells"][0][1] == "10 of 200 (5%)"


@pytest.mark.parametrize("path", ["/x", "//", "/?", "/data.json?a", "/../config.json", "*", "/%2e"])
def test_other_paths_are_not_found(path, served):
    answer, body = ask(served[0], path)
    assert (answer.status, body) == (404, b"")


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_not_found(method, served):
    answer, body = ask(served[0], method=method)
    assert (answer.status, body) == (404, b"")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LocalHost", "[::1]"])
def test_names_of_the_loopback_are_answered(name, served):
    assert ask(served[0], Host=f"{name}:{served[0].server_port}")[0].status == 200


@pytest.mark.parametrize(
    "name",
    ["example.com", "example.com:{}", "localhost", "127.0.0.1:1", "localhost.evil.com:{}", ""],
)
def test_other_names_are_not_found(name, served):
    assert ask(served[0], Host=name.format(served[0].server_port))[0].status == 404


@pytest.mark.parametrize(
    "request_",
    [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"],
)
def test_a_request_without_its_one_name(request_, served):
    with socket.create_connection(("127.0.0.1", served[0].server_port), timeout=30) as connection:
        connection.sendall(request_)
        assert connection.recv(4096).split(b"\r\n")[0].split()[1:2] == [b"404"]


def test_a_browser_that_leaves_prints_nothing(served, capfd, monkeypatch):
    """It resets the connection before, or in the middle of, a long answer."""
    server, done = served[0], threading.Event()
    shutdown = server.shutdown_request
    monkeypatch.setattr(server, "body", lambda path: ("text/plain", b"x" * (1 << 26)))
    monkeypatch.setattr(server, "shutdown_request", lambda each: (shutdown(each), done.set()))
    for request in (f"GET / HTTP/1.1\r\nHost: localhost:{server.server_port}\r\n\r\n", "GET /"):
        done.clear()
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
            connection.sendall(request.encode())
            if request.endswith("\n"):
                assert connection.recv(10)
            # Not in order, but by a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert done.wait(30)
    assert capfd.readouterr() == ("", "")


def test_a_page_that_cannot_be_made_is_one_line(served, capfd, monkeypatch):
    def fail(path):
        raise RuntimeError("two\nlines\x1b")

    monkeypatch.setattr(served[0], "body", fail)
    answer, body = ask(served[0])
    assert answer.status == 500
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert body == b"the page cannot be made: RuntimeError: two lines\\x1b"
    assert capfd.readouterr() == ("", "")


def test_a_taken_port_is_told(served):
    with pytest.raises(ValueError, match="cannot be listened at"):
        Server(served[0]._reader, served[0].server_port)


def test_nothing_is_made_again_where_no_file_has_changed(served, monkeypatch):
    server, path = served
    monkeypatch.setattr(server_module, "FRESH_SECONDS", 0.0)
    first = server.body("/data.json")[1]
    assert server.body("/data.json")[1] is first
    done = json.loads(first)["cells"][0][1].split()[0]
    add_rows(path, made_up_rows(1, first=int(done)))
    assert json.loads(server.body("/data.json")[1])["cells"][0][1].split()[0] == str(int(done) + 1)
