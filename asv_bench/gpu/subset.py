"""A few ops in a process that compute-sanitizer watches; memory comes from the driver, not from a pool, so that its bounds are known."""

import sys

OPS = {"gates.softmax": ["float32", "bfloat16"], "gates.topk": ["float32"], "gates.route": ["bfloat16"], "dispatch.plan": ["float32"],
       "dispatch.permute": ["bfloat16"], "dispatch.combine": ["float32", "bfloat16"], "experts.glu": ["float32", "bfloat16"],
       "losses.load_balance": ["float32"]}
IN_A_DRY_RUN = {"gates.softmax": ["float32"]}


def main(dry_run):
    from gpu.machine import machine
    from moespec.conformance import verify
    here, failed = machine(dry_run), 0
    if not dry_run:
        here.cupy.cuda.set_allocator(None)
    for op, dtypes in (IN_A_DRY_RUN if dry_run else OPS).items():
        report = verify(here.backend, op=op, dtypes=dtypes, errors=False)
        failed += not report.ok
        print(f"{op}: {report.executed} checks, {len(report.failures)} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main("--dry-run" in sys.argv))
