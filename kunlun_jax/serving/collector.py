"""Garbage collection in a process that scores: what it looks through, and how often."""

import gc

# Objects made since the last collection of the young, and collections of the young between those
# of the middle-aged. A request makes some hundred objects, which no cycle holds.
_YOUNG, _MIDDLE = 10_000, 20


def leave_loaded_objects_alone() -> None:
    """Have the garbage collector pass over all that is loaded, and look at the rest seldom.

    A full collection stops every thread while it visits all objects. JAX, the schema and compiled
    programs are hundreds of thousands, which a process that scores keeps to its end: a third of a
    second for base.py's model, which one request has to wait for. What is made later, as by a newer
    checkpoint, is still collected. Process-wide, so it is called by programs, never by a library.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE)
