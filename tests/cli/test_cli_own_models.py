"""What a model of a user's own may do: fail, exit, give no logits. The line says which model, and where in its file."""

import pytest
from cli_helpers import refused

MODULE = """
import sys

import jax
import jax.numpy as jnp


class Keraslike:
    dtype = "float32"  # says what a pytree's leaf would say, and is no array

    def __init__(self):
        self.kernel = jnp.ones((3, 4))

    def __call__(self, x):
        return x.mean((1, 2)) @ self.kernel


def keraslike():
    return Keraslike()


def exits():
    sys.exit(7)


def exits_quietly():
    sys.exit()


def gives(outputs):
    return lambda: outputs


def boom(x):
    raise RuntimeError("boom in call")


def missing(x):
    return {}["weights"]


def doubts(x):
    assert x.shape[1] == 999


def leaves(x):
    sys.exit(3)


def shrinks(x):
    return x[:, 40:].sum((1, 2)) + jnp.arange(3.0)


image = gives(lambda x: x)
scalar = gives(lambda x: x.sum())
scores = gives(lambda x: x.sum((1, 2, 3)))
nothing = gives(lambda x: None)
words = gives(lambda x: "cat")
named = gives(lambda x: {"logits": x.mean((1, 2)), "features": x})
whole = gives(lambda x: x.mean((1, 2)).astype(int))
waves = gives(lambda x: x.mean((1, 2)) * 1j)
none = gives(lambda x: x.mean((1, 2))[:, :0])
pooled = gives(lambda x: x.mean((1, 2), keepdims=True))
small = gives(shrinks)
booms, misses, asserts, quits = gives(boom), gives(missing), gives(doubts), gives(leaves)
"""


def line_of(text):
    """Where a line stands in the module."""
    return 1 + next(index for index, line in enumerate(MODULE.splitlines()) if text in line)


FAILING = {
    "booms": f"RuntimeError: boom in call (ownnets.py, line {line_of('boom in call')})",
    "misses": f"KeyError: weights (ownnets.py, line {line_of('weights')})",
    "asserts": f"AssertionError (ownnets.py, line {line_of('== 999')})",
    "quits": f"it calls sys.exit(3) (ownnets.py, line {line_of('exit(3)')})",
}
NO_LOGITS = {
    "image": "does not give logits (n, k): of one image it makes maps (1, 32, 32, 3); let the factory return",
    "scalar": "does not give logits (n, k): of one image it makes a single number",
    "scores": "does not give logits (n, k): of one image it makes an array (1,)",
    "nothing": "does not give logits (n, k): of one image it makes None",
    "words": "gives str, not logits (n, k)",
    "named": "does not give logits (n, k): of one image it makes dict of 2 arrays; let the factory return a function",
    "whole": "gives numbers of type int32; logits are floating point",
    "waves": "gives numbers of type complex64; logits are floating point",
    "none": "gives no output at all: of one image it makes an array (1, 0)",
}


@pytest.fixture(autouse=True)
def module(workplace):
    (workplace / "ownnets.py").write_text(MODULE)


def asked(command, photos, out):
    """The words of a command about some photographs, but for the model."""
    images = () if command == "maximize" else (photos / "dog",)
    return (command, *images, "--image-size", 32, "--out", out)


COMMANDS = ("explain", "compare", "redundancy", "distributions", "linear-piece", "maximize")


@pytest.mark.parametrize("name", NO_LOGITS)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_gives_no_logits_is_no_classifier(jaxcam, photos, tmp_path, command, name):
    line = refused(jaxcam(*asked(command, photos, tmp_path / "run"), "--model", f"ownnets:{name}"))
    assert line.startswith(f"ownnets:{name} {NO_LOGITS[name]}")
    assert "ShapeDtypeStruct" not in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["image", "scalar", "named"])
@pytest.mark.parametrize("command", ["averages", "clusters", "concepts"])
def test_nor_is_it_one_of_a_data_set(jaxcam, photos, tmp_path, command, name):
    extra = {"clusters": ("--target", "cat"), "concepts": ("--target", "cat", "--concept", "dots")}.get(command, ())
    words = (command, "--data", photos, "--image-size", 32, *extra, "--out", tmp_path / "run")
    line = refused(jaxcam(*words, "--model", f"ownnets:{name}"))
    assert line.startswith(f"ownnets:{name} does not give logits (n, k): of 2 images it makes ")


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.parametrize("command", [*COMMANDS, "layers", "averages"])
def test_a_model_that_fails_is_named_with_the_line_of_its_file(jaxcam, photos, tmp_path, command, name):
    if command == "layers":
        line = refused(jaxcam("layers", f"ownnets:{name}"))
        assert line == f"ownnets:{name} does not take images of 224×224×3: {FAILING[name]}"
    elif command == "averages":
        words = ("averages", "--data", photos, "--image-size", 32, "--out", tmp_path / "run")
        line = refused(jaxcam(*words, "--model", f"ownnets:{name}"))
        assert line == f"ownnets:{name} does not take the 32×32×3 images of {photos}: {FAILING[name]}"
    else:
        line = refused(jaxcam(*asked(command, photos, tmp_path / "run"), "--model", f"ownnets:{name}"))
        assert line == (
            f"ownnets:{name} takes neither color nor grey images of 32×32: {FAILING[name]}; --image-size is the size"
        )


@pytest.mark.parametrize(("name", "call"), [("exits", "sys.exit(7)"), ("exits_quietly", "sys.exit()")])
def test_a_factory_does_not_end_the_command(jaxcam, photos, tmp_path, name, call):
    line = refused(jaxcam("layers", f"ownnets:{name}"))
    assert line.startswith(f"ownnets:{name} failed: it calls {call} (ownnets.py, line ")
    line = refused(jaxcam(*asked("explain", photos, tmp_path / "run"), "--model", f"ownnets:{name}"))
    assert line.startswith(f"ownnets:{name} failed: it calls {call} (ownnets.py, line ")


def test_a_module_does_not_end_the_command(jaxcam, workplace):
    (workplace / "exitnet.py").write_text("raise SystemExit(0)\n")
    line = refused(jaxcam("layers", "exitnet:make"))
    assert line == "exitnet cannot be imported: it calls sys.exit(0) (exitnet.py, line 1)"
    (workplace / "wrongnet.py").write_text("def make():\n  return 1 +\n")
    assert refused(jaxcam("layers", "wrongnet:make")).startswith("wrongnet cannot be imported: SyntaxError: ")


def test_in_a_package_of_ones_own_the_line_is_named_too(jaxcam, workplace):
    for name, files in (("regular", ("__init__", "deep")), ("namespace", ("deep",))):
        (workplace / name).mkdir(exist_ok=True)
        for file in files:
            (workplace / name / f"{file}.py").write_text("def make():\n    return lambda x: x.no_such_thing\n")
        line = refused(jaxcam("layers", f"{name}.deep:make"))
        assert line.endswith(f" no_such_thing ({name}/deep.py, line 2)"), line


def test_a_model_that_fails_later_is_still_the_users(jaxcam, photos, tmp_path, monkeypatch, workplace):
    (workplace / "latenet.py").write_text("def fail():\n    raise LookupError('no more tokens')\n")
    monkeypatch.syspath_prepend(workplace)
    import latenet

    monkeypatch.setattr("jaxcam.cli.classes.answers", lambda *args, **options: latenet.fail())
    line = refused(jaxcam(*asked("explain", photos, tmp_path / "run"), "--model", "ownnets:pooled"))
    assert line == "code of yours fails: LookupError: no more tokens (latenet.py, line 2)"


def test_logits_with_axes_of_length_one_are_logits(jaxcam, photos, tmp_path):
    said = jaxcam(*asked("explain", photos, tmp_path / "run"), "--method", "saliency", "--model", "ownnets:pooled")
    assert said.code == 0, said


def test_images_too_small_for_a_model_are_refused(jaxcam, photos, tmp_path):
    line = refused(jaxcam(*asked("explain", photos, tmp_path / "run"), "--model", "ownnets:small"))
    assert line.startswith("images of 32×32 are too small for the model: ")
    assert line.endswith("a feature map of nothing; 41×41 is the smallest that works")
    words = ("averages", "--data", photos, "--image-size", 32, "--outputs", "0,1", "--out", tmp_path / "run")
    assert refused(jaxcam(*words, "--model", "ownnets:small")).startswith("images of 32×32 are too small for the model")


def test_what_looks_like_an_array_and_is_none_can_be_asked(jaxcam, photos, tmp_path):
    said = jaxcam("layers", "ownnets:keraslike", "--image-size", 16)
    assert said.code == 0, said
    assert "dense_0" in said.out
    assert "12 parameters" in said.out
    words = asked("explain", photos, tmp_path / "run")
    assert jaxcam(*words, "--method", "saliency", "--model", "ownnets:keraslike").code == 0


def test_a_keras_model_can_be_asked(jaxcam, photos, tmp_path, workplace, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    pytest.importorskip("keras", reason="Keras is not installed")
    (workplace / "kerasnet.py").write_text(
        "import keras\ndef make():\n    return keras.Sequential([keras.Input((16, 16, 3)), "
        "keras.layers.Conv2D(6, 3), keras.layers.ReLU(), keras.layers.GlobalAveragePooling2D(), "
        "keras.layers.Dense(4)])\n"
    )
    said = jaxcam("layers", "kerasnet:make", "--image-size", 16)
    assert said.code == 0, said
    assert "196 parameters" in said.out
    words = ("explain", photos / "cat/1.png", "--image-size", 16, "--method", "grad_cam", "--model", "kerasnet:make")
    assert jaxcam(*words, "--out", tmp_path / "run").code == 0
