"""The legend of dimension letters, and the array types annotated with them.

One letter means one thing in every annotation, docstring and message of `kunlun_jax` and
`pallas_kernels`. Sizes that no letter stands for are words, such as "bins" or "draws". In equations
letters name matrices, too, as in the papers (docs/model.md#notation).

    B     batch: examples
    n     rows or examples of a split, a log or a table, however many
    L     labels: one column per task
    A     attributes: dense features, of the context or of an event
    V     values of a multi-valued sparse feature
    U     rows of an embedding table that a batch uses
    W     width of an embedding table
    T     events of a stream (padded; true lengths travel beside the array)
    N     attention heads of a stream
    H     width of a head; a stream's width is N * H
    H2    half the width of a head: one angle for every pair that is rotated
    BN    heads of all examples on one axis
    M     queries of an attention, whatever they are
    S     keys of an attention, whatever they are; T, K or the events of a window
    D     width of context, summary and pooled tokens
    De    width of one event stream, D_e
    F     context (non-sequence) tokens
    G     summary tokens                       (n_sum)
    K     keys that GDPA is given              (n_kv)
    P     seeds of hierarchical seed pooling   (n_seeds)
    Q     pooled tokens of a stream            (n_tokens)
    R     rank of SumKron
    E     Wukong experts
"""

from jaxtyping import Array, Bool, Float, Int, Shaped

__all__ = ["Array", "Bool", "Float", "Int", "Shaped"]
