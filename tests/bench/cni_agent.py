"""The node agent's CNI socket alone, in a process of its own: `python -m tests.bench.cni_agent SOCKET`."""

import logging
import signal
import sys
from pathlib import Path

import structlog

from cni import service
from cni.host import linux_host, loaded_texts
from node.cni_service import CniService, Exchange

loaded = loaded_texts()


def open_exchange() -> Exchange:
    host = linux_host(loaded)
    return lambda connection: service.answer(connection, host)


structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
cni_service = CniService(Path(sys.argv[1]), open_exchange)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
cni_service.start()
signal.sigwait({signal.SIGTERM})
cni_service.stop()
