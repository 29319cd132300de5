"""Fetches the published files of MNIST and CIFAR-10, and keeps them only if they are bit by bit what was published.

tensorflow-datasets reads both without TensorFlow, but its scripts that prepare them need it. So what is not there is
taken from the very addresses those scripts name, and held against the very checksums.
"""

import hashlib
import io
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from jaxcam.data.published import CIFAR10, MNIST
from jaxcam.files import write_atomically

MNIST_ADDRESS = "https://storage.googleapis.com/cvdf-datasets/mnist/"
CIFAR10_ADDRESS = "https://www.cs.toronto.edu/~kriz/"
CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
CHECKSUMS = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    CIFAR10_ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
}


def fetch_mnist(data_dir: Path, split: str, *, progress: bool) -> None:
    """Puts a split's two files into `data_dir`/mnist.

    Raises:
        OSError: no network, or the disk is full.
        ValueError: what came is not what was published.
    """
    for name in MNIST[split]:
        content = _fetch(f"{MNIST_ADDRESS}{name}.gz", progress)
        _keep(data_dir / "mnist", f"{name}.gz", content)


def fetch_cifar10(data_dir: Path, split: str, *, progress: bool) -> None:
    """Puts all files of both splits, which come in one archive, into `data_dir`/cifar-10-batches-bin.

    Raises:
        OSError: no network, or the disk is full.
        ValueError: what came is not what was published.
    """
    del split
    with tarfile.open(fileobj=io.BytesIO(_fetch(CIFAR10_ADDRESS + CIFAR10_ARCHIVE, progress))) as archive:
        for name in (*CIFAR10["train"], *CIFAR10["test"]):
            member = archive.extractfile(f"cifar-10-batches-bin/{name}")
            assert member is not None
            _keep(data_dir / "cifar-10-batches-bin", name, member.read())


def _fetch(url: str, progress: bool) -> bytes:
    name = url.rsplit("/", 1)[-1]
    columns = (TextColumn("downloading {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    try:
        response = urllib.request.urlopen(url, timeout=30)
    except urllib.error.URLError as error:
        raise OSError(f"{url} cannot be reached ({error.reason})") from error
    with (
        response,
        Progress(*columns, console=Console(stderr=True), transient=True, disable=not progress) as bar,
    ):
        length = int(response.headers.get("Content-Length") or 0)
        with bar.wrap_file(response, total=length or None, description=name) as stream:
            content = stream.read()
    if hashlib.sha256(content).hexdigest() != CHECKSUMS[name]:
        raise ValueError(f"what {url} sent is not the file that was published: its checksum differs")
    return content


def _keep(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / name, lambda file: file.write(content))
