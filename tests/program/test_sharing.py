"""Work that several devices share gives what one device gives: eight virtual ones, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam as jc
from jaxcam.program import sharing
from jaxcam.program.sharing import IMAGES, VARIANTS, divided, mesh_for, spread, ways

WORK = (
    "saliency",
    "saliency of six images",
    "grad_cam",
    "integrated_gradients",
    "smooth_grad",
    "rise",
    "score_cam",
    "occlusion",
    "units",
    "maps",
    "landscape",
    "training",
)
# Reduced to numbers on the host, or brought back to one device.
ON_ONE = {"units", "landscape", "training"}


@pytest.fixture(scope="module")
def shared():
    said = subprocess.run(
        [sys.executable, Path(__file__).with_name("sharing_probe.py")], capture_output=True, text=True, check=True
    )
    return json.loads(said.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", WORK)
def test_two_and_eight_devices_give_what_one_gives(shared, name):
    # Sums in another order: float32's 6e-8, a few times over.
    assert shared[name]["difference"] <= 1e-6
    assert shared[name]["held by"] == (1 if name in ON_ONE else 8)


@pytest.mark.slow
def test_nothing_that_is_shared_goes_untested(shared):
    assert sorted(shared) == sorted(WORK)


def test_more_devices_than_there_are_is_an_error():
    with pytest.raises(ValueError, match=r"1 local devices, so 1 to 1 can share the work; got 2"), jc.devices(2):
        pass
    with pytest.raises(ValueError, match="no devices"), jc.devices([]):
        pass


def test_one_device_divides_nothing():
    assert mesh_for(4, jnp.ones(3)) is None
    assert ways() == 1
    whole = np.ones(3)
    assert spread(whole) is whole


class Told:
    """A mesh of devices that are numbers."""

    def __init__(self, devices, names):
        self.devices, self.names = devices.tolist(), names


@pytest.fixture
def eight(monkeypatch):
    """A machine of eight devices."""
    monkeypatch.setattr(jax, "local_devices", lambda: list(range(8)))
    monkeypatch.setattr(sharing, "Mesh", Told)


@pytest.mark.parametrize(("images", "shape"), [(1, (1, 8)), (4, (4, 2)), (6, (2, 4)), (16, (8, 1))])
def test_images_are_shared_by_as_many_devices_as_divide_them(eight, images, shape):
    mesh = mesh_for(images, ())
    assert np.shape(mesh.devices) == shape
    assert sorted(np.ravel(mesh.devices)) == list(range(8))
    assert mesh.names == (IMAGES, VARIANTS)


def test_the_devices_chosen_are_those_until_the_context_ends(eight):
    with jc.devices([5, 6]):
        assert mesh_for(1, ()).devices == [[5, 6]]
    assert mesh_for(1, ()).devices == [list(range(8))]


def test_what_a_caller_has_placed_stays_there(eight):
    placed = jax.device_put(np.ones(3), jax.devices()[0])
    assert mesh_for(1, {"x": placed}) is None
    assert mesh_for(1, {"x": jnp.ones(3)}) is not None


def test_under_a_transformation_of_the_callers_nothing_is_divided_unasked(eight):
    seen = []
    jax.make_jaxpr(lambda x: seen.append(mesh_for(1, x)) or x)(1.0)
    with jc.devices(2):
        jax.make_jaxpr(lambda x: seen.append(mesh_for(1, x)) or x)(1.0)
    assert seen[0] is None
    assert seen[1].devices == [[0, 1]]


def test_the_choice_ends_with_its_context():
    with jc.devices(jax.local_devices()[:1]) as chosen:
        assert chosen == tuple(jax.local_devices()[:1])
    with pytest.raises(KeyError), jc.devices(1):
        raise KeyError
    assert mesh_for(1, ()) is None


def test_images_are_dealt_out_as_far_as_they_go_and_variants_over_the_rest():
    device = jax.local_devices()[0]
    mesh = jax.sharding.Mesh(np.array([device]).reshape(1, 1), (IMAGES, VARIANTS))
    with divided(mesh):
        assert (ways(IMAGES), ways()) == (1, 1)
        assert jax.jit(lambda x: spread({"a": x}))(jnp.arange(3))["a"].tolist() == [0, 1, 2]
