"""MNIST and CIFAR-10 read from the files their authors publish, and refused unless they are whole.

MNIST is four files in the idx format (big-endian: a magic number, the sizes, then bytes), gzipped or not; its 28×28
digits get a border of two black pixels, as in the thesis, so that they can be halved five times. CIFAR-10 is its
"binary version": records of a label and 3,072 bytes, all red, then all green, then all blue.
"""

import gzip
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxcam.data.checks import listed

MNIST = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
CIFAR10 = {"train": tuple(f"data_batch_{batch}.bin" for batch in range(1, 6)), "test": ("test_batch.bin",)}
CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD = 1 + 3 * 32 * 32

Arrays = tuple[UInt8[np.ndarray, "n h w c"], UInt8[np.ndarray, " n"], tuple[str, ...]]


def read_mnist(data_dir: Path, split: str) -> Arrays | None:
    """Reads one split of MNIST.

    Args:
        data_dir: the directory of the files, or the one above their directory `mnist`.
        split: "train" or "test".

    Returns:
        images (n, 28, 28, 1) and labels (n,) as bytes and the names of the classes; None where none of the files is.

    Raises:
        FileNotFoundError: one of the two files is there without the other.
        ValueError: a file is truncated or something else.
    """
    choices = [(name, name + ".gz") for name in MNIST[split]]
    files = _find(data_dir, ("mnist", "MNIST/raw", "."), choices)
    if files is None:
        return None
    images, labels = _read_idx(files[0], 3), _read_idx(files[1], 1)
    if len(images) != len(labels):
        raise ValueError(f"{files[0]} holds {len(images)} images, {files[1].name} {len(labels)} labels: not a pair")
    return images[..., None], labels, tuple(map(str, range(10)))


def read_cifar10(data_dir: Path, split: str) -> Arrays | None:
    """Reads one split of CIFAR-10, binary version.

    Args:
        data_dir: the directory of the files, or the one above their directory `cifar-10-batches-bin`.
        split: "train" or "test".

    Returns:
        images (n, 32, 32, 3) and labels (n,) as bytes and the names of the classes; None where none of the files is.

    Raises:
        FileNotFoundError: some of the files are missing, or only the version for Python is there.
        ValueError: a file is truncated or something else.
    """
    files = _find(data_dir, ("cifar-10-batches-bin", "."), [(name,) for name in CIFAR10[split]])
    if files is None:
        if (data_dir / "cifar-10-batches-py").is_dir():
            raise FileNotFoundError(
                f"{data_dir / 'cifar-10-batches-py'} holds pickles, which are never read: get the binary version, "
                "cifar-10-binary.tar.gz, and unpack it there"
            )
        return None
    records = np.concatenate([_read_records(file) for file in files])
    # Put in order as bytes: four times less to move than as floats.
    images = np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return images, records[:, 0], CIFAR10_NAMES


def file_names(name: str, split: str) -> str:
    """The files that a split of `mnist` or `cifar10` is published in, as an error lists them."""
    return listed([f"{file}.gz" for file in MNIST[split]] if name == "mnist" else CIFAR10[split])


def _find(data_dir: Path, folders: tuple[str, ...], choices: Sequence[tuple[str, ...]]) -> list[Path] | None:
    """All of the files, each under one of its names, from the first folder that has any."""
    for folder in folders:
        place = data_dir / folder
        found = [next((place / name for name in names if (place / name).is_file()), None) for names in choices]
        missing = [names[-1] for names, file in zip(choices, found, strict=True) if file is None]
        if not missing:
            return [file for file in found if file is not None]
        if len(missing) < len(choices):
            raise FileNotFoundError(f"{listed(missing)} missing in {place.resolve()}, the other files are there")
    return None


def _read_idx(path: Path, dimensions: int) -> UInt8[np.ndarray, "*shape"]:
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is truncated or damaged: download it again") from error
    header = 4 * (1 + dimensions)
    # 0, 0, then 8 for unsigned bytes and the number of dimensions.
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise ValueError(f"{path} is no MNIST file: it does not begin with the magic number {0x800 + dimensions}")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    expected = int(np.prod(shape))
    if len(content) != header + expected:
        held = len(content) - header
        raise ValueError(f"{path} is damaged: it holds {held:,} of {expected:,} bytes; download it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read_records(path: Path) -> UInt8[np.ndarray, "n 3073"]:
    content = np.fromfile(path, np.uint8)
    if content.size == 0 or content.size % RECORD:
        raise ValueError(
            f"{path} is truncated or not CIFAR-10's binary version: {content.size:,} bytes are not a multiple of "
            f"{RECORD:,}; download it again"
        )
    records = content.reshape(-1, RECORD)
    if (largest := records[:, 0].max()) > 9:
        raise ValueError(f"{path} is not CIFAR-10's binary version: it has a label {largest}, labels are 0 to 9")
    return records
