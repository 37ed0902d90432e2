"""`python -m kunlun_jax.validate` runs `kunlun_jax.data.validate`, the program of that command."""

from kunlun_jax.programs import run

if __name__ == "__main__":
    run("validate")
