"""A pool of Python workers, Beam's own but for its address.

`worker_pool_main` listens on every address of the machine, and runs what anybody asks it to.
"""

import sys

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker import worker_pool_main
from apache_beam.utils import thread_pool_executor


def main(port: str) -> None:
    """Serves on a port of loopback until the process is ended."""
    server = grpc.server(thread_pool_executor.shared_unbounded_instance())
    pool = worker_pool_main.BeamFnExternalWorkerPoolServicer(use_process=True)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1])
