"""The schema of every op: backends in C++ and in Python register implementations of these."""

from __future__ import annotations

import torch

#: Integers that may change from call to call are SymInt, so that a compiled graph serves all of them; `index` picks tensors.
#: In-place forms return nothing: an op that returns an alias of its input breaks torch.compile and DTensor.
#: `key` is an unsigned 64-bit number carried in a signed one. `layout` packs, for each rule: number of row segments, the
#: segments (start, length, copies, groups), number of column segments, those segments, diagonal (0 or 1), key; `scalars`
#: packs divisor, shift, noise_std, then (constant, std) of the fills old row x new column, new x old, new x new.
#: The `layout` of `expand` packs, for each stack in the order of `weights`: number of its weights, then where `b`, `a` and
#: `depth` are in `matrices` (-1: none), structured (0 or 1). `needed` asks for gradients of `weights`, then of `matrices`. In
#: `expand` it says which there will be ([]: none): for those, and no others, `expand_backward` may be given what it `saved`; it
#: takes [] as well, and then works more.
#: `products_` has as many pairs of `left` and `right` for every one of `outs`, the first ones for the first.
SCHEMAS = (
    (
        "tile_(Tensor(a!) out, Tensor weight, SymInt n_out, SymInt n_in, bool diagonal, float noise_std, float? snr_db,"
        " SymInt key) -> ()"
    ),
    (
        "tile(Tensor weight, SymInt n_out, SymInt n_in, bool diagonal, float noise_std, float? snr_db, SymInt key,"
        " ScalarType dtype) -> Tensor"
    ),
    "tile_rules_(Tensor(a!)[] outs, Tensor[] weights, SymInt[] layout, float[] scalars) -> ()",
    (
        "replicate_(Tensor(a!)[] outs, Tensor[] blocks, int[] index, float[] scale, float noise_alpha, float noise_std,"
        " SymInt key) -> ()"
    ),
    "replicate(Tensor[] blocks, int[] index, float[] scale, float noise_alpha, float noise_std, SymInt key) -> Tensor[]",
    "mean_square(Tensor[] tensors, float[] divisors) -> Tensor",
    "normal_(Tensor(a!) out, SymInt key, SymInt field, SymInt start) -> ()",
    "expand_(Tensor(a!)[] outs, Tensor[] weights, Tensor[] matrices, int[] layout) -> ()",
    (
        "expand(Tensor[] weights, Tensor[] matrices, int[] layout, ScalarType dtype, bool[] needed)"
        " -> (Tensor[] targets, Tensor[] saved)"
    ),
    (
        "expand_backward(Tensor[] grads, Tensor[] weights, Tensor[] matrices, int[] layout, Tensor[] saved, bool[] needed)"
        " -> Tensor[]"
    ),
    "mix_(Tensor(a!)[] outs, Tensor[] sources, Tensor coefficients) -> ()",
    "inner_products_(Tensor(a!) out, Tensor[] left, Tensor[] right) -> ()",
    "products_(Tensor(a!)[] outs, Tensor[] left, Tensor[] right, bool add) -> ()",
)


def define(namespace: str) -> torch.library.Library:
    """A new library of torch with all ops, none of which is implemented yet."""
    library = torch.library.Library(namespace, "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    return library
