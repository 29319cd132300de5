"""The smallest p that a test by random draws can have: against every outcome, and said where it is too large."""

import dataclasses
import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jaxcam import studies
from jaxcam.studies.monte_carlo import CORRECTIONS, UNABLE, corrections, resolution

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
MAPS = RANDOM.normal(size=(12, 4, 4))


def counts(draws):
    """All p-values that a test by so many draws can have."""
    return [(1 + larger) / (1 + draws) for larger in range(draws + 1)]


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize(("draws", "tests"), [(1, 1), (3, 2), (4, 3), (2, 4)])
def test_no_outcome_has_a_smaller_corrected_p(correction, draws, tests):
    every = itertools.product(counts(draws), repeat=tests)
    smallest = min(corrections(np.array(outcome), correction).min() for outcome in every)
    assert resolution(draws, tests, correction).smallest == smallest


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_no_outcome_beside_tests_that_need_no_draws_has_a_smaller_one(correction):
    every = itertools.product([0.0], [0.0], counts(4), counts(4))
    smallest = min(corrections(np.array(outcome), correction)[2:].min() for outcome in every)
    assert resolution(4, 4, correction, certain=2).smallest == smallest
    assert resolution(4, 4, correction, certain=4).can_reject


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("level", [0.05, 0.01, 0.1, 1.0])
def test_one_draw_less_than_needed_cannot_reject_and_as_many_can(correction, level):
    for tests in (1, 2, 3, 4, 7, 20, 99):
        needed = resolution(1, tests, correction, level=level).needed
        assert resolution(needed, tests, correction, level=level).can_reject
        if needed > 1:
            assert not resolution(needed - 1, tests, correction, level=level).can_reject


def test_four_tests_take_79_random_sets():
    able = resolution(20, 4, "holm")
    assert able.smallest == pytest.approx(4 / 21, rel=1e-12)
    assert (able.can_reject, able.needed) == (False, 79)
    assert resolution(79, 4, "holm").can_reject
    assert able.to_dict() == dataclasses.asdict(able) | {"can_reject": False}
    assert "0.05" in resolution(19).summary()


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("draws is a whole number from 1 up; got 0", {"draws": 0}),
        ("tests is a whole number from 1 up; got 0", {"draws": 9, "tests": 0}),
        ("no correction 'bonferoni'", {"draws": 9, "correction": "bonferoni"}),
        ("level is above 0 and at most 1; got 0", {"draws": 9, "level": 0}),
        ("certain is from 0 to 2, the number of tests; got 3", {"draws": 9, "tests": 2, "certain": 3}),
    ],
)
def test_what_is_wrong_is_said_in_one_line(words, options):
    with pytest.raises(ValueError, match=words):
        resolution(**options)


def linear(p, x):
    return (x.reshape(len(x), -1) @ p["dense0"]) @ p["dense1"]


def concept_tests(random_concepts):
    p = {"dense0": jnp.eye(9), "dense1": jnp.ones((9, 1))}
    others = RANDOM.random((60, 3, 3, 1), np.float32)
    examples = {str(number): others[:20] + np.float32(number / 2) for number in range(1, 5)}
    options = {"layers": "dense0", "key": KEY, "random_concepts": random_concepts}
    return studies.concepts(Partial(linear, p), others[:5], 0, examples, others[20:], **options)


STUDIES = {
    "concepts": (lambda n: concept_tests(n)[0], 20, 79, lambda one: one.corrected),
    "redundancy": (
        lambda n: studies.redundancy(MAPS, key=KEY, permutations=n),
        18,
        19,
        lambda one: one.pvalues.min(),
    ),
    "distributions": (
        lambda n: studies.distributions(MAPS.reshape(12, 16), key=KEY, draws=n, correction="holm"),
        20,
        479,
        lambda one: min(one.adjusted[family].min() for family in ("norm", "logistic")),
    ),
}


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_that_cannot_reject_says_so_before_it_begins_and_in_its_result(study):
    run, few, enough, smallest = STUDIES[study]
    with pytest.warns(RuntimeWarning, match=f"{UNABLE} at 5 %: with {few}") as caught:
        found = run(few)
    assert f"={enough} or more can." in str(caught[0].message)
    assert caught[0].filename == __file__
    assert found.resolution.needed == enough
    assert not found.resolution.can_reject
    assert smallest(found) >= found.resolution.smallest > 0.05
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert run(enough).resolution.can_reject


def test_the_warning_comes_before_the_work(monkeypatch):
    def never(*_):
        raise AssertionError("the work began")

    monkeypatch.setattr("jaxcam.studies.probes._of_layers", never)
    monkeypatch.setattr("jaxcam.studies.principal._null", never)
    monkeypatch.setattr("jaxcam.studies.goodness.null_distances", never)
    for run, few, _, _ in STUDIES.values():
        with pytest.warns(RuntimeWarning, match=UNABLE), pytest.raises(AssertionError, match="the work began"):
            run(few)


def test_a_law_that_cannot_be_is_rejected_whatever_the_draws():
    rows = RANDOM.normal(size=(2, 30))  # no log-normal
    with pytest.warns(RuntimeWarning, match=UNABLE):
        found = studies.distributions(rows, key=KEY, draws=9, correction="holm")
    assert found.rejected()["lognorm"].all()
    assert found.resolution.smallest == pytest.approx(4 / 10)  # of the four tests that draws decide


def test_redundancy_without_a_test_has_no_resolution():
    assert studies.redundancy(MAPS).resolution is None


@pytest.mark.parametrize("correction", ["holm", "benjamini-hochberg"])
def test_where_nothing_is_left_to_chance_one_draw_is_enough(correction):
    found = resolution(20, 3, correction, certain=3)
    assert (found.smallest, found.needed, found.can_reject) == (0, 1, True)
    assert resolution(1, 1, correction, level=1).needed == 1
