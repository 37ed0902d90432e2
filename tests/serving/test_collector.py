"""What is loaded is passed over, what comes later is collected; in a process of its own."""

import subprocess
import sys

PROGRAM = """
import gc, weakref
from kunlun_jax.serving.collector import leave_loaded_objects_alone

class Node:
    def __init__(self):
        self.itself = self

loaded = Node()
before, was_loaded = len(gc.get_objects()), weakref.ref(loaded)
del loaded
leave_loaded_objects_alone()
assert was_loaded() is None, "a cycle that nothing holds is collected first"
assert gc.get_freeze_count() > before / 2
assert len(gc.get_objects()) < before / 100, "a full collection has next to nothing to visit"
later = Node()
known = weakref.ref(later)
del later
gc.collect()
assert known() is None
"""


def test_what_is_loaded_is_passed_over_and_what_comes_later_is_collected():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
