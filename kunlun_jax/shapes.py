"""The legend of dimension letters, and the array types annotated with them.

One letter means one thing everywhere in this project:

    B     batch: examples
    L     labels: one column per task
    T     events of a stream (padded; true lengths travel beside the array)
    N     attention heads of a stream
    H     width of a head; a stream's width is D_e = N * H
    D     width of context, summary and pooled tokens
    De    width of one event stream, D_e
    F     context (non-sequence) tokens
    G     summary tokens                       (n_sum)
    K     GDPA key/value length                (n_kv)
    P     seeds of hierarchical seed pooling   (n_seeds)
    Q     pooled tokens of a stream            (n_tokens)
    R     rank of SumKron
    E     Wukong experts
    A     attributes (dense features) of an event
    V     values of a multi-valued sparse feature
"""

from jaxtyping import Array, Bool, Float, Int, Shaped

__all__ = ["Array", "Bool", "Float", "Int", "Shaped"]
