"""`python -m kunlun_jax NAME`: what `kunlun-jax NAME` does."""

from kunlun_jax.programs import main

if __name__ == "__main__":
    main()
