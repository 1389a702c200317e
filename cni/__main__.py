"""The plugin alone: one process, one call. `python -I -m cni`, started by the shim when no agent answers."""

import os
import sys

from cni import dispatch, host, spec


def main() -> int:
    """Serve the call this process was started for."""
    if not os.environ.get("CNI_COMMAND"):
        sys.stderr.write(spec.about())
        return 0
    # VERSION must not wait for a stdin that nobody writes to.
    stdin = b"" if os.environ["CNI_COMMAND"] == spec.Command.VERSION else sys.stdin.buffer.read()
    reply = _reply(stdin)
    sys.stdout.buffer.write(reply.stdout)
    return reply.exit_code


def _reply(stdin: bytes) -> dispatch.Reply:
    if os.environ.get(spec.PLUGIN_VARIABLE) == spec.IPAM_TYPE:
        return dispatch.run_ipam(os.environ, stdin, host.lease_place)
    return dispatch.run(os.environ, stdin, host.linux_host)


if __name__ == "__main__":
    sys.exit(main())
