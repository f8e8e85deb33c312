"""Expert parallelism: a layer whose tokens and experts are spread over ranks.

forward, backward       as those of the layer, on every rank
rank_program            the steps that a rank runs
shard, unshard          parameters of one rank, of all ranks
LocalComm               one rank
virtual                 several ranks as threads of one process
MPIComm, NCCLComm       a rank of an MPI job, of a job with a GPU per rank
"""

from moespec.parallel import _again, _gather, _part, _replicated, _rows, _slots, _units
from moespec.parallel._again import again, again_backward
from moespec.parallel._gather import gather, gather_backward
from moespec.parallel._link import Link, blocks
from moespec.parallel._local import LocalComm
from moespec.parallel._mpi import MPIComm
from moespec.parallel._nccl import NCCLComm
from moespec.parallel._part import part, part_backward
from moespec.parallel._plan import rank_program
from moespec.parallel._protocol import Communicator, Pending, Traffic
from moespec.parallel._replicated import replicated, replicated_backward
from moespec.parallel._run import backward, forward
from moespec.parallel._shard import shard, sharded, unshard
from moespec.parallel._virtual import Broken, VirtualComm, virtual

OPS = {op.short: op for op in (_gather.OP, _again.OP, _part.OP, _replicated.OP, *_rows.OPS, *_units.OPS, *_slots.OPS)}

__all__ = [
    "OPS", "Broken", "Communicator", "Link", "LocalComm", "MPIComm", "NCCLComm", "Pending", "Traffic", "VirtualComm", "again", "again_backward",
    "backward", "blocks", "forward", "gather", "gather_backward", "part", "part_backward", "rank_program", "replicated", "replicated_backward",
    "shard", "sharded", "unshard", "virtual",
]
