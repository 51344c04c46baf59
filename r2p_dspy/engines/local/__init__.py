"""The in-process engine: transformers with continuous batching."""

import os

# A row must get the same numbers whatever runs beside it. On processors with AMX, the library that multiplies (MKL)
# takes another kernel from 12 or 16 rows on, which rounds differently; in its strict mode it does not. It reads the
# variable when it multiplies for the first time in a process.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
