"""`jaxcam explain`: what it writes is what the library computes; what is wrong is said in one line."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from cli_helpers import refused, reported, successful

import jaxcam as jc
from jaxcam.cli.networks import open_network

METHODS = ("--method", "saliency", "--method", "grad_cam", "--method", "smooth_grad")
MODEL = ("--model", "tinynet:make", "--image-size", 8)


@pytest.fixture(scope="module")
def explained(workplace, photos, tmp_path_factory):
    """One run on three pictures, two to a batch, and what was in its folder before."""
    place = tmp_path_factory.mktemp("explained")
    said = successful(
        workplace,
        *("explain", photos / "cat/1.png", photos / "cat/2.png", photos / "dog/1.png", *MODEL, *METHODS),
        *("--option", "samples=3", "--seed", 5, "--batch", 2, "--out", place / "run"),
    )
    return said, place / "run"


def images(photos):
    files = (photos / "cat/1.png", photos / "cat/2.png", photos / "dog/1.png")
    return jnp.asarray(np.stack([jc.data.read_image(file, 8, channels=1) for file in files]))


def test_a_run_holds_its_files_and_no_others(explained):
    _, run = explained
    assert sorted(path.name for path in run.parent.iterdir()) == ["run"]
    assert sorted(path.name for path in run.iterdir()) == ["manifest.json", "maps.npz", "pictures", "sheet.png"]
    assert sorted(path.name for path in (run / "pictures").iterdir()) == ["1.png", "1_2.png", "2.png"]
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["files"] == ["maps.npz", "sheet.png", "pictures"]
    assert manifest["command"] == "explain"
    assert manifest["seed"] == 5
    assert manifest["model"]["name"] == "tinynet:make"
    assert manifest["data"]["image"] == [8, 8, 1]
    assert manifest["results"]["methods"]["smooth_grad"]["options"] == {"samples": 3}
    assert manifest["results"]["maps"] == {"saliency": [3, 8, 8, 1], "grad_cam": [3, 4, 4], "smooth_grad": [3, 8, 8, 1]}


def test_its_maps_are_those_of_the_library_raw(explained, workplace, photos, monkeypatch):
    monkeypatch.chdir(workplace)
    _, run = explained
    model, x = open_network("tinynet:make").model, images(photos)
    with np.load(run / "maps.npz") as found:
        np.testing.assert_array_equal(found["images"], x)
        np.testing.assert_array_equal(found["target"], model(x).argmax(-1))
        np.testing.assert_allclose(found["probabilities"], jax.nn.softmax(model(x)), rtol=1e-5)
        expected = {
            "saliency": jc.saliency(model, x),
            "grad_cam": jc.grad_cam(model, x),
            "smooth_grad": jc.smooth_grad(model, x, key=jax.random.key(5), samples=3),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-6 * float(abs(values).max()))


def test_what_it_says_names_images_predictions_and_times(explained):
    said, run = explained
    lines = said.out.splitlines()
    assert lines[0].split()[:2] == ["image", "predicted"]
    assert lines[1].startswith("1 ")
    assert "class " in lines[1]
    assert "%" in lines[1]
    assert lines[5].split() == ["method", "s/image,", "with", "compiling"]
    assert {line.split()[0] for line in lines[6:9]} == {"saliency", "grad_cam", "smooth_grad"}
    assert lines[-1] == str(run)
    assert said.err == "nothing names the network's outputs; --classes FILE does, one name a line, in their order\n"


def test_its_pictures_can_be_read_and_are_not_blank(explained):
    _, run = explained
    for path in (run / "sheet.png", *(run / "pictures").iterdir()):
        with PIL.Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"), int)
        assert min(pixels.shape[:2]) > 200
        colored = np.ptp(pixels, axis=-1) > 60
        assert colored.mean() > 0.001, path


def test_the_size_of_a_network_that_does_not_say_it_is_told(jaxcam, photos, tmp_path):
    words = ("explain", photos / "cat/1.png", "--model", "tinynet:make", *SALIENCY)
    note = "tinynet:make does not say its size: images are taken at 224×224; --image-size PIXELS sets another"
    assert jaxcam(*words, "--out", tmp_path / "told").err.splitlines()[0] == note
    assert jaxcam(*words, "--quiet", "--out", tmp_path / "quiet").err == ""


def test_a_finished_run_is_not_replaced_unasked(explained, jaxcam, photos):
    _, run = explained
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    line = refused(jaxcam("explain", photos / "cat/1.png", *MODEL, "--out", run))
    assert line == f"{run} holds a finished run of jaxcam explain; use another --out, or --overwrite to replace it"
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.fixture
def out(tmp_path):
    """Where a run would be; nothing may be there after an error."""
    yield tmp_path / "run"
    assert not (tmp_path / "run").exists()


SALIENCY = ("--method", "saliency")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--method", "saliencey"), "no method 'saliencey'; did you mean 'saliency'? There are saliency, "),
        (("--method", "Grad-CAM++"), "no method 'Grad-CAM++'; did you mean 'grad_cam'? There are saliency, "),
        ((*SALIENCY, "--option", "steps"), "--option steps is no name=value, such as steps=64"),
        ((*SALIENCY, "--option", "steps=3"), "--option steps=3: saliency has no option 'steps'; there are none"),
        (
            ("--method", "integrated_gradients", "--option", "stepps=3"),
            "--option stepps=3: integrated_gradients has no option 'stepps'; there are",
        ),
        (
            (*SALIENCY, "--method", "occlusion", "--option", "oclusion.window=2"),
            "--option oclusion.window=2: oclusion is not among the methods chosen; did you mean occlusion.window?",
        ),
        (("--method", "smooth_grad", "--option", "key=1"), "--option key=1: give --seed"),
        (("--method", "smooth_grad", "--option", "samples=0"), "smooth_grad: samples is a whole number from 1 up"),
        ((*SALIENCY, "--layer", "conv0"), "--layer says nothing to saliency; class activation maps take a layer"),
        (("--method", "grad_cam", "--layer", "conv11"), "no layer 'conv11'; did you mean 'conv1'?"),
        ((*SALIENCY, "--target", "10"), "--target 10 is out of range: the network has 10 outputs, 0 to 9"),
        ((*SALIENCY, "--target", "-1"), "--target -1 is out of range: the network has 10 outputs, 0 to 9"),
        ((*SALIENCY, "--target", "cat"), "--target cat: nothing names the network's outputs; give a number, or"),
    ],
)
def test_what_does_not_exist_is_named_with_the_closest_that_does(jaxcam, photos, out, words, line):
    assert refused(jaxcam("explain", photos / "cat/1.png", *MODEL, *words, "--out", out)).startswith(line)


def test_a_closest_option_is_named(jaxcam, photos, out):
    words = ("--method", "integrated_gradients", "--option", "stepps=3")
    line = refused(jaxcam("explain", photos / "cat/1.png", *MODEL, *words, "--out", out))
    assert line.endswith("; did you mean 'steps'?")


def test_images_that_are_none_are_named(jaxcam, photos, out, tmp_path):
    said = refused(jaxcam("explain", photos / "cat/11.png", *MODEL, "--out", out), code=3)
    assert said.startswith(f"no image file {photos / 'cat/11.png'}; did you mean {photos}/cat/")
    (tmp_path / "text.png").write_text("no picture")
    said = refused(jaxcam("explain", photos / "cat/1.png", tmp_path / "text.png", *MODEL, "--out", out))
    assert said == f"cannot read the image '{tmp_path / 'text.png'}': not a picture"
    (tmp_path / "empty").mkdir()
    said = refused(jaxcam("explain", tmp_path / "empty", *MODEL, "--out", out))
    assert said.startswith(f"no picture in the folder {tmp_path / 'empty'}")
    said = refused(jaxcam("explain", *MODEL, "--out", out), code=2)
    assert said.startswith("Missing argument 'IMAGE…")


def test_a_network_that_takes_no_such_images_says_why(jaxcam, photos, out, workplace):
    (workplace / "flatnet.py").write_text(
        "import jax.numpy as jnp\ndef make():\n    return lambda x: x.reshape(-1, 192) @ jnp.ones((192, 3))\n"
    )
    line = refused(jaxcam("explain", photos / "cat/1.png", "--model", "flatnet:make", "--out", out))
    assert line.startswith("flatnet:make takes neither color nor grey images of 224×224: ")
    assert line.endswith("; --image-size is the size")


def test_other_files_in_out_are_left_alone(jaxcam, photos, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    line = refused(jaxcam("explain", photos / "cat/1.png", *MODEL, *SALIENCY, "--out", tmp_path / "mine"))
    assert line.startswith(f"{tmp_path / 'mine'} holds files that no command of jaxcam wrote (notes.txt)")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_folder_stands_for_its_pictures_and_a_target_for_all_of_them(jaxcam, photos, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(f"thing {number}" for number in range(10)))
    said = jaxcam(
        *("explain", photos / "dog", *MODEL, *SALIENCY, "--target", "Thing 3", "--classes", tmp_path / "names.txt"),
        *("--channels", "maximum", "--out", tmp_path / "run"),
    )
    assert said.code == 0, said
    rows = json.loads((tmp_path / "run/manifest.json").read_text())["results"]["images"]
    assert [row["name"] for row in rows] == list("01234")
    assert {row["explained"]["class"] for row in rows} == {"thing 3"}
    assert len(list((tmp_path / "run/pictures").iterdir())) == 5


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "names.txt is empty; --classes takes one name a line"),
        ("a\nb", "there are 2 class names, and tinynet:make has 10 outputs"),
        ("0\tn1\ta\n2\tn2\tb", "names.txt do not count the outputs from 0 to 1"),
    ],
)
def test_names_that_do_not_fit_are_refused(jaxcam, photos, out, tmp_path, text, line):
    (tmp_path / "names.txt").write_text(text)
    words = ("--classes", tmp_path / "names.txt", "--out", out)
    assert line in refused(jaxcam("explain", photos / "cat/1.png", *MODEL, *SALIENCY, *words))


def test_a_class_that_is_not_there_is_answered_with_the_closest(jaxcam, photos, out, tmp_path):
    (tmp_path / "names.tsv").write_text("\n".join(f"{i}\tn0{i}\t{'animal' if i == 4 else f'x{i}'}" for i in range(10)))
    words = ("--classes", tmp_path / "names.tsv", "--target", "anymal", "--out", out)
    line = refused(jaxcam("explain", photos / "cat/1.png", *MODEL, *SALIENCY, *words))
    assert line == "no class 'anymal' among the 10 there are; did you mean 'animal'?"


def test_several_layers_are_several_maps(jaxcam, photos, tmp_path):
    words = ("--method", "grad_cam", "--layer", "conv0", "--layer", "conv1", "--out", tmp_path / "run")
    said = jaxcam("explain", photos / "cat/1.png", *MODEL, *words)
    assert said.code == 0, said
    with np.load(tmp_path / "run/maps.npz") as found:
        assert {name: found[name].shape for name in found.files if ":" in name} == {
            "grad_cam:conv0": (1, 8, 8),
            "grad_cam:conv1": (1, 4, 4),
        }


def test_a_method_that_cannot_explain_a_network_ends_the_run_unless_all_were_asked_for(
    jaxcam, photos, tmp_path, workplace, monkeypatch
):
    (workplace / "linearnet.py").write_text(
        "import jax.numpy as jnp\ndef make():\n    return lambda x: x.sum((1, 2)) @ jnp.ones((1, 3))\n"
    )
    model = ("--model", "linearnet:make", "--image-size", 8)
    run = tmp_path / "run"
    line = refused(jaxcam("explain", photos / "cat/1.png", *model, "--method", "grad_cam", "--out", run))
    assert line.startswith("grad_cam: ")
    assert not run.exists()
    from jaxcam.attribution import methods as table

    few = {name: table.METHODS[name] for name in ("saliency", "grad_cam")}
    monkeypatch.setattr("jaxcam.cli.methods.METHODS", few)
    said = jaxcam("explain", photos / "cat/1.png", *model, "--method", "all", "--out", run)
    assert said.code == 0, said
    assert said.err.startswith("grad_cam is left out: ")
    results = json.loads((run / "manifest.json").read_text())["results"]
    assert list(results["maps"]) == ["saliency"]
    assert list(results["left_out"]) == ["grad_cam"]


def test_a_run_that_fails_halfway_leaves_nothing(jaxcam, photos, out, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxcam.viewing.figures.save", full)
    line = refused(jaxcam("explain", photos / "cat/1.png", *MODEL, *SALIENCY, "--out", out), code=3)
    assert line.startswith("the disk is full; nothing is left in")


def test_overwrite_replaces_pictures_of_the_run_before(jaxcam, photos, tmp_path):
    words = (*MODEL, *SALIENCY, "--out", tmp_path / "run")
    assert jaxcam("explain", photos / "cat/1.png", *words).code == 0
    assert jaxcam("explain", photos / "cat/2.png", *words, "--overwrite").code == 0
    assert [path.name for path in (tmp_path / "run/pictures").iterdir()] == ["2.png"]


def test_a_report_of_several_runs_takes_explanations_in(runs, photos, jaxcam, tmp_path):
    place = tmp_path / "runs"
    shutil.copytree(Path("runs"), place)
    words = ("--model", place / "train", "--method", "saliency", "--out", place / "explain")
    said = jaxcam("explain", photos / "cat" / "1.png", photos / "dog" / "1.png", *words)
    assert said.code == 0, said
    said = jaxcam("report", place)
    assert said.code == 0, said
    pages = [path.read_text() for path in (place / "report").rglob("class-*.html")]
    for image in json.loads((place / "explain/manifest.json").read_text())["results"]["images"]:
        caption = f"{image['name']}: seen as “{image['predicted']['class']}”"
        about = {image["predicted"]["class"], image["explained"]["class"]}
        assert len([page for page in pages if caption in page]) == len(about)


def test_its_report_says_what_was_found(explained, tmp_path):
    _, run = explained
    assert reported(run, tmp_path / "page.html")[0].startswith("1: seen as")


SWALLOWING = """
import jax
import jax.numpy as jnp


def make():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 1, 1)) / 16
    kernel, layout = kernel - kernel.mean(), ("NHWC", "HWIO", "NHWC")

    def net(x):
        for _ in range(8):
            x = jax.nn.relu(jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout) + 5)
        return x.mean((1, 2)) @ jnp.array([[1.0, -1.0]])

    return net
"""


def test_relevance_that_biases_swallow_is_said_in_one_line(start, workplace, photos, tmp_path):
    """Two batches, and one warning: the share that is left, what swallowed it, what works instead."""
    (workplace / "swallowing.py").write_text(SWALLOWING)
    process = start(
        *("explain", photos / "cat/1.png", photos / "cat/2.png", photos / "dog/1.png", "--model", "swallowing:make"),
        *("--image-size", 8, "--batch", 2, "--method", "lrp", "--out", tmp_path / "run", "--quiet"),
    )
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    (line,) = [line for line in said.splitlines() if "relevance is lost" in line]
    assert line.startswith("jaxcam: warning: relevance is lost")
    assert "biases kept" in line
    assert "deep_lift" in line
