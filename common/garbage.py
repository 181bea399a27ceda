"""To be imported first by a program that imports much: the garbage collector looks less often from then on.

Modules make several hundred thousand objects that all stay; to look through them every 700 took a sixth of a
dispatcher's start.
"""

import gc

AFTER = 50_000  # new objects: a batch makes many thousands, and hardly one of them in a cycle

gc.set_threshold(AFTER, 20, 20)
