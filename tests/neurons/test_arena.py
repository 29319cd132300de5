"""Memory used again: what is taken is one's own until it is given back."""

import numpy as np
import pytest

from jaxcam.neurons.arena import Arena, aligned, lines


@pytest.mark.parametrize("seed", range(20))
def test_what_is_taken_is_nobody_elses_until_it_is_given_back(seed):
    rng = np.random.default_rng(seed)
    arena, held = Arena(), {}
    arena.begin(int(rng.integers(0, 400)))
    for i in range(60):
        if held and rng.random() < 0.5:
            key = int(rng.choice(list(held)))
            arena.give(held.pop(key))
        else:
            held[i] = arena.take(int(rng.integers(0, 20)), int(rng.integers(1, 8)))
            held[i][:] = i
        for key, array in held.items():
            assert array.dtype == np.float32
            assert (array == key).all()


def test_what_somebody_still_holds_is_left_to_him():
    arena = Arena()
    arena.begin(50)
    held = arena.take(5, 10)[2:, ::2]
    held[:] = 1
    arena.begin(50)
    arena.take(5, 10)[:] = 2
    assert (held == 1).all()


def test_memory_is_used_again_and_the_smallest_gap_first():
    arena = Arena()
    arena.begin(112)  # each starts with a line of 16
    large, between, small, last = arena.take(5, 8), arena.take(1, 10), arena.take(2, 10), arena.take(1, 10)
    arena.give(large)
    arena.give(small)
    assert np.shares_memory(arena.take(3, 5), small)
    assert np.shares_memory(arena.take(5, 5), large)
    assert np.shares_memory(between.base, last)


def test_every_array_starts_with_a_line_of_the_cache():
    arena = Arena()
    arena.begin(1000)
    for array in (arena.take(1, 3), arena.take(2, 17), arena.take(5), arena.take(999), aligned(3, 5)):
        assert lines(array)
    assert not lines(aligned(20)[1:])


def test_what_does_not_fit_is_fresh_memory_and_giving_it_back_changes_nothing():
    arena = Arena()
    arena.begin(10)
    inside, outside = arena.take(2, 4), arena.take(2, 4)
    assert not np.shares_memory(inside.base, outside)
    arena.give(outside)
    arena.give(np.ones((2, 4), np.float32))
    inside[:], fresh = 1, arena.take(2, 4)
    fresh[:] = 2
    assert (inside == 1).all()


def test_room_is_made_once():
    arena = Arena()
    arena.begin(50)
    where = lambda array: array.__array_interface__["data"][0]
    before = where(arena.take(5, 10))
    arena.begin(20)
    assert where(arena.take(5, 10)) == before
    arena.forget()
    arena.begin(0)
    assert arena._memory.size == 0
