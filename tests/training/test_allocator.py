"""Programs keep freed memory, and say so before JAX starts its threads."""

import sys

import pytest

from kunlun_jax.training.allocator import keep_freed_memory
from tests.processes import run_python

PROGRAMS = ("train", "kunlun_jax.predict", "kunlun_jax.scaling.__main__", "kunlun_jax.serve")
# Imports programs, and prints what `keep_freed_memory` told the first.
IMPORT = """
import importlib, sys
from kunlun_jax.training import allocator
keep, told = allocator.keep_freed_memory, []
allocator.keep_freed_memory = lambda: told.append(keep())
importlib.import_module(sys.argv[1])
print(told[0])
"""
# Counts the page faults of a call whose temporaries are large. The first calls touch new pages.
FAULTS = """
import resource
from kunlun_jax.training.allocator import keep_freed_memory
assert keep_freed_memory()
import jax
import jax.numpy as jnp

x = jnp.ones((64, 2**16))
call = jax.jit(lambda x: (jnp.cumsum(x, 0) * jnp.cumsum(-x, 0)).sum()).lower(x).compile()
faults = []
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    call(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(faults)[10], call.memory_analysis().temp_size_in_bytes // resource.getpagesize())
"""
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="glibc's")


@ON_LINUX
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_says_so_before_jax_is_imported(program):
    ran = run_python("-c", IMPORT, program)
    assert ran.stdout == "True\n", ran.stderr


@ON_LINUX
def test_a_call_meets_no_new_pages():
    ran = run_python("-c", FAULTS)
    assert ran.returncode == 0, ran.stderr
    faults, pages = map(int, ran.stdout.split())
    assert pages > 10_000
    assert faults < 0.1 * pages


def test_after_jax_it_takes_no_effect():
    assert "jax" in sys.modules
    assert keep_freed_memory() is False
