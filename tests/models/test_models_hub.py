"""Weights from the hub, played by a small server on this computer; and what is said where there is no network."""

import functools
import hashlib
import http.server
import json
import threading

import numpy as np
import pytest
from huggingface_hub import constants, utils

from jaxcam import models
from jaxcam.models import hub
from jaxcam.models.state import weights_of

OPTIONS = {"classes": 3, "image_size": 8, "channels": 1, "convolutions": 1}


class Hub(http.server.BaseHTTPRequestHandler):
    """The few answers of the hub that downloading a file needs."""

    def __init__(self, repositories, *arguments):
        self.repositories = repositories
        super().__init__(*arguments)

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "X-Repo-Commit": "1" * 40} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self):
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            files = self.repositories["/".join(parts[2:4])]
            listing = [
                {"type": "file", "path": name, "size": len(body), "oid": "2" * 40} for name, body in files.items()
            ]
            return self.answer(200, json.dumps(listing).encode(), Content_Type="application/json")
        files = self.repositories.get("/".join(parts[:2]))
        if files is None:
            return self.answer(401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        if files == "gated":
            return self.answer(403, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        body = files.get("/".join(parts[4:]))
        if body is None:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found")
        return self.answer(200, body, ETag=f'"{hashlib.sha256(body).hexdigest()}"')

    do_HEAD = do_GET


@pytest.fixture
def endpoint(monkeypatch, tmp_path):
    """Points huggingface_hub elsewhere, as the variable HF_ENDPOINT does before it is imported; its cache as well."""

    def point(url):
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)
    utils.disable_progress_bars()
    yield point
    utils.enable_progress_bars()


@pytest.fixture
def network():
    return models.load("vgg11", seed=7, **OPTIONS)


@pytest.fixture
def server(endpoint, network, tmp_path):
    whole = models.save(network, tmp_path / "model.safetensors").read_bytes()
    theirs = models.save(network, tmp_path / "theirs.safetensors", layout="torchvision").read_bytes()
    repositories = {
        "owner/usual": {"model.safetensors": whole, "README.md": b"words"},
        "owner/one": {"vgg.safetensors": theirs},
        "owner/many": {"a.safetensors": whole, "deep/b.safetensors": whole},
        "owner/none": {"README.md": b"words"},
        "owner/short": {"model.safetensors": whole[:-9]},
        "owner/gated": "gated",
    }
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, repositories))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    endpoint(f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def nowhere(endpoint):
    endpoint("http://127.0.0.1:9")


def same(model, other):
    others = weights_of(other)
    for name, array in weights_of(model).items():
        np.testing.assert_array_equal(array, others[name])


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("name", ["owner/usual", "owner/one", "owner/many/deep/b.safetensors"])
def test_a_repository_or_a_file_in_it_gives_weights(name, network):
    same(models.load("vgg11", name, **OPTIONS), network)


@pytest.mark.usefixtures("server")
def test_a_checkpoint_on_the_hub_knows_its_own_network(network):
    loaded = models.load("owner/usual")
    same(loaded, network)
    assert loaded.config == network.config


def test_what_was_fetched_once_is_read_without_a_network(server, endpoint, network):
    models.load("owner/usual")
    endpoint("http://127.0.0.1:9")
    same(models.load("owner/usual"), network)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("owner/many", ValueError, "has several weight files; name one, as in owner/many/a.safetensors"),
        (
            "owner/none",
            FileNotFoundError,
            "'model.safetensors' in owner/none on the hub; it has no .safetensors",
        ),
        ("owner/one/b.safetensors", FileNotFoundError, "no file 'b.safetensors' in owner/one on the hub; it has vgg"),
        ("owner/nothing", FileNotFoundError, "no repository 'owner/nothing' on the hub"),
        ("owner/gated", PermissionError, "hf auth login"),
        ("owner/short", ValueError, "is no whole safetensors file"),
        ("owner/a--b", ValueError, "'owner/a--b' is no name of a repository"),
    ],
)
def test_what_the_hub_does_not_have_is_said_in_one_line(name, error, words):
    with pytest.raises(error) as caught:
        models.load("vgg11", name, **OPTIONS)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("name", ["owner/repo", "owner/repo/file.safetensors"])
def test_without_a_network_the_line_says_what_to_fetch_by_hand(name):
    with pytest.raises(FileNotFoundError, match=r"cannot fetch \S+\.safetensors of owner/repo: ") as caught:
        models.load("vgg11", name)
    assert "get http://127.0.0.1:9/owner/repo/resolve/main/" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_offline_mode_is_respected(endpoint, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    utils.close_session()
    with pytest.raises(FileNotFoundError, match=r"cannot fetch model\.safetensors of owner/repo: .*offline"):
        models.load("vgg11", "owner/repo")
    monkeypatch.undo()
    utils.close_session()


def test_a_missing_file_in_a_folder_that_exists_is_no_hub_name(endpoint, tmp_path):
    (tmp_path / "runs" / "one").mkdir(parents=True)
    assert not hub.is_hub_name("runs/one/model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no file runs/one/model\.safetensors; its folder holds no weights"):
        models.load("vgg11", "runs/one/model.safetensors")
