"""The simulator: a whole cluster in one process, on a simulated clock, network and disk, by a seed.

For who works on the store, and for who embeds it and tests with it: `simulate` runs a scene of their
own on a `Cluster`, `run_plan` a plan of faults that is drawn from a seed.
"""

from dynamo.requests import Found, ReadOptions, WriteOptions, Written
from dynamo.sim.checks import Finding
from dynamo.sim.clock import SimClock
from dynamo.sim.cluster import Cluster, NodeGone, simulate
from dynamo.sim.cpu import Costs
from dynamo.sim.disk import Disk
from dynamo.sim.draw import draw_plan
from dynamo.sim.link import Timing
from dynamo.sim.loop import Deadlock, Livelock, Process, SimLoop, run_virtual
from dynamo.sim.network import Network
from dynamo.sim.node import SimNode
from dynamo.sim.plan import Burst, Fault, Plan, read_plan, write_plan
from dynamo.sim.run import Result, run_plan
from dynamo.sim.script import run_script
from dynamo.sim.shrink import shrink

__all__ = [
    "Burst",
    "Cluster",
    "Costs",
    "Deadlock",
    "Disk",
    "Fault",
    "Finding",
    "Found",
    "Livelock",
    "Network",
    "NodeGone",
    "Plan",
    "Process",
    "ReadOptions",
    "Result",
    "SimClock",
    "SimLoop",
    "SimNode",
    "Timing",
    "WriteOptions",
    "Written",
    "draw_plan",
    "read_plan",
    "run_plan",
    "run_script",
    "run_virtual",
    "shrink",
    "simulate",
    "write_plan",
]
