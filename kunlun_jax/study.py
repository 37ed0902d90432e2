"""`python -m kunlun_jax.study` runs `kunlun_jax.scaling`, the program of that command."""

from kunlun_jax.programs import run

if __name__ == "__main__":
    run("study")
