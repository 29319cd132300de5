"""What is wrong with the input is said in one line, before anything is written."""

import shutil

import numpy as np
import PIL.Image
import pytest
from cli_helpers import refused

from jaxcam import models

AVERAGES = ("averages", "--data", "digits")


@pytest.fixture
def out(tmp_path):
    """Where a run would be; nothing may be there after an error."""
    yield tmp_path / "run"
    assert not (tmp_path / "run").exists()


@pytest.fixture
def checkpoint(tmp_path):
    """A small network for grey digits that has learned nothing."""
    network = models.load("alexnet", classes=10, image_size=8, channels=1, convolutions=1)
    names = [str(digit) for digit in range(10)]
    return models.save(network, tmp_path / "network.safetensors", names=names, data={"name": "digits"})


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("layers", "resnet5"), "no model 'resnet5'; did you mean 'resnet50'? jaxcam layers lists"),
        (("layers", "alexnet", "--rules", "epsilon_pls"), "no composite 'epsilon_pls'; did you mean 'epsilon_plus'?"),
        ((*AVERAGES, "--model", "alexne"), "no model 'alexne'; did you mean 'alexnet'?"),
        ((*AVERAGES, "--model", "alexnet"), "alexnet by its name has learned nothing yet; give --weights FILE"),
        (("train", "--model", "vgg12"), "no model 'vgg12'; did you mean 'vgg11'?"),
        (("train", "--data", "mnits"), "no data set 'mnits' and no folder of that name; did you mean 'mnist'?"),
        (("train", "--convolutions", 9), "convolutions=9, but alexnet has 5; give 1 to 5"),
        (("train", "--model", "resnet50", "--convolutions", 3), "resnet50 is no chain to be cut"),
        (("train", "--learning-rate", 0), "learning_rate must be above 0"),
        (("train", "--image-size", 4), "image_size=4 is too small"),
        ((*AVERAGES, "--model", "tinynet:mak"), "tinynet has no function 'mak'; did you mean 'make'?"),
        ((*AVERAGES, "--model", "tinynett:make"), "no module 'tinynett' for --model tinynett:make, neither in"),
        (
            (*AVERAGES, "--model", "tinynet:needs"),
            "tinynet:needs cannot be called: missing a required argument: 'x'; a factory takes no arguments",
        ),
        ((*AVERAGES, "--model", "mypkg.net"), "no model 'mypkg.net'; a network of yours is package.module:factory, as"),
        ((*AVERAGES, "--model", "mypkg/net.py:ready"), "no model 'mypkg/net.py:ready'; a network of yours is package"),
        ((*AVERAGES, "--model", "tinynet.py"), "no model 'tinynet.py'; a network of yours is package.module:factory"),
        ((*AVERAGES, "--model", "tinynet:fails"), "tinynet:fails failed: RuntimeError: no GPU today"),
        ((*AVERAGES, "--model", "tinynet:gives_text"), "tinynet:gives_text gave str, which cannot be called on images"),
        (("averages", "--model", "tinynet:make"), "nothing says what tinynet:make was trained on; give --data"),
        ((*AVERAGES, "--model", "tinynet:make", "--weights", "w"), "--weights says nothing about tinynet:make"),
        (("train", "--model", "tinynet:for_colors"), "training takes a Flax NNX module, tinynet:for_colors is a"),
        (("neurons",), "give --averages RUN, or --model for a network whose averages are to be computed"),
        (("neurons", "--averages", "nowhere"), "there is no run directory nowhere"),
        (("prune", "--neurons", "nowhere"), "there is no run directory nowhere"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_named_with_the_closest_that_does(jaxcam, out, words, line):
    where = () if words[0] == "layers" else ("--out", out)
    assert refused(jaxcam(*words, *where)).startswith(line)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("trian",), "no command 'trian'; did you mean 'train'? There are demo, train, layers"),
        (("train", "--epoch", 3), "No such option '--epoch'"),
        (("train", "--epochs", "many"), "Invalid value for '--epochs': 'many' is no whole number"),
        (("train", "--epochs", 0), "Invalid value for '--epochs': 0 is too small; give 1 or more"),
        (("averages", "--out", "x"), "Missing option '--model'"),
        (("train",), "Missing option '--out'"),
        (("neurons", "--rule", "guidde", "--out", "x"), "Invalid value for '--rule': 'guidde' is not one of"),
        (("neurons", "--metric", "cosin", "--out", "x"), "Invalid value for '--metric': 'cosin' is not one of"),
        (("neurons", "--memory", "2048", "--out", "x"), "Invalid value for '--memory': '2048' is no amount"),
        (("neurons", "--memory", "2 miles", "--out", "x"), "Invalid value for '--memory': '2 miles' is no amount"),
        (("neurons", "--memory", "0GB", "--out", "x"), "Invalid value for '--memory': '0GB' is no memory"),
        (("prune", "--neurons", "x", "--fraction", 1.2, "--out", "x"), "Invalid value for '--fraction'"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_exits_with_2(jaxcam, words, line):
    said = refused(jaxcam(*words), code=2)
    assert said.startswith(line)
    assert said.endswith("--help shows how")


def test_an_unknown_layer_is_named_with_the_closest(runs, jaxcam, out):
    line = refused(jaxcam("neurons", "--averages", "runs/averages", "--layer", "conv11", "--out", out))
    assert line.startswith(
        "no layer 'conv11'; did you mean 'conv1'? jc.layers(model, x), or jaxcam layers MODEL, lists"
    )
    line = refused(jaxcam("prune", "--neurons", "runs/neurons", "--layer", "conf0", "--out", out))
    assert line.startswith("no layer 'conf0'; did you mean 'conv0'?")


def test_a_kind_of_average_that_does_not_exist_or_was_not_made_is_refused(runs, jaxcam, out):
    assert refused(jaxcam("averages", "--model", "runs/train", "--kind", "simpel", "--out", out)).startswith(
        "no average 'simpel'; did you mean 'simple'?"
    )
    assert refused(jaxcam("averages", "--model", "runs/train", "--kind", ",", "--out", out)).startswith(
        "--kind names no average"
    )


def test_the_runs_of_other_commands_are_not_mistaken(runs, jaxcam, out):
    line = refused(jaxcam("neurons", "--averages", "runs/train", "--out", out))
    assert line == "runs/train is a run of jaxcam train; jaxcam averages --out DIR makes what is needed here"
    line = refused(jaxcam("prune", "--neurons", "runs", "--out", out))
    assert line == "runs is not a run of jaxcam neurons; did you mean runs/neurons?"
    line = refused(jaxcam("averages", "--model", "runs", "--out", out))
    assert line == "runs is no training run; did you mean runs/train?"
    line = refused(jaxcam("averages", "--model", "runs/prune", "--out", out))
    assert line.startswith("runs/prune is a run of jaxcam prune, not a training run")


def test_images_of_another_size_are_refused(jaxcam, out, checkpoint):
    line = refused(jaxcam("averages", "--model", checkpoint, "--image-size", 16, "--out", out))
    assert line.startswith(f"{checkpoint} was saved with image_size=8, not 16")


def test_images_of_another_number_of_channels_are_refused(jaxcam, out, checkpoint, photos):
    line = refused(jaxcam("averages", "--model", checkpoint, "--data", photos, "--out", out))
    assert "alexnet does not take the 8×8×3 images of" in line
    line = refused(jaxcam(*AVERAGES, "--model", "tinynet:for_colors", "--out", out))
    assert line.startswith("tinynet:for_colors does not take the 32×32×1 images of digits")


def test_classes_the_network_was_not_trained_on_are_named(jaxcam, out, photos, tmp_path):
    network = models.load("alexnet", classes=2, image_size=8, convolutions=1)
    path = models.save(network, tmp_path / "pets.safetensors", names=["cats", "dog"])
    line = refused(jaxcam("averages", "--model", path, "--data", photos, "--out", out))
    assert "has a class 'cat' that alexnet was not trained on; did you mean 'cats'? It knows cats, dog" in line


def test_outputs_that_nobody_can_guess_have_to_be_given(jaxcam, out, photos, tmp_path):
    path = models.save(models.load("alexnet", classes=7, image_size=8, convolutions=1), tmp_path / "w.safetensors")
    words = ("averages", "--model", path, "--data", photos, "--out", out)
    assert "has 7 outputs" in refused(jaxcam(*words))
    assert "say with --outputs which output each class is, in the order cat, dog" in refused(jaxcam(*words))
    assert refused(jaxcam(*words, "--outputs", "1,7")) == "--outputs 1,7: alexnet has the outputs 0 to 6"
    assert refused(jaxcam(*words, "--outputs", "1")).startswith("--outputs names 1 outputs")


def test_a_class_of_fewer_than_k_images_is_named(runs, jaxcam, out):
    line = refused(jaxcam("averages", "--model", "runs/train", "-k", 21, "--out", out))
    assert line.startswith("the class '0' of digits (train) has 20 images, fewer than the 21 to average; give -k 20")


def test_an_empty_class_is_named(jaxcam, out, photos, tmp_path):
    place = shutil.copytree(photos, tmp_path / "pets")
    (place / "fish").mkdir()
    line = refused(jaxcam("train", "--data", place, "--image-size", 8, "--out", out), code=3)
    assert line.startswith("the class 'fish' has no image in")


def test_broken_pictures_are_named_and_skipped_only_on_request(jaxcam, out, photos, tmp_path):
    place = shutil.copytree(photos, tmp_path / "pets")
    (place / "cat/3.png").write_bytes((place / "cat/3.png").read_bytes()[:60])
    (place / "dog/1.png").write_text("woof")
    line = refused(jaxcam("train", "--data", place, "--image-size", 8, "--out", out))
    assert "images in" in line
    assert "cannot be read: " in line
    assert "--skip-broken" in line
    skipped = ("train", "--data", place, "--image-size", 8, "--skip-broken", "--learning-rate", -1, "--out", out)
    with pytest.warns(UserWarning, match="were skipped"):
        assert refused(jaxcam(*skipped)).startswith("learning_rate must be above 0")


def test_a_class_that_is_one_color_all_over_is_refused(jaxcam, out, tmp_path):
    for name in ("black", "white"):
        (tmp_path / "colors" / name).mkdir(parents=True)
        for number in range(3):
            PIL.Image.new("RGB", (9, 9), name).save(tmp_path / "colors" / name / f"{number}.png")
    network = models.load("alexnet", classes=2, image_size=8, convolutions=1)
    path = models.save(network, tmp_path / "network.safetensors", names=["black", "white"])
    words = ("neurons", "--model", path, "--data", tmp_path / "colors", "--average", "simple", "--out", out)
    assert refused(jaxcam(*words)).startswith("the average of class 'black' is 0 everywhere")


def test_a_network_that_answers_nan_is_refused(jaxcam, out, tmp_path, checkpoint):
    broken = models.load(checkpoint)
    broken.classifier.dense1.bias.set_value(np.full(10, np.nan, np.float32))
    path = models.save(broken, tmp_path / "nan.safetensors", data={"name": "digits"})
    line = refused(jaxcam("averages", "--model", path, "--kind", "most", "-k", 5, "--out", out))
    assert line.startswith("the model answers NaN")


def test_weight_files_are_read_whole_or_not_at_all(jaxcam, out, tmp_path, checkpoint):
    words = ("averages", "--model", "alexnet", "--image-size", 8, "--data", "digits", "--out", out)
    missing = tmp_path / "netwrok.safetensors"
    line = refused(jaxcam(*words, "--weights", missing), code=3)
    assert line == f"no file {missing}; did you mean 'network.safetensors'? It is in the same folder"
    line = refused(jaxcam("averages", "--model", missing, "--out", out), code=3)
    assert line.startswith(f"no model '{missing}': did you mean 'network.safetensors'?")
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(checkpoint.read_bytes()[:-100])
    assert refused(jaxcam(*words, "--weights", truncated)).startswith(f"{truncated} is no whole safetensors file")
    assert refused(jaxcam("averages", "--model", truncated, "--out", out)).startswith(f"{truncated} is no whole")


def test_weights_of_another_architecture_are_listed(jaxcam, out, tmp_path):
    other = models.load("vgg11", classes=10, image_size=8, channels=1, convolutions=1)
    path = models.save(other, tmp_path / "vgg.safetensors", layout="torchvision")
    words = ("averages", "--model", "alexnet", "--image-size", 8, "--data", "digits", "--weights", path, "--out", out)
    assert refused(jaxcam(*words)).startswith(f"{path} was saved from vgg11, not alexnet")


def test_the_weights_of_ones_own_network_need_its_training_run(jaxcam, out, runs):
    line = refused(jaxcam("averages", "--model", "runs/train/model.safetensors", "--out", out))
    assert line.endswith("holds a network of your own; give the directory it was trained in")


def test_without_a_network_weights_of_the_hub_are_a_matter_of_the_environment(start, out):
    from cli_helpers import ended

    offline = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(out.parent / "cache")}
    words = ("averages", "--model", "alexnet", "--weights", "nobody/nothing", "--data", "digits", "--out", out)
    line = refused(ended(start(*words, **offline)), code=3)
    assert line.startswith("cannot fetch model.safetensors of nobody/nothing")


def test_what_is_no_run_cannot_be_reported(jaxcam, tmp_path):
    assert refused(jaxcam("report", tmp_path / "nothing")).startswith("there is no run directory")
    assert "nothing to report" in refused(jaxcam("report", tmp_path))


def test_a_bug_is_one_line_too_and_says_how_to_see_more(jaxcam, out, monkeypatch):
    def broken(*args, **options):
        raise KeyError("x")

    monkeypatch.setattr("jaxcam.data.load", broken)
    line = refused(jaxcam("train", "--out", out), code=70)
    assert line == "unexpected KeyError: x; JAXCAM_DEBUG=1 shows where it comes from"
    monkeypatch.setenv("JAXCAM_DEBUG", "1")
    said = jaxcam("train", "--out", out)
    assert said.code == 70
    assert "Traceback" in said.err


def test_a_memory_that_is_taken_already_says_what_would_do(runs, jaxcam, out):
    line = refused(jaxcam("neurons", "--averages", "runs/averages", "--memory", "1MB", "--out", out))
    assert line.startswith("a memory of 0.001 GB is too small: libraries and the model take")


def test_running_out_of_memory_is_a_matter_of_the_environment(jaxcam, out, monkeypatch):
    def greedy(*args, **options):
        raise MemoryError

    monkeypatch.setattr("jaxcam.data.load", greedy)
    assert refused(jaxcam("train", "--out", out), code=3).startswith("out of memory")


def test_layers_takes_its_model_as_other_commands_do(jaxcam):
    words = ("--image-size", 8, "--channels", 1)
    said = jaxcam("layers", "--model", "tinynet:make", *words)
    assert said == jaxcam("layers", "tinynet:make", *words)
    assert said.code == 0
    line = refused(jaxcam("layers", "tinynet:make", "--model", "alexnet"), code=2)
    assert line.startswith("MODEL is tinynet:make, and --model is alexnet; give one of them")


@pytest.mark.parametrize(
    ("option", "value"), [("--graph", "a.png"), ("--weights", "a.png"), ("--image-size", 8), ("--classes", 3)]
)
def test_layers_without_a_model_ignores_nothing(jaxcam, option, value):
    line = refused(jaxcam("layers", option, value), code=2)
    assert line.startswith(f"{option} is about a network; say which: jaxcam layers MODEL {option} …")


@pytest.mark.parametrize("option", ["--graph", "--weights"])
def test_a_file_in_a_folder_that_is_not_there_is_named_as_it_was_given(jaxcam, tmp_path, option):
    words = ("layers", "tinynet:make", "--image-size", 8, "--channels", 1, option)
    line = refused(jaxcam(*words, tmp_path / "nowhere/a.svg"), code=3)
    assert line == f"{tmp_path}/nowhere/a.svg: there is no folder {tmp_path}/nowhere"
    (tmp_path / "a.svg").mkdir()
    line = refused(jaxcam(*words, tmp_path / "a.svg"), code=3)
    assert line == f"{tmp_path}/a.svg: is a folder, not a file to write to"
    (tmp_path / "file").touch()
    line = refused(jaxcam(*words, tmp_path / "file/a.svg"), code=3)
    assert line == f"{tmp_path}/file/a.svg: there is no folder {tmp_path}/file"
    line = refused(jaxcam(*words, tmp_path / f"{'a' * 300}.svg"), code=3)
    assert line == f"{tmp_path}/{'a' * 300}.svg: File name too long"


def test_a_page_in_a_folder_that_is_not_there_is_named_as_it_was_given(runs, jaxcam, tmp_path):
    line = refused(jaxcam("report", "runs/averages", "--out", tmp_path / "nowhere/page.html"), code=3)
    assert line == f"{tmp_path}/nowhere/page.html: there is no folder {tmp_path}/nowhere"


def test_a_command_whose_output_nobody_reads_ends_quietly(start):
    for words in (("layers",), ("--help",)):
        process = start(*words)
        process.stdout.close()
        assert process.wait(timeout=120) == 141
        assert process.stderr.read() == ""
