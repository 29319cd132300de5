"""The walk over active entries against loops over everything, and against the plain pass on the same network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from neurons_nets import NETS, Net, convolve, max_pool, net, norm_parameters, normalize, parameters
from neurons_twins import close

from jaxcam.neurons import descent
from jaxcam.neurons import engine as engine_module
from jaxcam.neurons.active import Convolution, Seeds, Skip, Step, entries
from jaxcam.neurons.budget import bytes_per_unit
from jaxcam.neurons.cuts import Walk
from jaxcam.neurons.descent import ActivePass, Stop
from jaxcam.neurons.engine import Engine
from jaxcam.program import layers, tag

pytestmark = pytest.mark.optimized

# The same products, summed in another order: float32's 6e-8 a few times over.
TOLERANCE = 1e-6


@dataclasses.dataclass
class Stage:
    """One convolution of a chain as the forward pass would leave it: how it is laid, what it passed, who won."""

    convolution: Convolution
    passed: np.ndarray
    winners: np.ndarray | None
    pool: dict | None

    @property
    def above(self):
        return self.passed.shape if self.winners is None else self.winners.shape


def draw_stage(rng, above):
    """A stage whose value above has so many pixels, or a few more; every geometry a convolution can have."""
    h, w, u = above
    winners = pool = None
    if rng.random() < 0.6:
        size, strides = (int(n) for n in rng.integers(1, 4, 2)), (int(n) for n in rng.integers(1, 4, 2))
        pool = {"size": tuple(size), "strides": tuple(strides)}
        # Nothing but padding must not win: less padding than the window is long.
        pool["padding"] = tuple(int(rng.integers(0, length)) for length in pool["size"])
        whole = [
            (n - 1) * step + length - pad + int(rng.integers(0, 2))
            for n, step, length, pad in zip(above, pool["strides"], pool["size"], pool["padding"], strict=False)
        ]
        h, w = (max(1, n) for n in whole)
        winners = np.empty(above, int)
        for y, x, unit in np.ndindex(*above):
            top, left = y * pool["strides"][0] - pool["padding"][0], x * pool["strides"][1] - pool["padding"][1]
            inside = [
                i * pool["size"][1] + j for i, j in np.ndindex(*pool["size"]) if 0 <= top + i < h and 0 <= left + j < w
            ]
            winners[y, x, unit] = rng.choice(inside)
    passed = np.where(rng.random((h, w, u)) < rng.choice([0, 0.3, 0.8, 1]), rng.normal(size=(h, w, u)), 0)
    size, strides, dilation = (tuple(int(n) for n in rng.integers(1, 4, 2)) for _ in range(3))
    padding = tuple(int(n) for n in rng.integers(-1, 4, 2))
    below = [
        (n - 1) * step + (k - 1) * spread + 1 - pad - int(rng.integers(0, 3))
        for n, step, k, spread, pad in zip((h, w), strides, size, dilation, padding, strict=True)
    ]
    c = int(rng.integers(1, 5))
    kernel = rng.normal(size=(*size, c, u)).astype(np.float32)
    shape = (max(1, below[0]), max(1, below[1]), c)
    geometry = Convolution(kernel, strides, padding, dilation, shape, (h, w, u))
    return Stage(geometry, passed.astype(np.float32), winners, pool)


def sent_back(stages, cotangent, guided):
    """The same by loops over all pixels, in float64."""
    for stage in stages:
        signal = np.asarray(cotangent, np.float64)
        if stage.winners is not None:
            spread = np.zeros(stage.passed.shape)
            for y, x, unit in np.ndindex(*stage.winners.shape):
                i, j = divmod(int(stage.winners[y, x, unit]), stage.pool["size"][1])
                row = y * stage.pool["strides"][0] - stage.pool["padding"][0] + i
                column = x * stage.pool["strides"][1] - stage.pool["padding"][1] + j
                spread[row, column, unit] += signal[y, x, unit]
            signal = spread
        signal = (np.maximum(signal, 0) if guided else signal) * stage.passed
        laid, h, w = stage.convolution, *stage.convolution.input_shape[:2]
        cotangent = np.zeros(laid.input_shape)
        for y, x in np.ndindex(*signal.shape[:2]):
            for i, j in np.ndindex(*laid.kernel.shape[:2]):
                row = y * laid.strides[0] - laid.padding[0] + i * laid.dilation[0]
                column = x * laid.strides[1] - laid.padding[1] + j * laid.dilation[1]
                if 0 <= row < h and 0 <= column < w:
                    cotangent[row, column] += laid.kernel[i, j] @ signal[y, x]
    return cotangent


@pytest.mark.parametrize("seed", range(60))
def test_a_walk_down_any_chain_equals_loops_over_all_pixels(seed):
    rng = np.random.default_rng(seed)
    above = tuple(int(n) for n in rng.integers(1, 5, 3))
    stages = []
    for _ in range(int(rng.integers(1, 4))):
        stages.append(draw_stage(rng, above))
        above = stages[-1].convolution.input_shape
        if np.prod(above) > 500:  # enough for loops
            break
    guided = bool(seed % 2)
    cotangents = rng.normal(size=(int(np.prod(stages[0].above)), 5)).astype(np.float32)
    before = cotangents.copy()
    found = sent(ActivePass(stops(stages), stages[-1].convolution.input_shape, guided), stages[0].above, cotangents)
    wanted = [sent_back(stages, cotangents[:, b].reshape(stages[0].above), guided).reshape(-1) for b in range(5)]
    np.testing.assert_array_equal(cotangents, before)
    close(found, np.stack(wanted), TOLERANCE)


def sent(walk, above, cotangents):
    """What comes back from any cotangents (h·w·c, b): those of units whose kernels are as large as the image."""
    h, w, c = above
    b = cotangents.shape[1]
    layer = Convolution(cotangents.reshape(h, w, c, b), (1, 1), (0, 0), (1, 1), above, (1, 1, b))
    signal = walk(Seeds(layer, np.ones((1, 1, b), np.float32)), np.arange(b))
    return signal.transpose(0, 2, 1).reshape(-1, signal.shape[1])[:b]


def stops(stages):
    """A chain as the pass takes it."""
    active = [entries(s.passed, s.winners, s.pool) for s in stages]
    wanted = [*(above.wanted for above in active[1:]), np.arange(np.prod(stages[-1].convolution.input_shape))]
    steps = [Step(s.convolution, *found, s.passed) for s, *found in zip(stages, active, wanted, strict=True)]
    return [Stop(i, above, [(i + 1, step)]) for i, (above, step) in enumerate(zip(active, steps, strict=True))]


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_sums_of_convolutions_and_skips_equal_loops_over_all_pixels(seed, guided):
    """relu(scale · (convolution of v + v)) above relu(...) = v, above convolutions of x; any order of the ways."""
    rng = np.random.default_rng(seed)
    h, w, c = (int(n) for n in rng.integers(2, 6, 3))
    shape, masks = (h, w, c), [np.where(rng.random((h, w, c)) < 0.6, rng.normal(size=(h, w, c)), 0) for _ in range(2)]
    laid = lambda: Convolution(rng.normal(size=(3, 3, c, c)).astype(np.float32), (1, 1), (1, 1), (1, 1), shape, shape)
    block, stem = laid(), laid()
    scale = rng.normal(size=shape).astype(np.float32)
    upper, lower = (entries(mask.astype(np.float32), None, None) for mask in masks)
    everything = np.arange(h * w * c)
    ways = [(1, Step(block, upper, lower.wanted, masks[0])), (1, Skip(upper, lower.wanted, masks[0] * scale))]
    below = [(2, Step(stem, lower, everything, masks[1])), (2, Skip(lower, everything))]
    order = [slice(None), slice(None, None, -1)][seed % 2]
    walk = ActivePass([Stop(0, upper, ways[order]), Stop(1, lower, below[order])], shape, guided)
    cotangents = rng.normal(size=(h * w * c, 4)).astype(np.float32)
    found = sent(walk, shape, cotangents)
    for b in range(4):
        clip = (lambda v: np.maximum(v, 0)) if guided else (lambda v: v)
        top = clip(cotangents[:, b].reshape(shape).astype(float)) * (masks[0] != 0)
        middle = back(block, top * masks[0]) + top * masks[0] * scale
        middle = clip(middle) * (masks[1] != 0)
        wanted = back(stem, middle * masks[1]) + middle
        close(found[b : b + 1], wanted.reshape(1, -1), TOLERANCE)


def back(laid, signal):
    """A convolution backward by loops."""
    return sent_back([Stage(laid, np.ones(signal.shape), None, None)], signal, guided=False)


def test_layers_share_the_steps_they_have_in_common():
    net = NETS["residual"]()
    image = Engine(net.model, net.x.shape, net.layers, "guided").image(net.x)
    two, last = (image.layer(name).walk for name in ("two", "last"))
    known = {id(way) for stop in last.stops for _, way in stop.ways}
    assert known > {id(way) for stop in two.stops for _, way in stop.ways}


def test_a_layer_with_nothing_below_it_takes_nothing_from_the_others():
    net = NETS["residual"]()
    names = [layer.name for layer in layers(net.model, net.x) if layer.kind == "conv"]
    engine = Engine(net.model, net.x.shape, names, "guided")
    image = engine.image(net.x)
    before = {id(way) for stop in image.layer("last").walk.stops for _, way in stop.ways}
    assert isinstance(image.layer(names[0]).walk, Walk)
    assert before == {id(way) for stop in image.layer("last").walk.stops for _, way in stop.ways}


def plain(engine):
    """The engine without its chains."""
    engine.links = {name: [] for name in engine.layers}
    return engine


def both_ways(net, rule, **options):
    """For each layer its walk and its plain pass."""
    make = lambda: Engine(net.model, net.x.shape, net.layers, rule, **options)
    walking, straight = make().image(net.x), plain(make()).image(net.x)
    return [(walking.layer(name), straight.layer(name)) for name in net.layers]


@pytest.fixture(scope="module")
def pooled():
    """Two layers on chains with pools that overlap; compiled once for all parameters and images of its shapes."""
    return NETS["overlapping pools"]()


def changed(net, change=lambda path, p: p, x=None):
    """The net with other numbers in the same places, so that nothing is compiled again."""
    model = jax.tree_util.tree_map_with_path(lambda path, p: jnp.asarray(change(str(path), np.array(p))), net.model)
    return Net(model, net.x if x is None else jnp.asarray(x, jnp.float32), net.layers)


def shifted(by, only=""):
    return lambda path, p: p + np.float32(by) if "bias" in path and only in path else p


LIT = np.zeros((1, 19, 17, 2))
LIT[0, 9, 8] = 1
CONDITIONS = {
    "as drawn": {},
    "every unit active": {"change": lambda path, p: np.abs(p)},
    "most units dead": {"change": shifted(-0.6)},
    "all units dead": {"change": shifted(-100.0)},
    "the layer below dead": {"change": shifted(-100.0, "'a'")},
    "the layer itself dead": {"change": shifted(-100.0, "'b'")},
    "a constant image": {"x": np.full((1, 19, 17, 2), 0.5)},
    "a black image": {"x": np.zeros((1, 19, 17, 2))},
    "one pixel lit": {"x": LIT},
    "negative pixels": {"x": -np.random.default_rng(3).random((1, 19, 17, 2))},
    "ties everywhere": {"change": lambda path, p: np.sign(p), "x": np.ones((1, 19, 17, 2))},
    "a kernel of zeros": {"change": lambda path, p: 0 * p if "'b'" in path and "kernel" in path else p},
}


@pytest.mark.parametrize("rule", ["guided", "gradient"])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_walk_equals_the_plain_pass(pooled, condition, rule):
    net = changed(pooled, **CONDITIONS[condition])
    for walked, straight in both_ways(net, rule):
        assert isinstance(walked.walk, ActivePass)
        assert isinstance(straight.walk, Walk)
        np.testing.assert_array_equal(walked.dead, straight.dead)
        np.testing.assert_allclose(walked.activation, straight.activation, rtol=1e-5, atol=1e-6)
        units = np.arange(walked.units)
        close(walked.maps(units), straight.maps(units), TOLERANCE)


def test_the_conditions_are_what_they_are_called(pooled):
    dead = {}
    for condition in CONDITIONS:
        net = changed(pooled, **CONDITIONS[condition])
        dead[condition] = [walked.dead.mean() for walked, _ in both_ways(net, "guided")]
    assert dead["every unit active"] == [0, 0]
    assert dead["all units dead"] == [1, 1]
    assert dead["the layer itself dead"][0] == 1
    assert 0 < dead["most units dead"][0] < 1


WALKING = {
    "chain": ["conv1", "conv2"],
    "normalized": ["b"],
    "no bias": ["b"],
    "relu6": ["b", "c"],
    "negative scales": ["conv1", "conv2"],
    "reused": ["again", "again@2"],
    "linen": ["second"],
    "nnx": ["features.0"],
    "closure": ["conv_1"],
    "residual": ["two", "last"],
    "branches": ["whole", "halved", "after_one", "after_other"],
    "equinox": [],  # channels first
    "grouped": [],
    "dense": [],
}


@pytest.mark.parametrize("name", WALKING)
def test_what_can_walk_does_and_nothing_else(name):
    net = NETS[name]()
    for rule in ("guided", "gradient"):
        links = Engine(net.model, net.x.shape, net.layers, rule).links
        assert [layer for layer in net.layers if links[layer]] == WALKING[name]
    for rule in ("deconv", "integrated"):
        assert not any(Engine(net.model, net.x.shape, net.layers, rule).links.values())


def blocks(p, x):
    """A stem with a pool that overlaps, a block with a projection, one with a skip that is scaled, tags between."""
    x = max_pool(jax.nn.relu(normalize(convolve(x, p["stem"]), p["norm"])), 3, 2, "SAME")
    y = convolve(jax.nn.relu(convolve(x, p["one"], (2, 2))), p["two"])
    x = tag(jax.nn.relu(normalize(y, p["norm"]) + convolve(x, p["project"], (2, 2))), "first")
    y = convolve(jax.nn.relu(convolve(x, p["three"])), p["four"])
    x = tag(tag(jax.nn.relu(normalize(0.7 * x + y, p["scales"])), "second"), "stage")
    return jax.nn.relu(convolve(x, p["last"])).mean((1, 2))


def summed_early(p, x):
    """Networks that rectify first: the second sum adds a sum, which is no rectified value."""
    x = convolve(x, p["stem"])
    x = x + convolve(jax.nn.relu(normalize(x, p["norm"])), p["four"])
    x = x + convolve(jax.nn.relu(normalize(x, p["scales"])), p["three"])
    return jax.nn.relu(convolve(jax.nn.relu(x), p["last"])).mean((1, 2))


def pooled_and_not(p, x):
    """One rectified value read pooled and as it is: its cotangents have to meet before they are clipped."""
    x = jax.nn.relu(convolve(x, p["stem"]))
    x = jax.nn.relu(convolve(max_pool(x), p["three"]) + convolve(x, p["one"], (2, 2)))
    return jax.nn.relu(convolve(x, p["last"])).mean((1, 2))


def concatenated(p, x):
    x = jax.nn.relu(convolve(x, p["stem"]))
    y = jax.nn.relu(convolve(x, p["three"]))
    return convolve(jnp.concatenate([x, y], -1), p["wide"]).mean((1, 2))


SUMS = {
    blocks: ["one", "two", "project", "three", "four", "last"],
    summed_early: ["four", "three"],
    pooled_and_not: ["three", "one"],
}


@pytest.mark.parametrize(
    "function",
    [blocks, pooled_and_not, *(pytest.param(f, marks=pytest.mark.slow) for f in (summed_early, concatenated))],
)
def test_sums_walk_where_all_ways_lead_over_rectified_values(function):
    rng = np.random.default_rng(5)
    p = {"stem": parameters(rng, 2, 4), "project": parameters(rng, 4, 4, 1), "wide": parameters(rng, 8, 3)}
    p |= {name: parameters(rng, 4, 4) for name in ("one", "two", "three", "four", "last")}
    p |= {"norm": norm_parameters(rng, 4), "scales": norm_parameters(rng, 4, negative=True)}
    made = net(function, p, (14, 12, 2))
    asked = [layer.name for layer in layers(made.model, made.x) if layer.kind == "conv"]
    made = dataclasses.replace(made, layers=tuple(asked))
    for rule in ("guided", "gradient"):
        walking = []
        for walked, straight in both_ways(made, rule):
            walking += [walked.name] * isinstance(walked.walk, ActivePass)
            units = np.arange(walked.units)
            close(walked.maps(units), straight.maps(units), TOLERANCE)
        assert walking == SUMS.get(function, ["three"])


@pytest.mark.parametrize("threads", [1, 2, 5, 64])
def test_any_number_of_threads_gives_the_same_bits(pooled, threads, monkeypatch):
    units = np.arange(4)
    monkeypatch.setattr(descent, "workers", lambda: 3)
    once = Engine(pooled.model, pooled.x.shape, ["c"], "guided").image(pooled.x).layer("c").maps(units)
    monkeypatch.setattr(descent, "workers", lambda: threads)
    again = Engine(pooled.model, pooled.x.shape, ["c"], "guided").image(pooled.x).layer("c").maps(units)
    np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize("walks", [True, False])
def test_chunks_of_any_size_give_the_same(pooled, walks):
    engine = Engine(pooled.model, pooled.x.shape, ["b"], "guided")
    sender = (engine if walks else plain(engine)).image(pooled.x).layer("b")
    whole = np.asarray(sender.maps(np.arange(5)))
    for chunk in (1, 3, 5, 6):
        sender.__dict__["chunk"] = chunk
        parts = list(sender.chunks(np.arange(5)))
        assert [len(units) for units, _ in parts] == {1: [1] * 5, 3: [3, 2], 5: [5], 6: [5]}[chunk]
        assert {len(maps) for _, maps in parts} == {chunk}
        close(np.concatenate([np.asarray(maps)[: len(units)] for units, maps in parts]), whole, TOLERANCE)


def test_units_come_in_any_order_and_as_often_as_asked(pooled):
    sender = Engine(pooled.model, pooled.x.shape, ["b"], "guided").image(pooled.x).layer("b")
    whole = np.asarray(sender.maps(np.arange(5)))
    close(sender.maps(np.array([4, 0, 4, 2])), whole[[4, 0, 4, 2]], TOLERANCE)


def test_layers_may_be_gone_through_side_by_side(pooled, monkeypatch):
    monkeypatch.setattr(engine_module, "_SMALL", 1)  # each map in a part of its own
    engine = Engine(pooled.model, pooled.x.shape, ["b", "c"], "guided")
    b, c = (engine.image(pooled.x).layer(name) for name in ("b", "c"))
    wanted = [np.asarray(sender.maps(np.arange(4))) for sender in (b, c)]
    both = list(zip(b.chunks(np.arange(4)), c.chunks(np.arange(4)), strict=True))
    assert len(both) == 4
    for i, whole in enumerate(wanted):
        np.testing.assert_array_equal(np.concatenate([np.asarray(pair[i][1]) for pair in both]), whole)


def test_a_small_memory_budget_goes_the_plain_way_unit_by_unit(pooled):
    roomy, tight = (
        Engine(pooled.model, pooled.x.shape, ["c"], "guided", memory=memory).image(pooled.x).layer("c")
        for memory in (1 << 30, 9_000)
    )
    assert [type(sender.walk) for sender in (roomy, tight)] == [ActivePass, Walk]
    assert (roomy.chunk, tight.chunk) == (4, 1)
    found = [np.asarray(maps) for _, maps in tight.chunks(np.arange(4))]
    close(np.concatenate(found), roomy.maps(np.arange(4)), TOLERANCE)


def test_what_was_refused_is_not_looked_at_again(pooled, monkeypatch):
    looked = []
    facts = Walk.facts
    monkeypatch.setattr(Walk, "facts", lambda self, links: looked.append(len(links)) or facts(self, links))
    image = Engine(pooled.model, pooled.x.shape, ["b", "c"], "guided", memory=500).image(pooled.x)
    for name in ("b", "c", "b"):
        assert isinstance(image.layer(name).walk, Walk)
    assert looked == [1]  # what is below b, which is below c as well


@pytest.mark.parametrize(("units_that_fit", "chunk"), [(0.1, 1), (1, 1), (2, 2), (3, 2), (4, 4), (1000, 5)])
def test_a_chunk_is_the_largest_power_of_two_that_fits(pooled, units_that_fit, chunk):
    engine = Engine(pooled.model, pooled.x.shape, ["b"], "deconv")
    each = bytes_per_unit(engine.anatomy, engine.anatomy.find("b"))
    engine.memory = int(units_that_fit * each)
    assert engine.chunk("b", 5) == chunk
