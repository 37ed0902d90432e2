"""`python -m kunlun_jax.build` runs `kunlun_jax.data.build`, the program of that command."""

from kunlun_jax.programs import run

if __name__ == "__main__":
    run("build")
