"""Noise keys: to the bit, and what may be asked."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from growkernels.errors import GrowthError
from growkernels.plans import noise_key
from tests.rules.blake2b import blake2b

SEEDS = st.integers(0, 2**64 - 1)


@given(SEEDS, st.text(max_size=300))
@example(0, "")
@example(2**64 - 1, "model.layers.0.mlp.up_proj.weight")
@example(1, "x" * 128)
@example(1, "x" * 129)
def test_keys_are_those_of_the_definition(seed, name):
    digest = blake2b(name.encode(), seed.to_bytes(8, "little"), 8)
    assert noise_key(seed, name) == int.from_bytes(digest, "little")


def test_known_answer():
    assert noise_key(1, "a") == 4432693205339462510


@given(SEEDS, SEEDS, st.text(), st.text())
def test_seed_and_name_make_the_key(seed, other_seed, name, other_name):
    same = (seed, name) == (other_seed, other_name)
    assert (noise_key(seed, name) == noise_key(other_seed, other_name)) == same


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_have_64_bits(seed):
    with pytest.raises(GrowthError, match=r"seed is .*0 to 2\*\*64 - 1"):
        noise_key(seed, "a")
