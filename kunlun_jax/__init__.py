"""Kunlun, Meta's scaling-law recommender (arXiv:2602.10016), in JAX."""

from kunlun_jax.interrupts import end_while_a_program_is_found

end_while_a_program_is_found()  # here, because no module is imported earlier
