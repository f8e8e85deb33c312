"""Routing traces: what the routers of a run decided, in a file that any other run can replay or be compared with.

record      one layer's decision, after `moespec.forward`
save, load  traces of several layers: safetensors with JSON metadata
replay      the context that makes `moespec.forward` take the recorded choice
diff        which tokens went elsewhere, where, and whether rounding explains it
"""

from moespec.interop._trace_diff import Difference, diff
from moespec.interop._trace_file import load, save
from moespec.interop._trace_record import Selection, Trace, record, replay

__all__ = ["Difference", "Selection", "Trace", "diff", "load", "record", "replay", "save"]
