"""`python -m deployments.batch`, as `ray job submit` and the Kubernetes job run it."""

from __future__ import annotations

import sys

from deployments.batch.run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "python -m deployments.batch"))
