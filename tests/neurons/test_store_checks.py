"""A store that is not what was written: a changed byte, a chunk that is missing, numbers that cannot be."""

import importlib
import json
import shutil

import jax
import numpy as np
import pytest
import zarr
from neurons_nets import classifier, images

from jaxcam.neurons import open_sweep, store_checks, sweep
from jaxcam.neurons.store_checks import AGAIN, read

# The function has taken the module's name in the package.
sweeping = importlib.import_module("jaxcam.neurons.sweep")
ARRAYS = ("similarity", "dead", "activation", "extreme_unit", "extreme_map")
CLASSES = ["cat", "dog"]


@pytest.fixture(scope="module")
def averages():
    return np.concatenate([images((8, 7, 2), seed) for seed in (1, 2)])


@pytest.fixture(scope="module")
def swept(averages, tmp_path_factory):
    out = tmp_path_factory.mktemp("swept") / "sweep.zarr"
    sweep(classifier(shift=-0.1).model, averages, out, classes=CLASSES, progress=False)
    return out


@pytest.fixture
def copy(swept, tmp_path):
    return shutil.copytree(swept, tmp_path / "sweep.zarr")


@pytest.fixture
def older(swept, tmp_path):
    """The same store as a version without checksums wrote it."""
    found = zarr.open_group(swept, mode="r")
    attributes = {name: value for name, value in found.attrs.items() if name != store_checks.CHECKSUM}
    out = tmp_path / "older.zarr"
    root = zarr.open_group(out, mode="w", attributes=attributes)
    for name, array in found.members(max_depth=None):
        if isinstance(array, zarr.Group):
            root.create_group(name, attributes=dict(array.attrs))
    for name, array in found.members(max_depth=None):
        if isinstance(array, zarr.Array):
            plain = root.create_array(name, shape=array.shape, chunks=array.chunks, dtype=array.dtype)
            plain[...] = array[...]
    return out


def everything(path):
    """All arrays that a sweep gives."""
    found = open_sweep(path)
    whole = {"average": found.average, "confidence": found.confidence, "curves": found.curves()}
    for layer in found.layers:
        whole[layer] = found.similarity(layer), found.dead(layer), found.activation(layer), *found.extremes(layer)
    return whole | {"attrs": found.attrs}


def same(one, other):
    return jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), one, other))


def refusal(path):
    """The one line in which a store is refused."""
    with pytest.raises(ValueError, match=r"damaged|and cosine is from") as caught:
        everything(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    assert line.endswith(AGAIN)
    return line


def flip(file, position, bit=1):
    content = bytearray(file.read_bytes())
    content[position] ^= bit
    file.write_bytes(content)


@pytest.mark.parametrize("array", ["average", "confidence", "done", *(f"b/{name}" for name in ARRAYS)])
def test_a_changed_byte_in_any_chunk_is_told(copy, array):
    file = sorted(file for file in (copy / array / "c").rglob("*") if file.is_file())[-1]
    size = file.stat().st_size
    for position in sorted({0, 4, size // 2, size - 5, size - 1}):
        flip(file, position)
        assert refusal(copy).startswith(f"{file} is damaged (")
        flip(file, position)
    file.write_bytes(file.read_bytes()[:-3])
    assert refusal(copy).startswith(f"{file} is damaged (")


def test_a_changed_byte_in_the_metadata_is_told_or_changes_nothing(copy, swept):
    file, right = copy / "zarr.json", everything(swept)
    text = file.read_bytes()
    start = text.index(b'"checksum"')
    positions = {*np.random.default_rng(0).integers(0, len(text), 60).tolist(), 0, start + 3, start + 15, len(text) - 1}
    for word in (b"cosine", b"cat", b"features", b'"b/similarity"', b"float32", b"crc32c", b"fill_value"):
        positions |= {text.index(word) + 2} if word in text else set()
    for position in positions:
        flip(file, position)
        try:
            line = refusal(copy)
        except pytest.fail.Exception:
            # The key of the checksum itself, or a space for a space.
            assert start <= position < start + 10
            found = everything(copy)
            found["attrs"] = {name: value for name, value in found["attrs"].items() if name in right["attrs"]}
            assert same(found, right)
        else:
            assert line.startswith(f"{file} is damaged")
        flip(file, position)
    assert same(everything(copy), right)


def test_a_chunk_that_is_missing_shows_where_nothing_is_no_answer(copy):
    (copy / "b/similarity/c/1/0").unlink()
    assert f"{copy}/b/similarity/c/1/0" in refusal(copy)


def test_a_store_without_checksums_opens_as_before(older, swept):
    assert same(everything(older), everything(swept))


def test_there_a_number_that_its_metric_cannot_give_is_refused(older):
    similarity = zarr.open_group(older, mode="r+")["b/similarity"]
    for exponent, words in ((0xFC, "holds -9.04e+36, and cosine is from -1 to 1"), (0x7F, "holds 1 NaN or infinite")):
        number = np.array([-0.425], "<f4")
        number.view(np.uint8)[3] = exponent  # one byte of it
        similarity[1, 2] = number[0]
        line = refusal(older)
        assert line.startswith(f"similarity of layer 'b' {words}")
        assert f"{older}/b/similarity/c/1/0" in line


WRONG = {
    "similarity": [(1.5, "similarity of layer 'b' holds 1.5, and cosine is from -1 to 1"),
                   (np.nan, "similarity of layer 'b' holds 1 NaN or infinite of 12 values")],
    "activation": [(np.inf, "activation of layer 'b' holds 1 NaN or infinite of 12 values")],
    "extreme_unit": [(6, "extreme_unit of layer 'b' names unit 6, and there are 0 to 5"),
                     (-2, "extreme_unit of layer 'b' names unit -2")],
    "extreme_map": [(np.nan, "extreme_map of layer 'b' holds")],
}  # fmt: skip


@pytest.mark.parametrize(("array", "value", "words"), [(a, *case) for a, cases in WRONG.items() for case in cases])
def test_what_cannot_be_is_refused_with_its_chunk(copy, array, value, words):
    values = zarr.open_group(copy, mode="r+")[f"b/{array}"]
    index = (1, 2, *[0] * (values.ndim - 2))
    values[index] = value
    line = refusal(copy)
    assert line.startswith(words)
    assert f": {copy}/b/{array}/c/1/0" in line
    values[index] = 0
    assert everything(copy)


@pytest.mark.parametrize(
    ("array", "value"), [("average", np.nan), ("confidence", 1.5), ("confidence", -0.1), ("confidence", np.nan)]
)
def test_so_are_averages_and_confidences(copy, array, value):
    zarr.open_group(copy, mode="r+")[array][(1,) * (2 if array == "confidence" else 4)] = value
    assert refusal(copy).startswith(array)


def test_the_ends_of_a_range_are_in_it_and_distances_have_their_own(averages, tmp_path):
    for metric, inside, outside in (("cosine", (-1, 1, 1 + 1e-7), (-1.1, 1.1)), ("euclidean", (0, 1), (-0.1, 1.1))):
        out = tmp_path / f"{metric}.zarr"
        sweep(classifier().model, averages, out, classes=CLASSES, metric=metric, layers=["b"], progress=False)
        for value in inside:
            zarr.open_group(out, mode="r+")["b/similarity"][0, 0] = value
            assert open_sweep(out).similarity("b")[0, 0] == np.float32(value)
        for value in outside:
            zarr.open_group(out, mode="r+")["b/similarity"][0, 0] = value
            with pytest.raises(ValueError, match=rf"holds {value:.3g}, and {metric} is from"):
                open_sweep(out).similarity("b")


def test_a_byte_that_is_neither_true_nor_false(older):
    group = zarr.open_group(older, mode="r")
    raw = np.asarray(group["b/dead"][:])
    raw.view(np.uint8)[1, 2] = 2
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(zarr.Array, "__getitem__", lambda array, key: raw)
        with pytest.raises(ValueError, match="dead of layer 'b' holds 1 that are neither true nor false"):
            read(older, group, "b/dead")


@pytest.mark.parametrize("change", [{"layers": None}, {"classes": [1, 2]}, {"metric": "cosinus"}])
def test_attributes_that_say_nothing_are_told(older, change):
    content = json.loads((older / "zarr.json").read_text())
    content["attributes"].update(change)
    (older / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"{next(iter(change)).rstrip('s')}.*; {AGAIN}") as caught:
        everything(older)
    assert "\n" not in str(caught.value)


def test_a_sweep_that_meets_no_number_says_so_and_stores_none(averages, tmp_path, monkeypatch):
    real = sweeping.layer_similarity

    def overflowing(sender, *rest):
        values = real(sender, *rest)
        return np.where(np.arange(len(values)) == 1, np.nan, values) if sender.name == "b" else values

    out = tmp_path / "s.zarr"
    monkeypatch.setattr(sweeping, "layer_similarity", overflowing)
    with pytest.raises(ValueError, match="layer 'b' gives 1 NaN or infinite values of similarity for class 'cat'"):
        sweep(classifier().model, averages, out, classes=CLASSES, progress=False)
    with pytest.raises(ValueError, match="not finished: 1 of 4 parts"):
        open_sweep(out)
